"""Plots of a trained classifier.

To add a plot, write a function that returns the figure of a `Trained`, and add it to `PLOTS`: it
then appears in TensorBoard and in the output of the command `plot`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from iris_lightning.errors import shorten
from iris_lightning.files import atomic_write

if TYPE_CHECKING:  # matplotlib takes 0.3 s to import, so functions do it when needed
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from iris_lightning.data import IrisDataModule

MAX_CLASSES_WITH_COUNTS = 12  # in a confusion matrix
MAX_REGION_FEATURES = 6
MAX_POINTS_PER_CLASS = 500  # in a plot of regions
GRID_SIZE = 60  # points per axis at which the regions are computed
MAX_NAME_LENGTH = 19
MARKERS = "os^DvP*<>h"  # one per class; there are as many colors


class Trained(NamedTuple):
    """A trained classifier to be drawn.

    Attributes:
        predict: Computes probabilities, shape `(rows, classes)`, from features, shape
            `(rows, features)`.
        data: The data it was trained on.
        title: Describes it in captions.
        network: The network behind `predict`; only needed for an ensemble.
    """

    predict: Callable[[Tensor], Tensor]
    data: "IrisDataModule"
    title: str
    network: nn.Module | None = None

    def predict_val(self) -> Tensor:
        """Computes probabilities of the validation rows, shape `(rows, classes)`."""
        predict_unseen = getattr(self.data, "predict_val", None)
        if predict_unseen is not None:  # an ensemble: each row by the member that has not seen it
            return cast("Tensor", predict_unseen(self.network, self.predict))
        return self.predict(self.data.tensors("val")[0])


def own_style() -> AbstractContextManager[None]:
    """Returns a context for drawing and saving plots that ignores the user's `matplotlibrc`."""
    from matplotlib import style

    # A "$" in a name does not start a formula, and hinting is slow.
    own = {"text.parse_math": False, "text.hinting": "no_hinting"}
    return style.context(["default", "petroff10", own])


