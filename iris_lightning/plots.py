"""Pictures of what a classifier does.

A new picture is a function that draws a `Trained`, and a line in `PICTURES`: TensorBoard and the
command `plot` then show it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:  # matplotlib is imported where it draws: it takes a third of a second
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from iris_lightning.data import IrisDataModule

MOST_NAMES = 40  # of classes in a confusion matrix
MOST_FEATURES = 6  # whose pairs fit into one figure
MOST_POINTS = 500  # of a class and split that are drawn upon a region
MARKERS = "os^DvP*<>h"  # and as many colors


class Trained(NamedTuple):
    """A trained classifier.

    Attributes:
        predict: From features, shape `(rows, features)`, to probabilities, shape `(rows, classes)`.
        data: What it was trained with.
        title: What captions say of it.
    """

    predict: Callable[[Tensor], Tensor]
    data: "IrisDataModule"
    title: str


def can_draw() -> bool:
    """Returns whether matplotlib is installed, without which there are no pictures."""
    return find_spec("matplotlib") is not None


def own_style() -> AbstractContextManager[None]:
    """Returns a context for drawing and saving figures that ignores a user's `matplotlibrc`."""
    from matplotlib import style

    own = {"text.parse_math": False, "text.hinting": "no_hinting"}  # "$" is text; hinting is slow
    return style.context(["default", "petroff10", own])


def draw_all(trained: Trained) -> "Iterator[tuple[str, Figure]]":
    """Yields the names and figures of all pictures of a classifier."""
    for name, draw in PICTURES.items():
        figure = draw(trained)
        if figure is not None:
            yield name, figure


def _confusion(trained: Trained) -> "Figure":
    """Draws the confusion matrix of the validation rows."""
    from sklearn.metrics import confusion_matrix

    features, targets = trained.data.tensors("val")
    classes = trained.data.class_names
    predictions = trained.predict(features).argmax(dim=1)
    counts = confusion_matrix(targets, predictions, labels=range(len(classes)))
    return draw_confusion(counts, classes, f"{trained.title}, validation rows")


def _reliability(trained: Trained) -> "Figure":
    """Draws the accuracy of validation rows against the probability of their predicted class."""
    from sklearn.calibration import CalibrationDisplay
    from torchmetrics.functional.classification import multiclass_calibration_error

    features, targets = trained.data.tensors("val")
    probabilities = trained.predict(features)
    error = multiclass_calibration_error(probabilities, targets, probabilities.shape[1], n_bins=10)
    confidence, predictions = probabilities.max(dim=1)
    title = f"{trained.title}, validation rows (bars: their share)"
    figure = _figure(f"{title}\nexpected calibration error {error:.3f}")
    axes = figure.subplots()
    shares = torch.full_like(confidence, 1 / len(targets))
    axes.hist(confidence, range=(0, 1), weights=shares, alpha=0.3)
    correct = (predictions == targets).int()
    CalibrationDisplay.from_predictions(correct, confidence, n_bins=10, ax=axes)
    axes.legend().remove()
    axes.set(xlabel="probability of the predicted class", ylabel="accuracy")
    return figure


def _regions(trained: Trained) -> "Figure | None":
    """Draws the predicted classes over each pair of features, and rows upon them."""
    names = [_short(name) for name in trained.data.feature_names]
    if not 2 <= len(names) <= MOST_FEATURES or len(trained.data.class_names) > len(MARKERS):
        return None
    rows = len(names) - 1
    columns = max(2, rows)  # with room for the legend
    title = f"{trained.title}, train (small) and validation rows"
    figure = _figure(title, 0.8 + 1.8 * columns, 1.2 + 1.4 * rows)
    for first, second in combinations(range(len(names)), 2):
        axes = figure.add_subplot(rows, columns, 1 + first + columns * (second - 1))
        _draw_pair(axes, trained, [first, second])
        axes.set(xlabel=names[first], ylabel=names[second])
        axes.locator_params(nbins=4)
        axes.label_outer(remove_inner_ticks=True)
    figure.legend(*axes.get_legend_handles_labels(), bbox_to_anchor=(0.99, 0.9))
    return figure


