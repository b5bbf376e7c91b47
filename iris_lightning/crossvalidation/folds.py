"""The folds of a repeated stratified cross-validation, and their batches side by side."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.noise import ClassNoise, noise_of
from iris_lightning.sharing import generator_of
from iris_lightning.tables.table import Table

__all__ = ["Fold", "FoldBatch", "FoldBatches", "TrainBatches", "assign_folds", "folds_of", "stacks_of"]

MAX_FOLDS = 2**20  # of all repeats


class FoldBatch(NamedTuple):
    """A batch of each fold of a stack; folds with fewer rows have some of their own again, which count nothing."""

    features: Tensor  # float32, shape (folds, rows, features)
    targets: Tensor  # int64, shape (folds, rows)
    share: Tensor  # float32, shape (folds, rows): of the row in the mean over its fold's batch, so 0 does not count


class Fold(NamedTuple):
    """A fold: the rows that its classifier is trained on, and those that are held out."""

    repeat: int
    number: int  # within the repeat
    seed: int  # of its initial weights and the order of its rows
    train: Tensor  # row numbers of the table, int64
    held_out: Tensor  # row numbers of the table, int64


def assign_folds(table: Table, folds: int, repeats: int, fold_seed: int) -> Tensor:
    """Returns the fold in which each row is held out, int32 of shape `(repeats, rows)`.

    They are those of scikit-learn's `RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats,
    random_state=fold_seed)` over all rows of the table.
    """
    from sklearn.model_selection import RepeatedStratifiedKFold

    rows_of_class = table.targets.bincount(minlength=len(table.class_names))
    fewest, rarest = int(rows_of_class.min()), table.class_names[int(rows_of_class.argmin())]
    if folds < 2:
        raise UserError(f"expected at least 2, got {folds}", "folds")
    if folds > fewest:
        raise UserError(f"expected at most {fewest}, the rows of the rarest class, {rarest!r}; got {folds}", "folds")
    if repeats < 1 or repeats * folds > MAX_FOLDS:
        raise UserError(f"expected 1 to {MAX_FOLDS // folds}, got {repeats}", "repeats")
    if not 0 <= fold_seed < 2**32:
        raise UserError(f"expected a whole number from 0 to {2**32 - 1}, got {fold_seed}", "fold_seed")
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=fold_seed)
    assigned = torch.empty(repeats, len(table.targets), dtype=torch.int32)
    splits = splitter.split(np.zeros(len(table.targets)), table.targets.numpy())
    for (repeat, number), (_, held_out) in zip(np.ndindex(repeats, folds), splits, strict=True):
        assigned[repeat, torch.from_numpy(held_out)] = number
    return assigned


def folds_of(assigned: Tensor, seed: int) -> Iterator[Fold]:
    """Yields the folds, repeat by repeat; the seed of each follows from that of the run, the repeat and the fold."""
    for repeat, numbers in enumerate(assigned):
        for number in range(int(numbers.max()) + 1):
            mixed = int(np.random.SeedSequence([seed, repeat, number]).generate_state(1)[0])
            held_out = numbers == number
            yield Fold(repeat, number, mixed, (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0])


def stacks_of(folds: Iterable[Fold], batch_size: int, max_parallel: int) -> Iterator[list[Fold]]:
    """Yields the folds in stacks of at most so many, whose epochs have equally many steps.

    In a step in which a fold had no rows, momentum would change its weights all the same.
    """
    waiting: dict[int, list[Fold]] = {}
    for fold in folds:
        steps = math.ceil(len(fold.train) / batch_size)
        stack = waiting.setdefault(steps, [])
        stack.append(fold)
        if len(stack) >= max_parallel:
            yield waiting.pop(steps)
    yield from waiting.values()


class FoldBatches:
    """Loads rows of the folds of a stack side by side, in order.

    Args:
        table: The table.
        rows: The row numbers of each fold.
        batch_size: Rows of a batch of each fold.
    """

    def __init__(self, table: Table, rows: Sequence[Tensor], batch_size: int) -> None:
        self.values = (table.features, table.targets)
        self.sizes = torch.tensor([len(numbers) for numbers in rows])
        self.shortest, longest = int(self.sizes.min()), int(self.sizes.max())
        # A shorter fold has its first row again at its end.
        self.rows = torch.stack([torch.cat([own, own[:1].expand(longest - len(own))]) for own in rows])
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(self.rows.shape[1] / self.batch_size)

    def __iter__(self) -> Iterator[FoldBatch]:
        return self._batches(self.rows)

    def _share(self, first: int, end: int) -> Tensor:
        if end <= self.shortest:  # the same, faster
            return torch.full((len(self.sizes), end - first), 1 / (end - first))
        sizes = (self.sizes.clamp(max=end) - first).clamp(min=0)[:, None]
        return torch.where(torch.arange(end - first) < sizes, 1 / sizes, 0.0)

    def _batches(
        self, rows: Tensor, noise: ClassNoise | None = None, draws: Tensor | None = None
    ) -> Iterator[FoldBatch]:
        for first in range(0, rows.shape[1], self.batch_size):
            end = min(first + self.batch_size, rows.shape[1])
            numbers, shape = rows[:, first:end].flatten(), (len(rows), end - first)
            # `index_select` is faster than an index of two dimensions.
            features, targets = (values.index_select(0, numbers).unflatten(0, shape) for values in self.values)
            if noise is not None and draws is not None:
                features = noise(features, targets, draws[:, first:end])
            yield FoldBatch(features, targets, self._share(first, end))


class TrainBatches(FoldBatches):
    """Loads the train rows of the folds of a stack, each in the order that it would have in an `IrisDataModule`.

    Args:
        data: The data module, for its table, batch size and noise.
        folds: The folds of the stack.
    """

    def __init__(self, data: IrisDataModule, folds: Sequence[Fold]) -> None:
        super().__init__(data.table, [fold.train for fold in folds], data.batch_size)
        self.seeds = [fold.seed for fold in folds]
        self.epoch = 0
        self.sampler = self  # where Lightning looks for what to tell the epoch
        self.noise: ClassNoise | None = None
        if data.hparams["noise"] > 0:
            features, targets = self.values
            self.noise = ClassNoise.stacked(
                [data.class_noise(features[fold.train], targets[fold.train]) for fold in folds]
            )

    def set_epoch(self, epoch: int) -> None:
        """Notes the epoch, from which the order follows."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[FoldBatch]:
        order = torch.arange(self.rows.shape[1]).repeat(len(self.seeds), 1)
        draws = torch.zeros(*order.shape, self.values[0].shape[1] if self.noise else 0)
        for i, (seed, size) in enumerate(zip(self.seeds, self.sizes.tolist(), strict=True)):
            torch.randperm(size, generator=generator_of(seed, self.epoch), out=order[i, :size])
            if self.noise:
                draws[i, :size] = noise_of(seed, self.epoch, (size, draws.shape[2]))
        return self._batches(self.rows.gather(1, order), self.noise, draws)
