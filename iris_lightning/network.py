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
        impute: Whether to replace missing features (NaN) by the buffer `fill` before that.

    `fit_scaler` sets the buffers. Until then, NaN is replaced by 0, and nothing is scaled.

    Attributes:
        options: The arguments above, from which the same network can be created again.

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
        """Computes logits, shape `(rows, num_classes)`.

        Args:
            features: Features in their original units, shape `(rows, in_features)`.
        """
        if self.impute:
            features = torch.where(features.isnan(), self.fill, features)
        if self.standardize:
            features = (features - self.mean) / self.std
        logits: Tensor = self.layers(features)
        return logits

    @property
    def is_scaled(self) -> bool:
        """Whether the buffers were set by `fit_scaler` or loaded with trained weights."""
        if self.standardize and (self.mean.any() or (self.std != 1).any()):
            return True
        return self.impute and bool(self.fill.any())

    @torch.no_grad()
    def fit_scaler(self, features: Tensor) -> None:
        """Sets the buffers to the means and standard deviations of the train split.

        The result is that of scikit-learn's `SimpleImputer` and `StandardScaler`: the population's
        standard deviation, and 1 for a constant feature. It is computed in float64, one column at a
        time to save memory on long tables.

        Args:
            features: Shape `(rows, in_features)`.
        """
        for i, column in enumerate(features.unbind(1)):
            column = column.double()
            if self.impute:
                fill = column.nanmean().nan_to_num().float()  # 0 if all values are missing
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
