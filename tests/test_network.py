"""The plain network."""

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
    network.fit_scaler(features)
    theirs = make_pipeline(SimpleImputer(), StandardScaler())
    scaled = torch.tensor(theirs.fit_transform(features.double()), dtype=torch.float32)
    torch.testing.assert_close(network(features), network.layers(scaled), rtol=1e-4, atol=1e-4)
