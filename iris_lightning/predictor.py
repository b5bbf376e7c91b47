"""A trained classifier for use in Python. Needs no Lightning."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature, axis_label, category_names, find_features
from iris_lightning.network import IRIS_CLASSES, IRIS_FEATURES, IrisNetwork
from iris_lightning.runs.checkpoints import read_trained, weights_in
from iris_lightning.weights.reading import SUFFIXES, Weights, read_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class IrisPredictor(nn.Module):
    """A trained network with the names of its features and classes, in eval mode.

    Attributes:
        classes_: The class names in the order of the logits, NumPy array of shape `(classes,)`, as
            in scikit-learn.
        feature_names_in_: The feature names in the order of the inputs, NumPy array of shape
            `(features,)`.

    Example:
        >>> flowers = IrisPredictor(IrisNetwork(), IRIS_FEATURES, IRIS_CLASSES)
        >>> flowers.predict_proba([[5.1, 3.5, 1.4, 0.2]]).shape
        (1, 3)
    """

    def __init__(
        self,
        network: IrisNetwork,
        feature_names: Sequence[str],
        class_names: Sequence[str],
        na_values: Sequence[str | float | None] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.na_values = na_values  # what means no value in a frame, as in `IrisDataModule`
        self.feature_names_in_ = np.array(feature_names, dtype=object)
        self.classes_ = np.array(class_names, dtype=object)
        self.eval()

    @classmethod
    def from_weights(cls, weights: Weights, path: Path) -> "IrisPredictor":
        """Returns the classifier of these weights: one of Iris if they name no classes.

        Args:
            weights: Weights and names.
            path: Where they were read, for messages.
        """
        network = weights.network(path)
        features = weights.feature_names or IRIS_FEATURES
        classes = weights.class_names or IRIS_CLASSES
        if (network.in_features, network.num_classes) != (len(features), len(classes)):
            sizes = f"its {network.in_features} features and {network.num_classes} classes"
            raise UserError(
                f"{path}: does not name {sizes}, and Iris has 4 and 3; export .safetensors, "
                "or name them: load(path, feature_names=..., class_names=...)"
            )
        weights.check_finite(path)
        return cls(network, features, classes, weights.na_values)

    def forward(self, features: Tensor) -> Tensor:
        """Returns probabilities, shape `(rows, classes)`, of features, shape `(rows, features)`."""
        return cast("Tensor", self.network(features)).softmax(dim=1)

    def predict(self, rows: "ArrayLike") -> "NDArray[np.object_]":
        """Returns the most probable class of each row, shape `(rows,)`; see `predict_proba`."""
        return cast("NDArray[np.object_]", self.classes_[self._logits(rows).argmax(dim=1).numpy()])

    def predict_proba(self, rows: "ArrayLike") -> "NDArray[np.float32]":
        """Returns the probability of each class, float32 of shape `(rows, classes)`.

        Args:
            rows: Numbers of shape `(rows, features)` in their own units, such as a list of lists or
                an array; or a frame of pandas or polars, whose columns may stand in any order
                beside further ones, columns of text for the categories that they hold. A UserError
                says why they are not the features of this classifier.
        """
        return cast("NDArray[np.float32]", self._logits(rows).softmax(dim=1).numpy())

    def _logits(self, rows: Any) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self.network(self._features(rows))
        if not logits.isfinite().all():
            row = int((~logits.isfinite()).any(dim=1).nonzero()[0])
            raise UserError(f"row {row}: its features are too large for the network")
        return logits

    def _features(self, rows: Any) -> Tensor:
        names = list(self.feature_names_in_)
        rows = rows.collect() if hasattr(rows, "collect") else rows  # a lazy frame
        if hasattr(rows, "columns"):
            columns = {str(column).strip(): column for column in rows.columns}
            features = find_features(names, list(columns), "the frame")
            frame = [
                _values(rows[columns[item.column]], item, features, self.na_values)
                for item in features
            ]
            rows = np.column_stack(frame)
        if isinstance(rows, np.ma.MaskedArray):
            rows = np.ma.filled(rows.astype(np.float64), np.nan)
        try:
            if (kind := np.asarray(rows).dtype).kind in "cmM":
                raise TypeError(f"got {kind}")
            values = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"expected numbers of shape (rows, {len(names)}): {error}") from error
        if values.size == 0:
            values = values.reshape(0, len(names))
        if values.ndim != 2 or values.shape[1] != len(names):
            expected = f"expected shape (rows, {len(names)}), one column for each feature"
            raise UserError(f"{expected}, got {values.shape}")
        with np.errstate(over="ignore"):
            inputs = torch.from_numpy(values.astype(np.float32))
        invalid = inputs.isinf() if self.network.impute else ~inputs.isfinite()
        if invalid.any():
            row, column = invalid.nonzero()[0].tolist()
            raise UserError(
                f"row {row}, {names[column]!r}: expected a finite number, got {values[row, column]}"
            )
        return inputs


def _values(
    column: Any,
    feature: Feature,
    features: Sequence[Feature],
    na_values: Sequence[str | float | None] | None,
) -> "NDArray[np.float64]":
    """The numbers of a feature, 1 and 0 for a category, NaN where there is no value."""
    values = np.asarray(column)
    if feature.category is None and values.dtype.kind in "iuf" and na_values is None:
        return values.astype(np.float64)
    if values.dtype.kind in "mM":
        raise UserError(f"column {feature.column!r} holds {values.dtype}; expected numbers or text")
    known = category_names(feature, features)
    numbers = np.full(len(values), np.nan)
    for row, label in enumerate(axis_label(value, na_values) for value in values):
        if label is None:
            continue
        if feature.category is not None:
            if label not in known:
                found = f"row {row}, {feature.column!r}: unknown category {label!r}"
                raise UserError(f"{found}; known: {join_names(known)}")
            numbers[row] = label == feature.category
            continue
        try:
            numbers[row] = (
                {"true": 1.0, "false": 0.0}[label] if values.dtype.kind == "b" else float(label)
            )
        except ValueError as error:
            raise UserError(f"row {row}, {feature.column!r}: {label!r} is not a number") from error
    return numbers


def load(
    path: str | os.PathLike[str],
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    activation: str | None = None,
) -> IrisPredictor:
    """Loads a trained classifier, as data: nothing in the file can run.

    Args:
        path: A checkpoint (`.ckpt`), or weights that `export` wrote (`.pth`, `.safetensors`).
        feature_names: Names of the features, for a `.pth` file, which holds none. By default those
            of Iris.
        class_names: Names of the classes, likewise.
        activation: What follows the hidden layers, likewise. By default nothing, as in the lesson.

    Raises:
        UserError: If the file is not one of these.
    """
    path = Path(path)
    if path.suffix == ".ckpt":
        weights = weights_in(read_trained(path), path)
    elif path.suffix in SUFFIXES:
        names = {
            "feature_names": feature_names,
            "class_names": class_names,
            "activation": activation,
        }
        weights = read_weights(path, **names)
    else:
        raise UserError(f"{path}: expected a file that ends in {', '.join(('.ckpt', *SUFFIXES))}")
    return IrisPredictor.from_weights(weights, path)
