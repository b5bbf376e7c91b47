"""The plain network."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from iris_lightning import IrisNetwork
from iris_lightning.network import ACTIVATIONS


def test_the_default_is_the_lesson_s_network() -> None:
    network = IrisNetwork()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == {
        "layers.0.weight": (16, 4),
        "layers.0.bias": (16,),
        "layers.1.weight": (8, 16),
        "layers.1.bias": (8,),
        "layers.2.weight": (3, 8),
        "layers.2.bias": (3,),
    }
    assert sum(parameter.numel() for parameter in network.parameters()) == 243


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_follows_each_hidden_layer(name: str) -> None:
    kinds = [type(layer) for layer in IrisNetwork(activation=name).layers]
    assert kinds == [nn.Linear, ACTIVATIONS[name], nn.Linear, ACTIVATIONS[name], nn.Linear]


def test_scaling_equals_scikit_learn() -> None:
    features = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    features = features * torch.tensor([1.0, 50.0, 0.0]) + torch.tensor([0.0, 1000.0, 7.0])
    features[::5, :2] = torch.nan
    network = IrisNetwork(in_features=3, standardize=True, impute=True)
    network.fit_buffers(features)
    theirs = make_pipeline(SimpleImputer(), StandardScaler())
    scaled = torch.tensor(theirs.fit_transform(features.double()), dtype=torch.float32)
    torch.testing.assert_close(network(features), network.layers(scaled), rtol=1e-4, atol=1e-4)


def test_numbers_are_encoded_by_their_place_in_quantile_bins() -> None:
    features = torch.randn(401, 3, generator=torch.Generator().manual_seed(2))
    features[:, 1] = (features[:, 1] > 0).float()  # a category
    features[:, 2] = features[:, 2].round()  # of which some quantiles are equal
    features[7, 0] = torch.nan
    network = IrisNetwork(3, 2, [], standardize=True, impute=True, bins=8, one_hot=[1])
    network.fit_buffers(features)
    seen = []
    network.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(features)
    scaled, encoded = seen[0][:, :3], seen[0][:, 3:].reshape(-1, 8, 2)
    torch.testing.assert_close(scaled[:, 1], features[:, 1], msg="categories are not scaled")
    for number, column in enumerate((0, 2)):
        values = features[:, column].numpy()
        edges = np.nanquantile(values, np.linspace(0, 1, 9), method="nearest")
        for i, (low, high) in enumerate(pairwise(edges)):
            with np.errstate(divide="ignore", invalid="ignore"):
                expected = np.clip((values - low) / (high - low), 0, 1)
            if low == high:
                expected = (values > low).astype(float)
            expected[np.isnan(values)] = 0
            np.testing.assert_allclose(encoded[:, i, number], expected, atol=1e-6)
