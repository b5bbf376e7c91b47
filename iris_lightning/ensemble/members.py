"""The members of a stack and their rows: here the folds of a cross-validation."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iris_lightning.errors import UserError
from iris_lightning.tables.table import Table


class Member(NamedTuple):
    """One classifier of a stack. Rows are row numbers of the table, int64."""

    repeat: int
    fold: int  # within the repeat
    seed: int  # of the initial weights and the order of the train rows
    train: Tensor
    val: Tensor  # of which the curves are
    held_out: Tensor  # predicted at the end


def assign_folds(table: Table, folds: int, repeats: int, fold_seed: int) -> Tensor:
    """Returns the fold in which each row is held out, int32 of shape `(repeats, rows)`.

    The folds are those of scikit-learn's `RepeatedStratifiedKFold(n_splits=folds,
    n_repeats=repeats, random_state=fold_seed)` over all rows of the table.
    """
    from sklearn.model_selection import RepeatedStratifiedKFold

    targets = table.targets
    fewest = int(targets.bincount(minlength=len(table.class_names)).min())
    if folds > fewest:
        found = f"expected at most {fewest}, the rows of the rarest class; got {folds}"
        raise UserError(found, "folds")
    try:
        splitter = RepeatedStratifiedKFold(
            n_splits=folds, n_repeats=repeats, random_state=fold_seed
        )
        assigned = torch.empty(repeats, len(targets), dtype=torch.int32)
        for i, (_, held_out) in enumerate(splitter.split(targets, targets)):
            assigned[i // folds, torch.from_numpy(held_out)] = i % folds
    except ValueError as error:
        raise UserError(str(error)) from error
    return assigned


def members_of_folds(assigned: Tensor, seed: int) -> Iterator[Member]:
    """Yields a member for each fold, with a seed that follows from `seed`, repeat and fold."""
    for repeat, fold in np.ndindex(len(assigned), int(assigned.max()) + 1):
        own_seed = np.random.SeedSequence([seed, repeat, fold]).generate_state(1)[0]
        is_held_out = assigned[repeat] == fold
        train = (~is_held_out).nonzero()[:, 0]
        held_out = is_held_out.nonzero()[:, 0]
        yield Member(repeat, fold, int(own_seed), train, val=held_out, held_out=held_out)


def split_into_stacks(
    members: Iterable[Member], batch_size: int, max_parallel: int
) -> Iterator[list[Member]]:
    """Yields the members in stacks of at most `max_parallel`, whose epochs have equally many steps.

    In a step without rows of its own, a member would still be changed by its momentum.
    """
    waiting: dict[int, list[Member]] = {}
    for member in members:
        steps = math.ceil(len(member.train) / batch_size)
        stack = waiting.setdefault(steps, [])
        stack.append(member)
        if len(stack) >= max_parallel:
            yield waiting.pop(steps)
    yield from waiting.values()
