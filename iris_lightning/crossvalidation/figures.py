"""What held-out rows say of a classifier: figures of each fold, their means, and how far those can be trusted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIGURES", "difference", "figures_of_folds", "figures_of_rows", "summary_of"]

FIGURES = ("accuracy", "log_loss", "f1")


def figures_of_folds(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], assigned: NDArray[np.int32]
) -> dict[str, NDArray[np.float64]]:
    """Returns accuracy, log-loss and F1 of each fold, shape `(repeats, folds)`.

    They are scikit-learn's `accuracy_score`, `log_loss` (in nats, probabilities below 2.2e-16 counting as that) and
    `f1_score(average="macro")`, here of all folds at once.

    Args:
        targets: Class of each row, shape `(rows,)`.
        probabilities: Those of the classes when the row was held out, shape `(repeats, rows, classes)`.
        assigned: The fold in which each row was held out, shape `(repeats, rows)`.
    """
    repeats, _, classes = probabilities.shape
    folds = int(assigned.max()) + 1
    fold = (assigned + folds * np.arange(repeats)[:, None]).ravel()
    true = np.tile(targets, repeats)
    cells = (fold * classes + true) * classes + probabilities.argmax(axis=2).ravel()
    confusion = np.bincount(cells, minlength=repeats * folds * classes**2).reshape(-1, classes, classes)
    rows, correct = confusion.sum(axis=(1, 2)), np.einsum("fcc->fc", confusion)
    occurrences = confusion.sum(axis=1) + confusion.sum(axis=2)
    f1 = 2 * correct / np.maximum(occurrences, 1)
    eps = np.finfo(np.float64).eps
    losses = -np.log(probabilities.reshape(-1, classes)[np.arange(len(true)), true].clip(eps, 1 - eps))
    found = {
        "accuracy": correct.sum(axis=1) / rows,
        "log_loss": np.bincount(fold, losses) / rows,
        "f1": f1.sum(axis=1) / (occurrences > 0).sum(axis=1),
    }
    return {name: values.reshape(repeats, folds) for name, values in found.items()}


def summary_of(values: NDArray[np.float64]) -> dict[str, float]:
    """Returns mean and standard deviation over the folds, and the mean's standard error.

    The standard error is that over the repeats, so of how the rows happened to be shared out and the weights to begin;
    with a single repeat, it is that over its folds. Of another sample of rows it says nothing.

    Args:
        values: A figure of each fold, shape `(repeats, folds)`.
    """
    independent = values.mean(axis=1) if len(values) > 1 else values[0]
    error = independent.std(ddof=1) / len(independent) ** 0.5
    return {"mean": float(values.mean()), "std": float(values.std(ddof=1)), "standard_error": float(error)}


def difference(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, float]:
    """Returns the mean difference over the folds, and its standard error for another sample of rows.

    It is that of the corrected resampled t-test (Nadeau and Bengio, "Inference for the Generalization Error", 2003; for
    repeated folds, Bouckaert and Frank 2004): `sqrt((1 / all folds + held-out rows / train rows) * variance)`, since
    folds share train rows.

    Args:
        ours: A figure of each fold, shape `(repeats, folds)`.
        theirs: That of another classifier on the same folds.
    """
    found = ours - theirs
    variance = (1 / found.size + 1 / (found.shape[1] - 1)) * found.var(ddof=1)
    return {"mean": float(found.mean()), "standard_error": float(variance**0.5)}


def figures_of_rows(
    class_names: list[str], targets: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    """Returns the confusion of all repeats, a row for each true class, and each class' precision, recall and F1."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    classes = range(len(class_names))
    true, predicted = np.tile(targets, len(probabilities)), probabilities.argmax(axis=2).ravel()
    scores = precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0)[:3]
    names = ("precision", "recall", "f1")
    rows = zip(*(own.tolist() for own in scores), strict=True)
    by_class = {name: dict(zip(names, own, strict=True)) for name, own in zip(class_names, rows, strict=True)}
    confusion = confusion_matrix(true, predicted, labels=classes).tolist()
    return {"classes": class_names, "confusion": confusion, "by_class": by_class}
