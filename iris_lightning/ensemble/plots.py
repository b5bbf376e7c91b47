"""Plots of a cross-validation."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iris_lightning.ensemble.results import metric_names
from iris_lightning.plots import draw_confusion, draw_spread
from iris_lightning.runs.folders import SUMMARY

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def draw_folds(
    summary: dict[str, Any], folds: "Mapping[str, ArrayLike]"
) -> "Iterator[tuple[str, Figure]]":
    """Draws the confusion matrix of the held-out rows, and the metrics of all folds.

    Args:
        summary: The content of `summary.json`.
        folds: The columns of `folds.csv`.

    Yields:
        The name and figure of each plot.
    """
    shape = f"{summary['repeats']} x {summary['folds']} folds"
    confusion = draw_confusion(summary["confusion"], summary["classes"], f"held-out rows, {shape}")
    yield "confusion", confusion
    spread: dict[str, dict[str, ArrayLike]] = {"iris_lightning": {}}
    for name in metric_names(summary):
        spread["iris_lightning"][name] = folds[name]
    for baseline in summary.get("baselines", {}):
        if baseline == "majority":  # so far off that the other boxes would shrink to lines
            continue
        spread[baseline] = {}
        for name in spread["iris_lightning"]:
            column = f"{baseline}_{name}"
            if column in folds:
                spread[baseline][name] = folds[column]
    yield "folds", draw_spread(spread, shape)


def draw_run(run: Path) -> "Iterator[tuple[str, Figure]]":
    """Draws the plots of a cross-validation from the files in its folder."""
    import polars as pl

    summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    yield from draw_folds(summary, pl.read_csv(run / "folds.csv").to_dict(as_series=False))
