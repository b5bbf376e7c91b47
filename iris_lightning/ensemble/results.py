"""The metrics of a cross-validation and their standard errors."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iris_lightning.ensemble.members import assign_folds
from iris_lightning.metrics import make_metrics
from iris_lightning.scores import make_scores
from iris_lightning.table import Table

MAX_PRINTED_CLASSES = 12
CLASS_SCORES = ("precision", "recall", "f1-score", "support")
Scores = dict[str, NDArray[np.float64]]  # metric name -> value per fold, shape (repeats, folds)


@dataclass(eq=False)
class CrossValidation:
    """A repeated stratified cross-validation of a table, and its results.

    Args:
        table: The table.
        folds: Number of folds per repeat.
        repeats: Number of repeats, each with a different assignment of rows to folds.
        fold_seed: Seed of the folds: scikit-learn's `random_state`.
        seed: Seed from which the seed of each fold's classifier is derived.
        members: Number of classifiers per fold.
        choose: `best` or `last`: which epoch's weights predict.

    Attributes:
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
        probabilities: Predictions for each row while held out, shape `(repeats, rows, classes)`.
        curves: For each epoch, a tensor per stack: the metrics in `CURVES` for each network, shape
            `(4, networks)`.
        epochs: Maximum number of epochs of a fold.
        networks: For each stack, the state dict of its networks, stacked.
        baselines: Scores of scikit-learn's classifiers, by name.

    Raises:
        UserError: If a class has fewer rows than there are folds.
    """

    table: Table
    folds: int = 10
    repeats: int = 10
    fold_seed: int = 0
    seed: int = 20
    members: int = 1
    choose: str = "best"

    def __post_init__(self) -> None:
        self.assigned = assign_folds(self.table, self.folds, self.repeats, self.fold_seed)
        shape = (*self.assigned.shape, len(self.table.class_names))
        self.probabilities = np.full(shape, np.nan)
        self.curves = defaultdict[int, list[Tensor]](list)
        self.epochs = 0
        self.networks: list[dict[str, Tensor]] = []
        self.baselines: dict[str, Scores] = {}

    @cached_property
    def scores(self) -> Scores:
        """Metrics of each fold, available once all folds are trained."""
        return score_folds(self.table, self.probabilities, self.assigned)

    def __str__(self) -> str:
        """Returns the metrics of the folds, and of each class if there are few, as tables."""
        summary = self.summary()
        names = list(self.scores)
        rows = [["", *names], _cells("iris_lightning", summary, names)]
        for name, baseline in summary["baselines"].items():
            rows.append(_cells(name, baseline, names))
            if baseline["difference"]:
                rows.append(_cells("  ours minus theirs", baseline["difference"], names, "+"))
        lines = []
        for name, *cells in rows:
            columns = "".join(f"{cell:20}" for cell in cells)
            lines.append(f"{name:30}{columns}".rstrip())
        over = "repeats" if self.repeats > 1 else "folds"
        meaning = (
            f"±: standard error over the {over}; for a difference, it includes the sampling of the "
            "rows (corrected resampled t-test)"
        )
        return "\n".join([*lines, meaning, *self._class_lines(summary["by_class"])])

    def _class_lines(self, by_class: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Returns precision, recall, F1 and rows of each class as lines of a table."""
        if len(by_class) > MAX_PRINTED_CLASSES:
            return []
        lines = ["", f"{'class (all folds)':30}{'precision':12}{'recall':12}{'f1':12}rows"]
        for name, scores in by_class.items():
            cells = [f"{scores[key]:<12.4f}" for key in CLASS_SCORES[:3]]
            lines.append(f"{name:30.29}{''.join(cells)}{scores['support'] / self.repeats:.0f}")
        return lines

    def summary(self) -> dict[str, Any]:
        """Returns the content of `summary.json`.

        It has each metric with its mean, standard error and value in each fold, the confusion
        matrix, precision, recall and F1 of each class, and the differences from the baselines.
        """
        summary: dict[str, Any] = {"rows": len(self.table.targets)}
        for name in ("folds", "repeats", "fold_seed", "epochs", "members", "choose"):
            summary[name] = getattr(self, name)
        summary |= _summarize(self.scores)
        summary |= self._class_report()
        summary["baselines"] = {}
        for baseline, scores in self.baselines.items():
            differences = {
                name: difference(self.scores[name], values) for name, values in scores.items()
            }
            summary["baselines"][baseline] = {**_summarize(scores), "difference": differences}
        return summary

    def _class_report(self) -> dict[str, Any]:
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        names = self.table.class_names
        targets = np.tile(self.table.targets, self.repeats)
        predictions = self.probabilities.argmax(axis=2).ravel()
        labels = range(len(names))
        confusion = confusion_matrix(targets, predictions, labels=labels)
        columns = precision_recall_fscore_support(
            targets, predictions, labels=labels, zero_division=0
        )
        by_class = {}
        for name, *scores in zip(names, *columns, strict=True):
            by_class[name] = dict(zip(CLASS_SCORES, map(float, scores), strict=True))
        return {"classes": names, "confusion": confusion.tolist(), "by_class": by_class}