def _draw_pair(axes: Any, trained: Trained, pair: list[int]) -> None:
    """Draws the predicted classes over two features, darker where they are more probable."""
    from matplotlib.colors import LinearSegmentedColormap
    from sklearn.inspection import DecisionBoundaryDisplay

    train, train_targets = trained.data.tensors("train")
    val, val_targets = trained.data.tensors("val")
    features = torch.cat([train, val])[:, pair].double().numpy()
    low, high = np.nanmin(features, axis=0), np.nanmax(features, axis=0)
    margin = 0.05 * (high - low)
    colors = [f"C{number}" for number in range(len(trained.data.class_names))]
    look: dict[str, Any] = {"multiclass_colors": colors}
    if len(colors) == 2:
        look = {"cmap": LinearSegmentedColormap.from_list("", ["C0", "white", "C1"])}
    DecisionBoundaryDisplay.from_estimator(
        _pair_classifier(trained, pair),
        np.stack([low - margin, high + margin]),
        eps=0,
        grid_resolution=60,
        response_method="predict_proba",
        plot_method="pcolormesh",
        ax=axes,
        vmin=0,
        vmax=1,
        alpha=0.5,
        rasterized=True,
        **look,
    )
    for number, name in enumerate(trained.data.class_names):
        small = train[train_targets == number][:MOST_POINTS, pair]
        large = val[val_targets == number][:MOST_POINTS, pair]
        style: dict[str, Any] = {"color": colors[number], "markeredgecolor": "black"}
        axes.plot(*small.T, MARKERS[number], markersize=3, **style)
        axes.plot(*large.T, MARKERS[number], label=_short(name), **style)
    mistakes = val[trained.predict(val).argmax(dim=1) != val_targets][:MOST_POINTS, pair]
    axes.plot(*mistakes.T, "kx", markersize=9, label="mistake")


def _pair_classifier(trained: Trained, pair: list[int]) -> Any:
    """Returns a scikit-learn classifier of two features; the others are at their train mean."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    features, _ = trained.data.tensors("train")
    means = features.nanmean(dim=0)

    class PairClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.arange(len(trained.data.class_names))

        def fit(self) -> None:
            """Makes it an estimator."""

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict_proba(self, points: Any) -> Any:
            features = means.repeat(len(points), 1)
            features[:, pair] = torch.as_tensor(points, dtype=means.dtype)
            return trained.predict(features).numpy()

    return PairClassifier()


def draw_confusion(confusion: "ArrayLike", class_names: Sequence[str], title: str) -> "Figure":
    """Draws how many rows of each class were predicted as which.

    Args:
        confusion: Counts, shape `(classes, classes)`, a row for each true class.
        class_names: Names of the classes.
        title: Caption.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    names = [_short(name) for name in class_names]
    few = len(names) <= 12
    side = min(11.0, max(3.0, 0.5 * len(names)))
    rotation = "horizontal"
    if len(names) * max(map(len, names)) > 36:
        rotation = "vertical"
        side += 1
    figure = _figure(title, side + 1.4, side)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    display = ConfusionMatrixDisplay(np.asarray(confusion), display_labels=names)
    display.plot(
        ax=axes,
        cmap="Blues",
        values_format="d",
        include_values=few,
        colorbar=not few,
        xticks_rotation=rotation,
    )
    if len(names) > MOST_NAMES:
        axes.set(xticks=[], yticks=[])
    return figure


def draw_spread(figures: "Mapping[str, Mapping[str, ArrayLike]]", title: str) -> "Figure":
    """Draws how much metrics differ from fold to fold: a box for each classifier.

    Args:
        figures: For each classifier, its metrics by name, each of all folds, shape `(folds,)`.
        title: Caption.
    """
    metrics = list(next(iter(figures.values())))
    figure = _figure(title, height=0.5 + len(metrics) * (0.5 + 0.25 * len(figures)))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(metrics), squeeze=False)
    for axes, metric in zip(grid.flat, metrics, strict=True):
        names = [name for name in figures if metric in figures[name]]
        folds = [np.asarray(figures[name][metric]) for name in names]
        axes.boxplot(folds, orientation="horizontal", tick_labels=[_short(name) for name in names])
        axes.invert_yaxis()
        axes.set_ylabel(metric)
    return figure


def _figure(title: str, width: float = 4.4, height: float = 3.0) -> "Figure":
    """Returns an empty figure, by default as large as TensorBoard shows one."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=80)
    figure.suptitle(title, fontsize=10)
    figure.subplots_adjust(0.6 / width, 0.6 / height, 1 - 0.1 / width, 1 - 0.5 / height)
    return figure


def _short(name: str) -> str:
    """Returns as much of a name as fits."""
    return " ".join(name.split())[:19]


PICTURES: dict[str, Callable[[Trained], "Figure | None"]] = {
    "confusion": _confusion,
    "reliability": _reliability,
    "regions": _regions,
}
