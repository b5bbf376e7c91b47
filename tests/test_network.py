"""The plain network."""

import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from iris_lightning import IrisNetwork


def test_the_default_is_the_lesson_s_network() -> None:
    network = IrisNetwork()
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == {
        "layers.0.weight": (16, 4),
        "layers.0.bias": (16,),
        "layers.1.weight": (8, 16),
        "layers.1.bias": (8,),
        "layers.2.weight": (3, 8),
        "layers.2.bias": (3,),
    }
    assert sum(parameter.numel() for parameter in network.parameters()) == 243


def test_without_hidden_layers_it_is_logistic_regression() -> None:
    network = IrisNetwork(hidden=[])
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        network(features),
        nn.functional.linear(features, network.state_dict()["layers.0.weight"], network.state_dict()["layers.0.bias"]),
    )


@pytest.mark.parametrize(("name", "kind"), [("relu", nn.ReLU), ("tanh", nn.Tanh), ("gelu", nn.GELU), ("silu", nn.SiLU)])
def test_an_activation_follows_each_hidden_layer(name: str, kind: type[nn.Module]) -> None:
    kinds = [type(layer) for layer in IrisNetwork(activation=name).layers]
    assert kinds == [nn.Linear, kind, nn.Linear, kind, nn.Linear]


def test_standardisation_is_that_of_scikit_learn() -> None:
    features = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    features = features * torch.tensor([1.0, 50.0, 0.0]) + torch.tensor([0.0, 1000.0, 7.0])
    network = IrisNetwork(in_features=3, standardize=True)
    network.fit_scaler(features)
    scaled = StandardScaler().fit_transform(features.double().numpy())
    torch.testing.assert_close(
        network(features), network.layers(torch.tensor(scaled, dtype=torch.float32)), rtol=1e-4, atol=1e-4
    )
    assert {"mean", "std"} < network.state_dict().keys()


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden: expected sizes of at least 1, got \[16, 0\]"):
        IrisNetwork(hidden=[16, 0])
    with pytest.raises(ValueError, match="activation: expected one of relu, tanh, gelu, silu or null, got 'relo'"):
        IrisNetwork(activation="relo")
