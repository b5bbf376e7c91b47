"""The network: a plain `torch.nn.Module`, independent of Lightning."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# The default network's inputs and outputs, named as in scikit-learn.
IRIS_FEATURES = (
    "sepal length (cm)",
    "sepal width (cm)",
    "petal length (cm)",
    "petal width (cm)",
)
IRIS_CLASSES = ("setosa", "versicolor", "virginica")

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class IrisNetwork(nn.Module):
    """A fully connected network that computes one logit per class.

    By default, `Linear(4, 16)`, `Linear(16, 8)` and `Linear(8, 3)` without activations: 243
    parameters.

    Args:
        in_features: Number of features.
        num_classes: Number of classes.
        hidden: Sizes of the hidden layers; `[]` makes it multinomial logistic regression.
        activation: Activation after each hidden layer: a name in `ACTIVATIONS`, or `None`.
        standardize: Whether to scale features with the buffers `mean` and `std`.
        impute: Whether to replace missing features (NaN) with the buffer `fill` before scaling.
        bins: Quantile bins per numeric feature; 0 for none. Each bin adds an input that rises from
            0 to 1 within it, and is 0 for a missing number: the piecewise linear encoding of
            Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning", 2022,
            section 3.1.
        one_hot: Positions of features that encode categories as 0 and 1. They are neither scaled
            nor binned.

    `fit_buffers` sets the buffers. Until then, `std` is 1, and the others are 0.

    Attributes:
        options: The arguments above: `IrisNetwork(**options)` is the same network.

    Raises:
        ValueError: If a hidden size or `bins` is out of range, or the activation is unknown.

    Example:
        >>> IrisNetwork(hidden=[])(torch.zeros(5, 4)).shape
        torch.Size([5, 3])
    """

    fill: Tensor
    mean: Tensor
    std: Tensor
    edges: Tensor

    def __init__(
        self,
        in_features: int = 4,
        num_classes: int = 3,
        hidden: Sequence[int] = (16, 8),
        activation: str | None = None,
        standardize: bool = False,
        impute: bool = False,
        bins: int = 0,
        one_hot: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if bins < 0:
            raise ValueError(f"bins: expected at least 0, got {bins}")
        if any(size < 1 for size in hidden):
            raise ValueError(f"hidden: expected sizes of at least 1, got {list(hidden)}")
        if activation is not None and activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation: expected one of {known} or null, got {activation!r}")
        self.options: dict[str, Any] = {
            "in_features": in_features,
            "num_classes": num_classes,
            "hidden": list(hidden),
            "activation": activation,
            "standardize": standardize,
            "impute": impute,
            "bins": bins,
            "one_hot": list(one_hot),
        }
        self.standardize = standardize
        self.impute = impute
        self.bins = bins
        self.numbers = sorted(set(range(in_features)) - set(one_hot))
        layers: list[nn.Module] = []
        width = in_features + bins * len(self.numbers)
        for size in hidden:
            layers.append(nn.Linear(width, size))
            if activation is not None:
                layers.append(ACTIVATIONS[activation]())
            width = size
        layers.append(nn.Linear(width, num_classes))
        self.layers = nn.Sequential(*layers)
        if impute:
            self.register_buffer("fill", torch.zeros(in_features))
        if standardize:
            self.register_buffer("mean", torch.zeros(in_features))
            self.register_buffer("std", torch.ones(in_features))
        if bins:
            self.register_buffer("edges", torch.zeros(bins + 1, len(self.numbers)))

    def forward(self, features: Tensor) -> Tensor:
        """Computes logits, shape `(rows, num_classes)`.

        Args:
            features: Features in their original units, shape `(rows, in_features)`.
        """
        inputs = features
        if self.impute:
            inputs = torch.where(inputs.isnan(), self.fill, inputs)
        if self.standardize:
            inputs = (inputs - self.mean) / self.std
        if self.bins:
            encoded = self._encode(features[:, self.numbers])
            inputs = torch.cat([inputs, encoded], dim=1)
        logits: Tensor = self.layers(inputs)
        return logits

    def _encode(self, numbers: Tensor) -> Tensor:
        """Returns the place of each number within each bin, shape `(rows, bins * numbers)`."""
        low = self.edges[:-1]
        high = self.edges[1:]
        width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)  # not 0, for equal edges
        distances = numbers.unsqueeze(1) - low
        places = (distances / width).clamp(0, 1)
        return torch.where(places.isnan(), 0.0, places).flatten(1)

    @property
    def is_fitted(self) -> bool:
        """Whether the buffers were set by `fit_buffers` or loaded with trained weights."""
        for name, buffer in self.named_buffers():
            initial = float(name == "std")  # 1 for `std`, and 0 for the others
            if (buffer != initial).any():
                return True
        return False

    @torch.no_grad()
    def fit_buffers(self, features: Tensor) -> None:
        """Sets the buffers to means, standard deviations and quantiles of the train split.

        As in scikit-learn's `SimpleImputer` and `StandardScaler`, the standard deviation is the
        population's, and 1 for a constant feature. Everything is computed in float64, one column at
        a time to save memory on long tables.

        Args:
            features: Shape `(rows, in_features)`.
        """
        for position, i in enumerate(self.numbers):
            column = features[:, i].double()
            known = column[~column.isnan()]
            if self.bins and len(known):
                ranks = torch.linspace(0, len(known) - 1, self.bins + 1, dtype=torch.float64)
                self.edges[:, position] = known.sort().values[ranks.round().long()]
            if self.impute:
                fill = column.nanmean().nan_to_num()  # 0 if all values are missing
                self.fill[i] = fill
                column = torch.where(column.isnan(), fill, column)
            if self.standardize:
                variance, mean = torch.var_mean(column, correction=0)
                self.mean[i] = mean
                self.std[i] = variance.sqrt() if variance > 0 else 1.0


def uncompiled(network: nn.Module) -> nn.Module:
    """Returns the module that `torch.compile` wraps, or the module itself."""
    original: nn.Module = getattr(network, "_orig_mod", network)
    return original
