"""Plots of a cross-validation."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from iris_lightning.ensemble.results import metric_names
from iris_lightning.plots import draw_confusion, draw_spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def draw_folds(
    summary: dict[str, Any], folds: "Mapping[str, ArrayLike]"
) -> "Iterator[tuple[str, Figure]]":
    """Yields the confusion matrix of the held-out rows and the spread of the folds, with names.

    Args:
        summary: The content of `summary.json`.
        folds: The columns of `folds.csv`.
    """
    shape = f"{summary['repeats']} x {summary['folds']} folds"
    yield (
        "confusion",
        draw_confusion(summary["confusion"], summary["classes"], f"held-out rows, {shape}"),
    )
    prefixes = {"iris_lightning": ""}
    for name in summary.get("baselines", {}):
        if name != "majority":  # so far away that the others could not be told apart
            prefixes[name] = f"{name}_"
    spread = {}
    for classifier, prefix in prefixes.items():
        names = [name for name in metric_names(summary) if prefix + name in folds]
        spread[classifier] = {name: folds[prefix + name] for name in names}
    yield "folds", draw_spread(spread, shape)
