"""Pictures of a cross-validation, from what it prints and writes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from iris_lightning.crossvalidation.figures import FIGURES
from iris_lightning.plots import draw_confusion, draw_spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_folds"]


def draw_folds(summary: Mapping[str, Any], folds: Mapping[str, Sequence[float]]) -> "Iterator[tuple[str, Figure]]":
    """Yields pictures, with their names: the confusion matrix of held-out rows, and the spread of the folds.

    Args:
        summary: What `summary.json` holds.
        folds: The columns of `folds.csv`.
    """
    times = f" in {summary['repeats']} repeats" if summary["repeats"] > 1 else ""
    title = f"held-out rows{times} of {summary['folds']} folds"
    yield "confusion", draw_confusion(torch.tensor(summary["confusion"]), summary["classes"], title)
    others = summary.get("baselines", {}).keys() - {"majority"}  # beside which no others could be told apart
    classifiers = {"iris_lightning": "", **{name: f"{name}_" for name in sorted(others)}}
    figures = {
        classifier: {name: torch.tensor(folds[prefix + name]) for name in FIGURES if prefix + name in folds}
        for classifier, prefix in classifiers.items()
    }
    yield "folds", draw_spread(figures, f"{summary['repeats'] * summary['folds']} folds, and their quartiles")
