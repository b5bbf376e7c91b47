"""What the held-out rows of a cross-validation say, and how far it can be trusted."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iris_lightning.ensemble.members import assign_folds
from iris_lightning.metrics import make_metrics
from iris_lightning.tables.table import Table

Scores = dict[str, NDArray[np.float64]]  # metrics of each fold, shape (repeats, folds), by name


@dataclass(eq=False)
class CrossValidation:
    """A repeated stratified cross-validation of a table.

    Args:
        table: The table.
        folds: Folds of each repeat.
        repeats: Repeats, each with other folds.
        fold_seed: Seed of the folds, as scikit-learn's `random_state`.
        seed: Seed from which those of the members follow.

    Attributes:
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
        probabilities: Of each row while it is held out, shape `(repeats, rows, classes)`.
        curves: By epoch, loss and accuracy of train and validation rows, shape `(4, members)` for
            each stack.
        baselines: The metrics of scikit-learn's classifiers, by name.

    Raises:
        UserError: If the table has too few rows for the folds.
    """

    table: Table
    folds: int = 10
    repeats: int = 10
    fold_seed: int = 0
    seed: int = 20

    def __post_init__(self) -> None:
        self.assigned = assign_folds(self.table, self.folds, self.repeats, self.fold_seed)
        shape = (*self.assigned.shape, len(self.table.class_names))
        self.probabilities = np.full(shape, np.nan)
        self.curves = defaultdict[int, list[Tensor]](list)
        self.epochs = 0
        self.baselines: dict[str, Scores] = {}

    @cached_property
    def scores(self) -> Scores:
        """The metrics of each fold, shape `(repeats, folds)`, once all have been trained."""
        return score_folds(self.table, self.probabilities, self.assigned)

    def fold_columns(self) -> dict[str, NDArray[Any]]:
        """Returns columns of metrics, also those of the baselines, with an entry for each fold."""
        repeat, fold = np.indices((self.repeats, self.folds))
        columns = {"repeat": repeat, "fold": fold, **self.scores}
        for baseline, scores in self.baselines.items():
            for name, values in scores.items():
                columns[f"{baseline}_{name}"] = values
        return {name: values.ravel() for name, values in columns.items()}

    def summary(self) -> dict[str, Any]:
        """Returns the metrics over all folds, with standard errors, and the confusion matrix."""
        found: dict[str, Any] = {
            "rows": len(self.table.targets),
            "folds": self.folds,
            "repeats": self.repeats,
            "fold_seed": self.fold_seed,
            "epochs": self.epochs,
        }
        found.update(_summaries(self.scores))
        found.update(self._by_class())
        baselines = {}
        for baseline, scores in self.baselines.items():
            differences = {}
            for name, values in scores.items():
                differences[name] = difference(self.scores[name], values)
            baselines[baseline] = {**_summaries(scores), "difference": differences}
        if baselines:
            found["baselines"] = baselines
        return found

    def _by_class(self) -> dict[str, Any]:
        from sklearn.metrics import classification_report, confusion_matrix

        names = self.table.class_names
        targets = np.tile(self.table.targets, self.repeats)
        predictions = self.probabilities.argmax(axis=2).ravel()
        labels = range(len(names))
        confusion = confusion_matrix(targets, predictions, labels=labels)
        report = classification_report(
            targets,
            predictions,
            labels=labels,
            target_names=names,
            output_dict=True,
            zero_division=0,
        )
        by_class = {name: report[name] for name in names}
        return {"classes": names, "confusion": confusion.tolist(), "by_class": by_class}


def metric_names(summary: dict[str, Any]) -> list[str]:
    """Returns the names of the metrics in what `CrossValidation.summary` returns."""
    return [name for name, value in summary.items() if isinstance(value, dict) and "mean" in value]


def score_folds(table: Table, predictions: NDArray[Any], assigned: Tensor) -> Scores:
    """Returns the metrics of each fold, shape `(repeats, folds)`.

    They are those of `iris_lightning/metrics.py`, and scikit-learn's `log_loss` in nats.

    Args:
        table: The table.
        predictions: Probabilities of each row while held out, shape `(repeats, rows, classes)`, or
            classes, shape `(repeats, rows)`, which have no log-loss.
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
    """
    from sklearn.metrics import log_loss

    labels = range(len(table.class_names))
    metrics = make_metrics(len(labels))
    scores = defaultdict[str, list[float]](list)
    for repeat, fold in np.ndindex(len(assigned), int(assigned.max()) + 1):
        rows = assigned[repeat] == fold
        targets = table.targets[rows]
        predicted = torch.from_numpy(predictions[repeat])[rows]
        for name, metric in metrics.items():
            metric.update(predicted, targets)
            scores[name].append(float(metric.compute()))  # type: ignore[arg-type]
            metric.reset()
        if predicted.ndim == 2:
            scores["log_loss"].append(log_loss(targets, predicted, labels=labels))
    return {name: np.reshape(values, (len(assigned), -1)) for name, values in scores.items()}


def _summaries(scores: Scores) -> dict[str, Any]:
    return {name: mean_and_error(values) for name, values in scores.items()}


def mean_and_error(values: NDArray[np.float64]) -> dict[str, float]:
    """Returns mean and standard deviation over the folds, and the standard error of the mean.

    The standard error is that over the repeats: of how the rows were assigned to folds and of the
    initial weights, not of another sample of rows. With a single repeat, it is that over its folds.

    Args:
        values: A metric of each fold, shape `(repeats, folds)`.
    """
    independent = values.mean(axis=1)
    if len(values) == 1:
        independent = values[0]
    error = independent.std(ddof=1) / len(independent) ** 0.5
    deviation = values.std(ddof=1)
    return {"mean": float(values.mean()), "std": float(deviation), "standard_error": float(error)}


def difference(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, float]:
    """Returns the mean difference over the folds, and its standard error for other rows.

    It is that of the corrected resampled t-test (Nadeau and Bengio, "Inference for the
    Generalization Error", 2003; for repeated folds, Bouckaert and Frank 2004), since folds share
    train rows: `sqrt((1 / all folds + held-out rows / train rows) * variance)`.

    Args:
        ours: A metric of each fold, shape `(repeats, folds)`.
        theirs: The same of another classifier.
    """
    found = ours - theirs
    held_out_share = 1 / (found.shape[1] - 1)
    variance = (1 / found.size + held_out_share) * found.var(ddof=1)
    return {"mean": float(found.mean()), "standard_error": float(variance**0.5)}
