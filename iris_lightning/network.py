"""The network: a plain `torch.nn.Module`, free of Lightning."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "IRIS_CLASSES", "IRIS_FEATURES", "IrisNetwork"]

# What the inputs and outputs of the default network are, by scikit-learn's names.
IRIS_FEATURES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
IRIS_CLASSES = ("setosa", "versicolor", "virginica")

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}


class IrisNetwork(nn.Module):
    """Fully connected layers from the features of a flower to one logit per class.

    By default `Linear(4, 16)`, `Linear(16, 8)`, `Linear(8, 3)` with nothing between them: 243 parameters.

    Args:
        in_features: Number of features.
        num_classes: Number of classes.
        hidden: Sizes of the hidden layers; none makes it multinomial logistic regression.
        activation: What follows each hidden layer: one of `ACTIVATIONS`, or `None` for nothing.
        standardize: Whether features are scaled with the buffers `mean` and `std` first.
        impute: Whether missing features, which are NaN, are replaced by the buffer `fill` before that.

    Until `fit_scaler` has set the buffers, they change nothing but NaN, to 0.

    A ValueError names a size that is not positive, or an unknown activation.

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
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)} or null, got {activation!r}")
        layers: list[nn.Module] = []
        width = in_features
        for size in hidden:
            layers.append(nn.Linear(width, size))
            if activation is not None:
                layers.append(ACTIVATIONS[activation]())
            width = size
        layers.append(nn.Linear(width, num_classes))
        self.layers = nn.Sequential(*layers)
        self.in_features = in_features
        self.num_classes = num_classes
        self.activation = activation
        self.standardize = standardize
        self.impute = impute
        if impute:
            self.register_buffer("fill", torch.zeros(in_features))
        if standardize:
            self.register_buffer("mean", torch.zeros(in_features))
            self.register_buffer("std", torch.ones(in_features))

    def forward(self, features: Tensor) -> Tensor:
        """Computes logits, shape `(rows, num_classes)`, of features, shape `(rows, in_features)` in their own units."""
        if self.impute:
            features = torch.where(features.isnan(), self.fill, features)
        if self.standardize:
            features = (features - self.mean) / self.std
        logits: Tensor = self.layers(features)
        return logits

    @property
    def is_scaled(self) -> bool:
        """Whether the buffers have been fitted, or loaded with trained weights."""
        scaled = self.standardize and (self.mean.any() or (self.std != 1).any())
        return bool(scaled or (self.impute and self.fill.any()))

    @torch.no_grad()
    def fit_scaler(self, features: Tensor) -> None:
        """Sets the buffers to the means and standard deviations of `features`, shape `(rows, in_features)`.

        The same as scikit-learn's `SimpleImputer` and `StandardScaler`: the standard deviation is that of the
        population, and 1 for a feature that never varies. Summed in float64, a column at a time, which spares memory on
        long tables.
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
