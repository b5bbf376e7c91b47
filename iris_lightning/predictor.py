"""A trained classifier for use in Python: no Trainer, no command line, and no import of Lightning."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from iris_lightning.checkpoints import read_checkpoint, weights_in
from iris_lightning.errors import UserError
from iris_lightning.network import IrisNetwork
from iris_lightning.weights import IRIS_CLASSES, IRIS_FEATURES, WEIGHTS_SUFFIXES, Weights, read_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["IrisPredictor", "find_columns", "load", "predictor_of"]


class IrisPredictor(nn.Module):
    """A trained network with the names of its features and classes, in eval mode.

    Args:
        network: The network.
        feature_names: Names of the features, in the order of the inputs.
        class_names: Names of the classes, in the order of the logits.

    Raises:
        UserError: If a weight is not finite.

    Attributes:
        classes_: The class names, NumPy array of shape `(classes,)`, as scikit-learn calls them.
        feature_names_in_: The feature names, NumPy array of shape `(features,)`, as scikit-learn calls them.

    Example:
        >>> flowers = IrisPredictor(IrisNetwork(), IRIS_FEATURES, IRIS_CLASSES)
        >>> flowers.predict_proba([[5.1, 3.5, 1.4, 0.2]]).shape
        (1, 3)
    """

    def __init__(
        self, network: IrisNetwork, feature_names: list[str] | tuple[str, ...], class_names: list[str] | tuple[str, ...]
    ) -> None:
        super().__init__()
        if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
            raise UserError("the network's weights are not finite: its training has diverged")
        self.network = network
        self.feature_names_in_ = np.array(feature_names, dtype=object)
        self.classes_ = np.array(class_names, dtype=object)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Computes probabilities, shape `(rows, classes)`, of features, shape `(rows, features)` in their own units."""
        return cast("Tensor", self.network(features)).softmax(dim=1)

    def predict(self, rows: "ArrayLike") -> "NDArray[np.object_]":
        """Returns the most probable class of each row.

        Args:
            rows: As for `predict_proba`.

        Returns:
            Class names, shape `(rows,)`.

        Raises:
            UserError: If the rows are not the features of this classifier.
        """
        return cast("NDArray[np.object_]", self.classes_[self._logits(rows).argmax(dim=1).numpy()])

    def predict_proba(self, rows: "ArrayLike") -> "NDArray[np.float32]":
        """Returns the probability of each class.

        Args:
            rows: A list or NumPy array of shape `(rows, features)`, in the order of `feature_names_in_`, or a polars or
                pandas frame, which may have its columns in any order and further ones.

        Returns:
            float32, shape `(rows, classes)`; each row sums to 1.

        Raises:
            UserError: If the rows are not the features of this classifier.
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
            rows = rows[find_columns(names, list(rows.columns), "the frame")].to_numpy()
        try:
            values = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"expected numbers of shape (rows, {len(names)}): {error}") from error
        if values.size == 0:
            values = values.reshape(0, len(names))
        if values.ndim != 2 or values.shape[1] != len(names):
            raise UserError(f"expected shape (rows, {len(names)}), one column for each feature, got {values.shape}")
        with np.errstate(over="ignore"):
            features = torch.from_numpy(values.astype(np.float32))
        if not features.isfinite().all():
            row, column = np.argwhere(~features.isfinite().numpy())[0]
            raise UserError(f"row {row}, {names[column]!r}: expected a finite number, got {values[row, column]}")
        return features


def find_columns(feature_names: list[str], columns: list[str], source: str) -> list[str]:
    """Returns the column of each feature: that of its name, or of Iris' other spelling, as in `sepal_length`.

    Raises:
        UserError: If a feature has no column.
    """
    spelled = {_underscored(name): name for name in columns}
    found = [name if name in columns else spelled.get(_underscored(name), "") for name in feature_names]
    if "" in found:
        missing = [name for name, column in zip(feature_names, found, strict=True) if not column]
        raise UserError(
            f"{source} has no column {', '.join(repr(name) for name in missing[:8])}; "
            f"found {', '.join(repr(name) for name in columns[:8])}{', …' if len(columns) > 8 else ''}"
        )
    return found


def _underscored(name: str) -> str:
    """Turns scikit-learn's names of Iris' features into `sepal_length` and the like, and leaves others as they are."""
    return name.removesuffix(" (cm)").replace(" ", "_") if name in IRIS_FEATURES else name


def load(path: str | os.PathLike[str]) -> IrisPredictor:
    """Loads a trained classifier, as data: nothing in the file can run.

    Args:
        path: A checkpoint (`.ckpt`), or a file that `export` wrote (`.pth`, `.safetensors`, `.onnx`). The lesson's own
            `.pth`, which names no features and classes, is taken for one of Iris if its shape is the lesson's.

    Raises:
        UserError: If the file is not one of these.
    """
    path = Path(path)
    if path.suffix == ".ckpt":
        weights = weights_in(read_checkpoint(path), path)
    elif path.suffix in WEIGHTS_SUFFIXES:
        weights = read_weights(path)
    else:
        raise UserError(f"{path}: expected a file that ends in {', '.join(('.ckpt', *WEIGHTS_SUFFIXES))}")
    return predictor_of(weights, path)


def predictor_of(weights: Weights, path: Path) -> IrisPredictor:
    """Returns the classifier that weights are of.

    Args:
        weights: The weights.
        path: Where they come from.

    Raises:
        UserError: If they are not of this project's network, or name no classes and are of another shape than Iris'.
    """
    network = weights.network(path)
    features, classes = weights.feature_names, weights.class_names
    if features is None or classes is None:
        if (network.in_features, network.num_classes) != (len(IRIS_FEATURES), len(IRIS_CLASSES)):
            raise UserError(
                f"{path}: does not name its {network.in_features} features and {network.num_classes} classes, "
                "and Iris has 4 and 3; expected a file that export wrote"
            )
        features, classes = list(IRIS_FEATURES), list(IRIS_CLASSES)
    try:
        return IrisPredictor(network, features, classes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