def score_folds(table: Table, probabilities: NDArray[np.float64], assigned: Tensor) -> Scores:
    """Computes the metrics of each fold.

    They are those of `iris_lightning/metrics.py` and `scores.py`, and scikit-learn's `log_loss`, in
    nats.

    Args:
        table: The table.
        probabilities: Predictions for each row while held out, shape `(repeats, rows, classes)`.
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
    """
    from sklearn.metrics import log_loss

    labels = range(len(table.class_names))
    metrics = make_metrics(len(labels)) | make_scores(len(labels))
    values = defaultdict[str, list[float]](list)
    for repeat, fold in np.ndindex(len(assigned), int(assigned.max()) + 1):
        rows = assigned[repeat] == fold
        targets = table.targets[rows]
        predicted = torch.from_numpy(probabilities[repeat])[rows]
        for name, metric in metrics.items():
            # The metrics take logits, such as the logarithms of probabilities.
            values[name].append(float(metric(predicted.log(), targets)))
        values["log_loss"].append(log_loss(targets, predicted, labels=labels))
    scores = {}
    for name, fold_values in values.items():
        scores[name] = np.reshape(fold_values, (len(assigned), -1))
    return scores


def _summarize(scores: Scores) -> dict[str, Any]:
    """Returns the mean and standard error of each metric, and its values by repeat and fold."""
    return {
        name: {**mean_and_error(values), "values": values.tolist()}
        for name, values in scores.items()
    }


def mean_and_error(values: NDArray[np.float64]) -> dict[str, float]:
    """Returns the mean and standard deviation of a metric, and the standard error of the mean.

    The standard error is computed over the means of the repeats. It covers the random assignment of
    rows to folds and the random initial weights, but not the sampling of the rows themselves. With
    a single repeat, it is computed over the folds.

    Args:
        values: Value of the metric in each fold, shape `(repeats, folds)`.
    """
    samples = values.mean(axis=1)
    if len(values) == 1:
        samples = values[0]
    mean = float(values.mean())
    deviation = float(values.std(ddof=1))
    error = float(samples.std(ddof=1)) / len(samples) ** 0.5
    return {"mean": mean, "std": deviation, "standard_error": error}


def difference(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, float]:
    """Returns the mean difference between two classifiers, and its standard error.

    The folds are not independent, as they share train rows. The variance is therefore that of the
    corrected resampled t-test: `(1 / number of values + held-out rows / train rows) * variance over
    the folds` (Nadeau and Bengio, "Inference for the Generalization Error", 2003; for repeated
    folds, Bouckaert and Frank, 2004).

    Args:
        ours: Value of a metric in each fold, shape `(repeats, folds)`.
        theirs: The same metric of the other classifier.
    """
    differences = ours - theirs
    folds = differences.shape[1]
    held_out_to_train = 1 / (folds - 1)
    variance = (1 / differences.size + held_out_to_train) * differences.var(ddof=1)
    return {"mean": float(differences.mean()), "standard_error": float(variance**0.5)}


def _cells(name: str, metrics: Mapping[str, Any], names: list[str], sign: str = "") -> list[str]:
    cells = [name]
    for metric in names:
        cell = "-"
        if metric in metrics:
            mean = metrics[metric]["mean"]
            error = metrics[metric]["standard_error"]
            cell = f"{mean:{sign}.4f} ± {error:.4f}"
        cells.append(cell)
    return cells
