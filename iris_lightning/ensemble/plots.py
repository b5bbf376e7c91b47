"""Plots of a cross-validation."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from iris_lightning.plots import draw_confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_summary(summary: Mapping[str, Any]) -> "Iterator[tuple[str, Figure]]":
    """Yields the name and figure of each plot: the confusion matrix of the held-out rows."""
    title = f"held-out rows, {summary['repeats']} x {summary['folds']} folds"
    yield "confusion", draw_confusion(summary["confusion"], summary["classes"], title)
