"""The network: a plain `torch.nn.Module`, free of Lightning."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# The inputs and outputs of the default network, by scikit-learn's names.
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
    """Fully connected layers from the features of a flower to one logit per class.

    By default `Linear(4, 16)`, `Linear(16, 8)`, `Linear(8, 3)` with nothing between them: 243
    parameters.

    Args:
        in_features: Number of features.
        num_classes: Number of classes.
        hidden: Sizes of the hidden layers; none makes it multinomial logistic regression.
        activation: What follows each hidden layer: a name in `ACTIVATIONS`, or `None` for nothing.
        standardize: Whether features are scaled with the buffers `mean` and `std` first.
        impute: Whether missing features (NaN) are replaced by the buffer `fill` before that.

    Until `fit_scaler` has set the buffers, they only replace NaN by 0.

    Attributes:
        options: The arguments above, with which the same network can be made again.

    Raises:
        ValueError: If a size is not positive, or the activation is unknown.

    Example:
        >>> IrisNetwork(hidden=[])(torch.zeros(5, 4)).shape
        torch.Size([5, 3])
    """

    fill: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_features: int = 4,
        num_classes: int = 3,
        hidden: Sequence[int] = (16, 8),
        activation: str | None = None,
        standardize: bool = False,
        impute: bool = False,
    ) -> None:
        super().__init__()
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
        }
        self.in_features = in_features
        self.num_classes = num_classes
        self.standardize = standardize
        self.impute = impute
        layers: list[nn.Module] = []
        width = in_features
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

    def forward(self, features: Tensor) -> Tensor:
        """Computes logits, shape `(rows, num_classes)`, of features in their own units.

        Args:
            features: Shape `(rows, in_features)`.
        """
        if self.impute:
            features = torch.where(features.isnan(), self.fill, features)
        if self.standardize:
            features = (features - self.mean) / self.std
        logits: Tensor = self.layers(features)
        return logits

    @property
    def is_scaled(self) -> bool:
        """Whether the buffers have been fitted, or loaded with trained weights."""
        if self.standardize and (self.mean.any() or (self.std != 1).any()):
            return True
        return self.impute and bool(self.fill.any())

    @torch.no_grad()
    def fit_scaler(self, features: Tensor) -> None:
        """Sets the buffers to the means and standard deviations of the train split.

        The same as scikit-learn's `SimpleImputer` and `StandardScaler`: the standard deviation is
        that of the population, and 1 for a constant feature. Sums are in float64, one column at a
        time, which saves memory on long tables.

        Args:
            features: Shape `(rows, in_features)`.
        """
        for i, column in enumerate(features.unbind(1)):
            column = column.double()
            if self.impute:
                fill = column.nanmean().nan_to_num().float()  # 0 for a feature without any value
                self.fill[i] = fill
                column = torch.where(column.isnan(), fill.double(), column)
            if self.standardize:
                variance, mean = torch.var_mean(column, correction=0)
                self.mean[i] = mean
                self.std[i] = variance.sqrt() if variance > 0 else 1.0


def uncompiled(network: nn.Module) -> nn.Module:
    """Returns the module that `torch.compile` wraps, or the module itself."""
    original: nn.Module = getattr(network, "_orig_mod", network)
    return original
