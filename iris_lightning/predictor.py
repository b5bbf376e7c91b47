"""A trained classifier for use in Python. This module does not import Lightning."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from iris_lightning.errors import UserError
from iris_lightning.features import Feature, find_features, missing_texts, normalize, to_labels
from iris_lightning.runs.checkpoints import read_checkpoint, weights_in
from iris_lightning.weights.averaging import base_network
from iris_lightning.weights.reading import Weights, read_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


NaValues = Sequence[str | float | None] | None


class IrisPredictor(nn.Module):
    """A trained network with the names of its features and classes, in eval mode.

    Its methods and attributes are named as in scikit-learn.

    Args:
        network: The trained network, or an `EnsembleNetwork`.
        feature_names: Names of the features, in the order of the network's inputs.
        class_names: Names of the classes, in the order of the logits.
        na_values: Texts that mean a missing value in a data frame, as in `IrisDataModule`.

    Attributes:
        classes_: Names of the classes, array of shape `(classes,)`.
        feature_names_in_: Names of the features, array of shape `(features,)`.
        imputes: Whether missing features (NaN) are replaced by their means.

    Example:
        >>> from iris_lightning.network import IRIS_CLASSES, IRIS_FEATURES, IrisNetwork
        >>> flowers = IrisPredictor(IrisNetwork(), IRIS_FEATURES, IRIS_CLASSES)
        >>> flowers.predict_proba([[5.1, 3.5, 1.4, 0.2]]).shape
        (1, 3)
    """

    def __init__(
        self,
        network: nn.Module,
        feature_names: Sequence[str],
        class_names: Sequence[str],
        na_values: NaValues = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.na_values = na_values
        self.feature_names_in_ = np.array(feature_names, dtype=object)
        self.classes_ = np.array(class_names, dtype=object)
        self.imputes = base_network(network).impute
        self.eval()

    @classmethod
    def from_weights(cls, weights: Weights, path: Path) -> "IrisPredictor":
        """Creates a classifier from weights.

        Args:
            weights: Weights and names.
            path: The weights file, for messages.

        Raises:
            UserError: If weights are not finite.
        """
        weights.check_finite(path)
        names = weights.feature_names, weights.class_names
        return cls(weights.network(path), *names, weights.na_values)

    def forward(self, features: Tensor) -> Tensor:
        """Computes probabilities, shape `(rows, classes)`, from features, `(rows, features)`."""
        return cast("Tensor", self.network(features)).softmax(dim=1)

    def predict(self, rows: "ArrayLike") -> "NDArray[np.object_]":
        """Returns the most probable class of each row, shape `(rows,)`; see `predict_proba`."""
        most_probable = self._logits(rows).argmax(dim=1).numpy()
        return cast("NDArray[np.object_]", self.classes_[most_probable])

    def predict_proba(self, rows: "ArrayLike") -> "NDArray[np.float32]":
        """Returns the probability of each class, float32, shape `(rows, classes)`.

        Args:
            rows: Numbers of shape `(rows, features)` in their original units, such as an array or a
                list of lists; or a pandas or polars data frame with the columns of the features, in
                any order and among others.

        Raises:
            UserError: If the rows lack a feature or hold an invalid value.
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
        if hasattr(rows, "columns"):
            rows = _frame_values(rows, names, self.na_values)
        try:
            values = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"expected numbers of shape (rows, {len(names)}): {error}") from error
        if values.ndim != 2 or values.shape[1] != len(names):
            expected = f"expected shape (rows, {len(names)}), one column per feature"
            raise UserError(f"{expected}, got {values.shape}")
        with np.errstate(over="ignore"):
            features = torch.from_numpy(values.astype(np.float32))
        is_invalid = ~features.isfinite()
        if self.imputes:
            is_invalid = features.isinf()
        if is_invalid.any():
            row, column = is_invalid.nonzero()[0].tolist()
            place = f"row {row}, {names[column]!r}"
            raise UserError(f"{place}: expected a finite number, got {values[row, column]}")
        return features


def _frame_values(frame: Any, names: Sequence[str], na_values: NaValues) -> "NDArray[np.float64]":
    """Returns the features in a data frame, shape `(rows, features)`, NaN where missing."""
    columns = {normalize(str(column)): column for column in frame.columns}
    features = find_features(names, list(columns), "the frame")
    values = []
    for feature in features:
        cells = np.asarray(frame[columns[feature.column]])
        if feature.category is None and cells.dtype.kind in "biuf" and na_values is None:
            values.append(cells.astype(np.float64))
        else:
            values.append(_parse(cells, feature, na_values))
    return np.column_stack(values)


def _parse(cells: "NDArray[Any]", feature: Feature, na_values: NaValues) -> "NDArray[np.float64]":
    """Parses the cells of a feature's column as numbers or categories.

    Returns:
        The numbers, NaN where missing; for a category, 1 where the column holds it, else 0.
    """
    import polars as pl

    texts = pl.Series([None if cell is None else str(cell) for cell in cells], dtype=pl.String)
    missing = missing_texts(na_values) | {
        "nan",
        "NaT",
        "<NA>",
    }  # as Python, NumPy and pandas print them
    labels = pl.select(to_labels(pl.lit(texts), missing)).to_series()
    if feature.category is not None:
        return (labels == feature.category).fill_null(False).to_numpy().astype(np.float64)
    numbers = labels.cast(pl.Float64, strict=False)
    invalid = (numbers.is_null() & labels.is_not_null()).arg_true()
    if len(invalid) > 0:
        found = f"row {invalid[0]}, {feature.column!r}: {labels[invalid[0]]!r}"
        raise UserError(f"{found}: expected a number")
    return numbers.fill_null(np.nan).to_numpy()


def load(
    path: str | os.PathLike[str],
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    activation: str | None = None,
) -> IrisPredictor:
    """Loads a trained classifier. The file is read as data: it cannot run code.

    Args:
        path: A checkpoint (`.ckpt`), or weights written by `export` (`.pth`, `.safetensors`).
        feature_names: Names of the features, for `.pth` files, which do not contain them; by
            default those of Iris.
        class_names: Names of the classes, for `.pth` files; by default those of Iris.
        activation: Activation after each hidden layer, for `.pth` files; by default none, as in the
            lesson.

    Raises:
        UserError: If the file cannot be used.
    """
    path = Path(path)
    if path.suffix == ".ckpt":
        weights = weights_in(read_checkpoint(path), path)
    else:
        weights = read_weights(
            path, feature_names=feature_names, class_names=class_names, activation=activation
        )
    return IrisPredictor.from_weights(weights, path)
