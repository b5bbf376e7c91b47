"""The members of a stack and their rows; here, each fold of a cross-validation is a member."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iris_lightning.errors import UserError
from iris_lightning.table import Table


class Member(NamedTuple):
    """One classifier of a stack.

    Attributes:
        repeat: Repeat of the cross-validation.
        fold: Fold within the repeat.
        seed: Seed of the initial weights and of the order of the train rows.
        train: Row numbers to train on, int64.
        val: Row numbers to compute the validation curves on, int64.
        held_out: Row numbers to predict after training, int64.
    """

    repeat: int
    fold: int
    seed: int
    train: Tensor
    val: Tensor
    held_out: Tensor


def assign_folds(table: Table, folds: int, repeats: int, fold_seed: int) -> Tensor:
    """Assigns each row to the fold that holds it out.

    The folds are those of scikit-learn's `RepeatedStratifiedKFold(n_splits=folds,
    n_repeats=repeats, random_state=fold_seed)` over all rows of the table.

    Returns:
        Fold numbers, int32, shape `(repeats, rows)`.

    Raises:
        UserError: If a class has fewer rows than there are folds.
    """
    from sklearn.model_selection import RepeatedStratifiedKFold

    targets = table.targets
    rows, rarest = targets.bincount(minlength=len(table.class_names)).min(dim=0)
    if folds > rows:
        found = f"the class {table.class_names[rarest]!r} has {rows} rows"
        raise UserError(f"{found}; expected at least one per fold, for {folds} folds", "folds")
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
    """Yields one member per fold; its seed is derived from `seed`, the repeat and the fold."""
    for repeat, fold in np.ndindex(len(assigned), int(assigned.max()) + 1):
        sequence = np.random.SeedSequence([seed, repeat, fold])
        member_seed = int(sequence.generate_state(1)[0])
        is_held_out = assigned[repeat] == fold
        train = (~is_held_out).nonzero()[:, 0]
        held_out = is_held_out.nonzero()[:, 0]
        yield Member(repeat, fold, member_seed, train, val=held_out, held_out=held_out)


def split_into_stacks(
    members: Iterable[Member], batch_size: int, max_parallel: int
) -> Iterator[list[Member]]:
    """Groups members into stacks of at most `max_parallel`, all with equally many steps per epoch.

    If a member had run out of rows while others still train, its momentum would keep changing its
    weights.
    """
    open_stacks: dict[int, list[Member]] = {}
    for member in members:
        steps = math.ceil(len(member.train) / batch_size)
        stack = open_stacks.setdefault(steps, [])
        stack.append(member)
        if len(stack) >= max_parallel:
            yield open_stacks.pop(steps)
    yield from open_stacks.values()
