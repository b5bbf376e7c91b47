"""Pictures of what a classifier does, drawn with matplotlib from plain tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from iris_lightning.calibration import Reliability, reliability_of

if TYPE_CHECKING:  # imported where a picture is drawn: it takes a third of a second
    from matplotlib.figure import Figure

__all__ = [
    *("Points", "Region", "can_draw", "decision_regions", "draw_classifier", "own_style"),
    *("draw_confusion", "draw_regions", "draw_reliability", "draw_spread"),
]

MOST_FEATURES = 6  # of which each pair has a picture
MOST_NAMES = 40  # of classes that a confusion matrix names
MOST_POINTS = 500  # of a split that are drawn upon a region
GRID = 100  # points of a region along each axis
# Okabe and Ito's colours, which the colour-blind can tell apart, without black and yellow; markers help.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS, GLYPHS = "os^Dv", "●■▲◆▼"  # of the same shapes


def can_draw() -> bool:
    """Whether matplotlib is installed, without which there are no pictures."""
    return find_spec("matplotlib") is not None


def own_style() -> AbstractContextManager[None]:
    """Returns a context in which pictures, drawn and written there, do not depend on a user's `matplotlibrc`."""
    from matplotlib import style

    return style.context(["default", {"text.hinting": "no_hinting"}])  # which takes longer, and looks the same


class Region(NamedTuple):
    """The predicted classes over a pair of features."""

    pair: tuple[int, int]
    extent: tuple[float, float, float, float]  # from and to, of the first feature and of the second
    classes: Tensor  # int64, shape (GRID, GRID): a row for each value of the second feature, from the lowest


def decision_regions(predict: Callable[[Tensor], Tensor], train: Tensor, others: Tensor) -> list[Region]:
    """Predicts classes on a grid over each pair of features, all other features being at their train mean.

    Args:
        predict: From features, shape `(rows, features)`, to probabilities, shape `(rows, classes)`.
        train: Features of the train split; missing ones (NaN) count nowhere.
        others: Features of other rows that the regions have to reach.
    """
    mean, rows = train.double().nanmean(dim=0).nan_to_num(), torch.cat([train, others]).double()
    low, high = (torch.where(rows.isnan(), end, rows) for end in (torch.inf, -torch.inf))
    low, high = low.amin(dim=0), high.amax(dim=0)
    low, high = (torch.where(end.isfinite(), end, mean) for end in (low, high))
    margin = torch.where(high > low, high - low, high.abs().clamp(min=10)) * 0.05
    low, high = low - margin, high + margin
    regions = []
    for i, j in combinations(range(len(mean)), 2):
        first, second = (torch.linspace(float(low[k]), float(high[k]), GRID, dtype=train.dtype) for k in (i, j))
        points = mean.to(train.dtype).repeat(GRID * GRID, 1)
        points[:, i], points[:, j] = first.repeat(GRID), second.repeat_interleave(GRID)
        extent = float(low[i]), float(high[i]), float(low[j]), float(high[j])
        regions.append(Region((i, j), extent, predict(points).argmax(dim=1).view(GRID, GRID)))
    return regions


class Points(NamedTuple):
    """Rows of a split, to be drawn upon regions."""

    features: Tensor  # shape (rows, features)
    targets: Tensor  # int64, shape (rows,)
    predictions: Tensor  # int64, shape (rows,)


