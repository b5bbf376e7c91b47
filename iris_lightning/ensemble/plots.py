"""Plots of a cross-validation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from iris_lightning.plots import draw_confusion
from iris_lightning.runs.folders import SUMMARY

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_run(run: Path) -> "Iterator[tuple[str, Figure]]":
    """Yields the name and figure of each plot: the confusion matrix of the held-out rows."""
    summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    title = f"held-out rows, {summary['repeats']} x {summary['folds']} folds"
    yield "confusion", draw_confusion(summary["confusion"], summary["classes"], title)