def write_figures(figures: "Mapping[str, Figure]", folder: Path) -> None:
    """Writes each figure as `<name>.png` and `<name>.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            with atomic_write(folder / f"{name}{suffix}") as new:
                figure.savefig(new, dpi=200)


def draw_all(trained: Trained) -> "Iterator[tuple[str, Figure]]":
    """Yields the name and figure of each plot of a classifier."""
    for name, draw in PLOTS.items():
        figure = draw(trained)
        if figure is not None:
            yield name, figure


def _confusion(trained: Trained) -> "Figure":
    """Draws the confusion matrix of the validation rows."""
    from sklearn.metrics import confusion_matrix

    _, targets = trained.data.tensors("val")
    classes = trained.data.class_names
    predictions = trained.predict_val().argmax(dim=1)
    counts = confusion_matrix(targets, predictions, labels=range(len(classes)))
    return draw_confusion(counts, classes, f"{trained.title}, validation rows")


def _reliability(trained: Trained) -> "Figure":
    """Draws accuracy against confidence, the probability of the predicted class."""
    from sklearn.calibration import CalibrationDisplay

    _, targets = trained.data.tensors("val")
    confidence, predictions = trained.predict_val().max(dim=1)
    figure = _figure(f"{trained.title}, validation rows")
    axes = figure.subplots()
    correct = (predictions == targets).int()
    CalibrationDisplay.from_predictions(correct, confidence, n_bins=10, ax=axes)
    axes.legend().remove()
    axes.set(xlabel="probability of the predicted class", ylabel="accuracy")
    return figure


def _regions(trained: Trained) -> "Figure | None":
    """Draws the regions of the predicted classes, for each pair of features.

    The network is evaluated with all other features at their train mean.

    Returns:
        The figure, or `None` if there are too many features or classes, a single feature, or a
        feature without values.
    """
    names = [shorten(name, MAX_NAME_LENGTH) for name in trained.data.feature_names]
    num_classes = len(trained.data.class_names)
    if not 2 <= len(names) <= MAX_REGION_FEATURES or num_classes > len(MARKERS):
        return None
    rows = len(names) - 1
    columns = max(2, rows)  # leaves room for the legend
    width = 0.8 + 1.8 * columns
    height = 1.2 + 1.4 * rows
    figure = _figure(f"{trained.title}, validation rows", width, height)
    train, _ = trained.data.tensors("train")
    val, _ = trained.data.tensors("val")
    values = torch.cat([train, val]).numpy()
    low = np.fmin.reduce(values)  # ignores missing values
    high = np.fmax.reduce(values)
    margin = 0.05 * (high - low)
    ticks = np.linspace(low - margin, high + margin, GRID_SIZE)
    if not np.isfinite(ticks).all():
        return None
    means = train.nanmean(dim=0)
    for first, second in combinations(range(len(names)), 2):
        row = second - 1
        axes = figure.add_subplot(rows, columns, 1 + row * columns + first)
        _draw_pair(axes, trained, [first, second], ticks, means)
        axes.set(xlabel=names[first], ylabel=names[second])
        axes.locator_params(nbins=4)
        axes.label_outer(remove_inner_ticks=True)
    figure.legend(*axes.get_legend_handles_labels(), bbox_to_anchor=(0.99, 0.9))
    return figure


def _draw_pair(
    axes: Any, trained: Trained, pair: list[int], ticks: "NDArray[np.float32]", means: Tensor
) -> None:
    """Draws the predicted class over two features, darker where it is more probable.

    Args:
        axes: Where to draw.
        trained: The classifier.
        pair: Positions of the features.
        ticks: Values of each feature to evaluate, shape `(GRID_SIZE, features)`.
        means: Values of all other features, shape `(features,)`.
    """
    from sklearn.inspection import DecisionBoundaryDisplay

    val, targets = trained.data.tensors("val")
    x, y = np.meshgrid(*ticks[:, pair].T)
    features = means.repeat(GRID_SIZE**2, 1)
    features[:, pair[0]] = torch.from_numpy(x).flatten()
    features[:, pair[1]] = torch.from_numpy(y).flatten()
    probabilities = trained.predict(features).unflatten(0, x.shape)
    # With two classes, scikit-learn would draw only one of them.
    num_classes = max(3, probabilities.shape[2])
    padding = num_classes - probabilities.shape[2]
    response = nn.functional.pad(probabilities, (0, padding)).numpy()
    colors = [f"C{number}" for number in range(num_classes)]
    display = DecisionBoundaryDisplay(
        xx0=x, xx1=y, n_classes=num_classes, response=response, multiclass_colors=colors
    )
    display.plot("pcolormesh", axes, vmin=0, vmax=1, alpha=0.5, rasterized=True)
    for number, name in enumerate(trained.data.class_names):
        points = val[targets == number][:MAX_POINTS_PER_CLASS, pair]
        label = f" {shorten(name, MAX_NAME_LENGTH)}"  # matplotlib hides labels such as `_a`
        axes.plot(*points.T, MARKERS[number], c=colors[number], mec="black", label=label)


def draw_confusion(confusion: "ArrayLike", class_names: Sequence[str], title: str) -> "Figure":
    """Draws a confusion matrix.

    Args:
        confusion: Numbers of rows, shape `(classes, classes)`, indexed by true, then predicted
            class.
        class_names: Names of the classes.
        title: Caption.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    names = [shorten(name, MAX_NAME_LENGTH) for name in class_names]
    has_counts = len(names) <= MAX_CLASSES_WITH_COUNTS
    side = min(12.0, max(3.0, 0.5 * len(names)) + 1)  # inches
    figure = _figure(title, side + 0.4, side)
    axes = figure.subplots()
    display = ConfusionMatrixDisplay(np.asarray(confusion), display_labels=names)
    display.plot(
        ax=axes,
        cmap="Blues",
        values_format="d",
        include_values=has_counts,
        colorbar=not has_counts,
        xticks_rotation="vertical",
    )
    return figure


def draw_summary(summary: Mapping[str, Any]) -> "Iterator[tuple[str, Figure]]":
    """Yields the name and figure of each plot of a cross-validation: the confusion matrix."""
    title = f"held-out rows, {summary['repeats']} x {summary['folds']} folds"
    yield "confusion", draw_confusion(summary["confusion"], summary["classes"], title)


def _figure(title: str, width: float = 4.4, height: float = 3.0) -> "Figure":
    """Returns an empty figure; the size is in inches, by default that of TensorBoard's display."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=80, layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure


PLOTS: dict[str, Callable[[Trained], "Figure | None"]] = {
    "confusion": _confusion,
    "reliability": _reliability,
    "regions": _regions,
}