def draw_classifier(
    predict: Callable[[Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    feature_names: Sequence[str],
    class_names: Sequence[str],
    title: str,
) -> "Iterator[tuple[str, Figure]]":
    """Yields pictures of a classifier, with their names: what it is worth on validation rows, and its regions.

    Each is to be written before the next is asked for.

    Args:
        predict: From features, shape `(rows, features)`, to probabilities, shape `(rows, classes)`.
        train: Features and targets of the train split, int64, shape `(rows,)`.
        val: Those of the validation split.
        feature_names: Names of the features.
        class_names: Names of the classes.
        title: Which network this is.
    """
    probabilities, targets = predict(val[0]), val[1]
    cells = targets * len(class_names) + probabilities.argmax(dim=1)
    confusion = cells.bincount(minlength=len(class_names) ** 2).view(len(class_names), -1)
    yield "confusion", draw_confusion(confusion, class_names, f"validation rows, {title}")
    yield "reliability", draw_reliability(reliability_of(probabilities, targets), f"validation rows, {title}")
    if 2 <= len(feature_names) <= MOST_FEATURES:
        shown = [(features[:MOST_POINTS], targets[:MOST_POINTS]) for features, targets in (train, val)]
        points = [Points(*rows, predict(rows[0]).argmax(dim=1)) for rows in shown]
        most = f"{MOST_POINTS} " if len(train[1]) > MOST_POINTS else ""
        what = f"{title}: {most}train (small) and validation rows"
        what += "\nother features at their train mean" if len(feature_names) > 2 else ""
        regions = decision_regions(predict, train[0], val[0])
        figures = draw_regions(regions, points, feature_names, class_names, what)
        for (i, j), figure in zip((region.pair for region in regions), figures, strict=True):
            yield f"regions {feature_names[i]}, {feature_names[j]}", figure


def draw_confusion(confusion: Tensor, class_names: Sequence[str], title: str) -> "Figure":
    """Draws how many rows of each class, and which share of them, were predicted as which.

    Args:
        confusion: Counts, int64, shape `(classes, classes)`: a row for each true class.
        class_names: Names of the classes.
        title: What it says above.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    counts, names = confusion.numpy(), [_short(name, 16) for name in class_names]
    shares, size = counts / counts.sum(axis=1, keepdims=True).clip(1), len(names)
    upright = size <= MOST_NAMES and sum(map(len, names)) > 36  # names below would overlap otherwise
    dots = 30 * min(size, 12) + 7 * max(map(len, names)) + 70 if upright else 0  # of cells, names and the rest
    figure, axes = _figure(title, size=min(3.0, max(1.0, 0.1 * size, dots / 240)))
    look: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": 1}
    if size <= MOST_NAMES:
        display, few = ConfusionMatrixDisplay(shares, display_labels=names), size <= 12
        display.plot(ax=axes, colorbar=not few, include_values=few, im_kw=look)
        for text, count, share in zip(display.text_.flat, counts.flat, shares.flat, strict=True) if few else ():
            text.set_text(f"{count}\n{share:.0%}")
    else:
        figure.colorbar(axes.imshow(shares, **look))
    axes.set_aspect("auto")
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.subplots_adjust(left=0.3)
    if upright:
        axes.tick_params("x", rotation=90)
        figure.tight_layout()  # takes as long as all else
    return figure


def draw_reliability(reliability: Reliability, title: str) -> "Figure":
    """Draws the accuracy of predictions of each confidence, and the number of rows that have it."""
    error = f"expected calibration error {reliability.error:.3f}; numbers are rows"
    figure, axes = _figure(f"{title}; dashed: as it should be\n{error}")
    found, bins = reliability.rows > 0, len(reliability.rows)
    rows, accuracy, confidence = (values[found].numpy() for values in reliability)
    places = (found.nonzero()[:, 0].numpy() + 0.5) / bins
    axes.bar(places, accuracy, 1 / bins, color=COLORS[4], edgecolor="black")
    axes.plot(confidence, accuracy, "D", color=COLORS[5])
    axes.plot([0, 1], [0, 1], color="black", linestyle="dashed")
    for place, number in zip(places, rows, strict=True):
        axes.text(place, 0.02, str(number), ha="center", va="bottom", rotation=90)
    axes.set(xlim=(0, 1), ylim=(0, 1.08), ylabel="accuracy")
    axes.set_xlabel("probability of the predicted class (◆ mean)")
    return figure


def draw_regions(
    regions: list[Region], rows: list[Points], feature_names: Sequence[str], class_names: Sequence[str], title: str
) -> "Iterator[Figure]":
    """Draws the predicted classes over pairs of features, with rows of the train and of the validation split.

    It is one figure again and again: a new one for each pair would take half as long again.
    """
    from matplotlib.colors import ListedColormap

    figure, axes = _figure(title)
    figure.subplots_adjust(top=0.78)
    axes.locator_params(nbins=4)
    colors = [COLORS[i % len(COLORS)] for i in range(len(class_names))]
    look = {"cmap": ListedColormap(colors), "alpha": 0.35, "vmin": 0, "vmax": len(colors) - 1}
    image = axes.imshow([[0]], origin="lower", aspect="auto", interpolation="nearest", **look)
    marks = []  # of rows: their features, and the line, without a line between them, that marks them
    for size, points in zip((3, 6), rows, strict=True):
        for i in points.targets.unique().tolist():
            style = {"color": colors[i], "marker": MARKERS[i % len(MARKERS)], "markersize": size}
            (line,) = axes.plot([], [], linestyle="none", markeredgecolor="black", markeredgewidth=0.5, **style)
            marks.append((points.features[points.targets == i], line))
        (line,) = axes.plot([], [], "x", color="black", markersize=size + 3)
        marks.append((points.features[points.predictions != points.targets], line))
    # Texts, not a legend, which takes as long as all else.
    key = [(f"{GLYPHS[i % len(GLYPHS)]} {name}", colors[i]) for i, name in enumerate(class_names[:4])]
    key += [("…", "black")] * (len(class_names) > 4) + [("x mistake", "black")]
    for i, (text, color) in enumerate(key):
        text = _short(text, 48 // len(key))
        figure.text((i + 0.5) / len(key), 0.8, text, color=color, ha="center", weight="bold")
    for region in regions:
        first, second = region.pair
        image.set(data=region.classes.numpy(), extent=region.extent)
        for features, line in marks:
            line.set_data(features[:, first].numpy(), features[:, second].numpy())
        axes.set(xlabel=_short(feature_names[first]), ylabel=_short(feature_names[second]))
        yield figure


def draw_spread(figures: Mapping[str, Mapping[str, Tensor]], title: str) -> "Figure":
    """Draws how far figures differ from fold to fold, a box for each classifier, with a point for each fold.

    Args:
        figures: For each classifier, the figures by their names, each of all folds, shape `(folds,)`.
        title: What it says above.
    """
    names = list(next(iter(figures.values())))
    figure, axes = _figure(title, rows=len(names), height=max(1.0, 0.24 * len(figures)))
    for name, own in zip(names, axes, strict=True):
        found = {classifier: values[name].numpy() for classifier, values in figures.items() if name in values}
        places = range(len(found), 0, -1)
        own.boxplot([*found.values()], orientation="horizontal", positions=[*places], widths=0.6, showfliers=False)
        for place, values in zip(places, found.values(), strict=True):
            shift = torch.linspace(-0.2, 0.2, len(values)).numpy()
            own.plot(values, place + shift, ".", color=COLORS[0], alpha=0.4, markersize=3)
        own.set_yticks([*places], [_short(classifier, 16) for classifier in found])
        own.set_ylabel(name)
    figure.tight_layout()
    return figure


def _figure(title: str, size: float = 1.0, rows: int = 1, height: float = 1.0) -> "tuple[Figure, Any]":
    """Returns a figure of 350 by 240 dots, as TensorBoard shows one, and its axes, one above another."""
    from matplotlib.figure import Figure

    figure = Figure((4.375 * size, 3.0 * size * height), dpi=80)  # 10-point letters are 11 dots high, and so legible
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows)
    figure.subplots_adjust(left=0.15, right=0.97, bottom=0.17, top=0.83)
    return figure, axes


def _short(name: str, most: int = 24) -> str:
    """Returns a name as it can be drawn: a pair of dollars would be a formula."""
    name = " ".join(name.split())
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")
