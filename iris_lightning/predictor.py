"""A trained classifier for use in Python. This module does not import Lightning."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from iris_lightning.errors import UserError
from iris_lightning.features import find_features, normalize
from iris_lightning.runs.checkpoints import read_checkpoint, weights_in
from iris_lightning.weights.reading import Weights, read_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


# Missing values as Python, NumPy and pandas print them.
PRINTED_MISSING = ("None", "nan", "NaT", "<NA>")


class IrisPredictor(nn.Module):
    """A trained network with the names of its features and classes, in eval mode.

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
        na_values: list[str | int | float | bool | None] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.na_values = na_values
        self.feature_names_in_ = np.array(feature_names, dtype=object)
        self.classes_ = np.array(class_names, dtype=object)
        # The `members` of an ensemble are one network with stacked tensors.
        self.imputes = bool(getattr(network, "members", network).impute)
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
        return cls(
            weights.network(path), weights.feature_names, weights.class_names, weights.na_values
        )

    def forward(self, features: Tensor) -> Tensor:
        """Computes probabilities, shape `(rows, classes)`, from features, `(rows, features)`."""
        logits: Tensor = self.network(features)
        return logits.softmax(dim=1)

    def predict(self, rows: "ArrayLike") -> "NDArray[np.object_]":
        """Returns the most probable class of each row, shape `(rows,)`; see `predict_proba`."""
        most_probable = self.predict_proba(rows).argmax(axis=1)
        return cast("NDArray[np.object_]", self.classes_[most_probable])

    def predict_proba(self, rows: "ArrayLike") -> "NDArray[np.float32]":
        """Returns the probability of each class, float32, shape `(rows, classes)`.

        Args:
            rows: Numbers of shape `(rows, features)` in their original units, such as an array or a
                list of lists; or a pandas or polars data frame that has the columns of the
                features, in any order.

        Raises:
            UserError: If the rows lack a feature or hold an invalid value.
        """
        features = self._features(rows)
        with torch.inference_mode():
            probabilities = self(features)
        if not probabilities.isfinite().all():
            raise UserError("a row has features that are too large for the network")
        return cast("NDArray[np.float32]", probabilities.numpy())

    def _features(self, rows: Any) -> Tensor:
        names = self.feature_names_in_
        if hasattr(rows, "columns"):
            rows = _frame_values(rows, self)
        expected = f"expected numbers of shape (rows, {len(names)})"
        try:
            values = np.asarray(rows, np.float64, "C")
        except (TypeError, ValueError) as error:
            raise UserError(f"{expected}: {error}") from error
        if values.shape[1:] != names.shape:
            raise UserError(f"{expected}, got {values.shape}")
        features = torch.tensor(values).float()
        is_invalid = features.isinf()
        if not self.imputes:
            is_invalid |= features.isnan()
        if is_invalid.any():
            row, column = is_invalid.nonzero()[0].tolist()
            found = f"got {values[row, column]}"
            raise UserError(f"row {row}, {names[column]!r}: expected a finite number, {found}")
        return features


def _frame_values(frame: Any, predictor: IrisPredictor) -> "NDArray[np.float64]":
    """Returns the features in a data frame, shape `(rows, features)`, NaN where missing."""
    # Imported here, as arrays and lists do not need polars.
    import polars as pl

    from iris_lightning.table import CsvFormat, TableWarning
    from iris_lightning.tables.columns import mark_numbers
    from iris_lightning.tables.formats import Cells, encode
    from iris_lightning.tables.predictions import count_gaps
    from iris_lightning.tables.validation import check_values

    source = "the frame"
    columns = {normalize(str(column)): column for column in frame.columns}
    features = find_features(predictor.feature_names_in_, list(columns), source)
    series = {}
    for name in {feature.column for feature in features}:
        cells = np.asarray(frame[columns[name]])
        if cells.dtype.kind in "biuf":
            series[name] = pl.Series(cells, nan_to_null=True)
        else:
            series[name] = pl.Series(map(_text, cells), dtype=pl.String)
    csv = CsvFormat(na_values=predictor.na_values)
    table = Cells(source, csv, pl.LazyFrame(series))
    mark_numbers(table)
    check_values(table, table.inputs(table.rows, features), features, predictor.imputes)
    values = table.rows.select(table.values(features)).collect()
    for what, number in count_gaps(values, features, {}).items():
        if number:
            warnings.warn(f"{source}: {number} {what}", TableWarning, stacklevel=5)
    return values.select(encode(features, predictor.imputes)).to_numpy()


def _text(cell: Any) -> str:
    """Returns a cell as text, empty if it is a missing value of Python, NumPy or pandas."""
    text = str(cell)
    if isinstance(cell, str) or text not in PRINTED_MISSING:
        return text
    return ""


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
