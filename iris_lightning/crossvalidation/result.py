"""A cross-validation: its folds, what is known of them so far, and the figures that follow."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iris_lightning.crossvalidation.baselines import figures_of_baselines
from iris_lightning.crossvalidation.figures import difference, figures_of_folds, figures_of_rows, summary_of
from iris_lightning.crossvalidation.folds import Fold, assign_folds, folds_of
from iris_lightning.tables.table import Table

__all__ = ["CrossValidation", "Part"]


class Part(NamedTuple):
    """What a stack of folds came to."""

    places: NDArray[np.int64]  # repeat and number of each fold, shape (folds, 2)
    probabilities: NDArray[np.float64]  # of the held-out rows, shape (folds, most held-out rows, classes)
    max_epochs: int
    epochs: NDArray[np.int64]  # that the curves are of, shape (points,)
    curves: NDArray[np.float32]  # the `CURVES` of the folds, shape (points, 4, folds)


class CrossValidation:
    """A repeated stratified cross-validation of a table.

    Args:
        table: The table.
        folds: Folds of each repeat; a UserError says where there are too few rows for them.
        repeats: Repeats.
        fold_seed: Seed of the folds, as scikit-learn's `random_state`.
        seed: Seed from which those of the folds' classifiers follow.

    Attributes:
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
        done: Whether each fold has been trained, shape `(repeats, folds)`.
        probabilities: Those of the classes for each row when it is held out, shape `(repeats, rows, classes)`.
        max_epochs: How many epochs each fold has been trained.
        epochs: Those that the curves are of, shape `(points,)`.
        curves: Loss and accuracy of train and held-out rows of each fold, shape `(points, 4, repeats, folds)`.
        baselines: The figures of scikit-learn's classifiers, by their names, once they are asked for.
    """

    def __init__(self, table: Table, folds: int = 10, repeats: int = 10, fold_seed: int = 0, seed: int = 20) -> None:
        self.table = table
        self.fold_seed = fold_seed
        self.seed = seed
        self.assigned = assign_folds(table, folds, repeats, fold_seed)
        self.done = np.zeros((repeats, folds), bool)
        self.probabilities = np.full((*self.assigned.shape, len(table.class_names)), np.nan)
        self.max_epochs = 0
        self.epochs = np.empty(0, np.int64)
        self.curves = np.empty((0, 4, *self.done.shape), np.float32)
        self.baselines: dict[str, dict[str, NDArray[np.float64]]] = {}

    def remaining(self) -> Iterator[Fold]:
        """Yields the folds that have not been trained yet."""
        return (fold for fold in folds_of(self.assigned, self.seed) if not self.done[fold.repeat, fold.number])

    def add(self, part: Part) -> None:
        """Adds what a stack of folds came to."""
        if not len(self.epochs):
            self.max_epochs, self.epochs = int(part.max_epochs), part.epochs
            self.curves = np.empty((*part.curves.shape[:2], *self.done.shape), np.float32)
        for i, (repeat, number) in enumerate(part.places):
            self.done[repeat, number] = True
            held_out = self.assigned[repeat].numpy() == number
            self.probabilities[repeat, held_out] = part.probabilities[i, : held_out.sum()]
            self.curves[:, :, repeat, number] = part.curves[:, :, i]

    def add_baselines(self) -> None:
        """Adds the figures of scikit-learn's classifiers on the same folds."""
        self.baselines = dict(figures_of_baselines(self.table, self.assigned, self.seed))

    @property
    def figures(self) -> dict[str, NDArray[np.float64]]:
        """Accuracy, log-loss and F1 of each fold, shape `(repeats, folds)`."""
        return figures_of_folds(self.table.targets.numpy(), self.probabilities, self.assigned.numpy())

    def fold_figures(self) -> dict[str, list[Any]]:
        """Returns the columns of a table with a row for each repeat and fold."""
        found: dict[str, list[Any]] = {name: [] for name in ("repeat", "fold", "seed", "train_rows", "held_out_rows")}
        for fold in folds_of(self.assigned, self.seed):
            values = fold.repeat, fold.number, fold.seed, len(fold.train), len(fold.held_out)
            for column, value in zip(found.values(), values, strict=True):
                column.append(value)
        found |= {name: values.ravel().tolist() for name, values in self.figures.items()}
        for baseline, figures in self.baselines.items():
            found |= {f"{baseline}_{name}": values.ravel().tolist() for name, values in figures.items()}
        return found

    def summary(self) -> dict[str, Any]:
        """Returns the figures over all folds."""
        ours = self.figures
        repeats, folds = self.done.shape
        found: dict[str, Any] = {"rows": len(self.table.targets), "folds": folds, "repeats": repeats}
        found |= {"fold_seed": self.fold_seed, "epochs": self.max_epochs}
        found |= {name: summary_of(values) for name, values in ours.items()}
        found |= figures_of_rows(self.table.class_names, self.table.targets.numpy(), self.probabilities)
        if self.baselines:
            found["baselines"] = {
                name: {
                    **{key: summary_of(values) for key, values in theirs.items()},
                    "difference": {key: difference(ours[key], values) for key, values in theirs.items()},
                }
                for name, theirs in self.baselines.items()
            }
        return found
