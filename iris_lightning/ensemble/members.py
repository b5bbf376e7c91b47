"""The members of a stack and their rows.

A group is the members whose predictions are averaged: those of a fold, or of an ensemble in `fit`.
"""

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iris_lightning.data import IrisDataModule, split_rows
from iris_lightning.errors import UserError
from iris_lightning.table import Table


class Member(NamedTuple):
    """One classifier of a stack.

    Attributes:
        repeat: Repeat of the cross-validation.
        fold: Fold within the repeat.
        seed: Seed of the initial weights and of the order of the train rows.
        train: Row numbers to train on, int64.
        val: Row numbers to choose the best epoch on, int64.
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
    counts = targets.bincount(minlength=len(table.class_names))
    fewest, rarest = counts.min(dim=0)
    if folds > fewest:
        found = f"the class {table.class_names[rarest]!r} has {fewest} rows"
        raise UserError(f"{found}; expected at least one per fold, for {folds} folds", "folds")
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=fold_seed)
    assigned = torch.empty(repeats, len(targets), dtype=torch.int32)
    for i, (_, held_out) in enumerate(splitter.split(targets, targets)):
        assigned[i // folds, torch.from_numpy(held_out)] = i % folds
    return assigned


def groups_of_folds(
    assigned: Tensor, data: IrisDataModule, num_members: int, seed: int, choose: str
) -> Iterator[list[Member]]:
    """Yields the members of each fold.

    Args:
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
        data: The table and the options of its split.
        num_members: Number of members per fold.
        seed: The members' seeds are derived from it, the repeat and the fold.
        choose: `best` to divide the rows not held out into train and validation, as `fit` does;
            `last` to train on all of them, with the held-out rows as validation for the curves.
    """
    for repeat, fold in np.ndindex(len(assigned), int(assigned.max()) + 1):
        is_held_out = assigned[repeat] == fold
        rows = (~is_held_out).nonzero()[:, 0]
        held_out = is_held_out.nonzero()[:, 0]
        if choose == "last":
            splits = [(rows, held_out)] * num_members
        else:
            splits = inner_splits(rows, data, num_members)
        yield make_group(splits, seed, repeat, fold, held_out)


def make_group(
    splits: Iterable[tuple[Tensor, Tensor]], seed: int, repeat: int, fold: int, held_out: Tensor
) -> list[Member]:
    """Returns a member for each pair of train and validation rows, with a seed of its own."""
    members = []
    for number, (train, val) in enumerate(splits):
        sequence = np.random.SeedSequence([seed, repeat, fold, number])
        member_seed = int(sequence.generate_state(1)[0])
        members.append(Member(repeat, fold, member_seed, train, val, held_out))
    return members


def inner_splits(
    rows: Tensor, data: IrisDataModule, num_members: int
) -> list[tuple[Tensor, Tensor]]:
    """Divides rows into train and validation rows of each member.

    With one member, the rows are split in the ratio of the train and validation splits. With
    several, they are divided into one fold per member: the fold is the member's validation rows,
    the rest its train rows.

    Args:
        rows: Row numbers, int64.
        data: The table and the options of its split.
        num_members: Number of members.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    targets = data.table.targets[rows]
    options = {**data.hparams, **data.trained_on}
    seed = options["split_seed"]
    if num_members == 1:
        train, val, _ = options["split"]
        fractions = (train / (train + val), val / (train + val))
        parts = split_rows(targets, fractions, seed, options["stratify"])
        return [(rows[parts[0]], rows[parts[1]])]
    if num_members > len(rows):
        raise UserError(f"expected at most one per row, got {num_members}", "members")
    splitter = KFold(num_members, shuffle=True, random_state=seed)
    if targets.bincount().max() >= num_members:  # else scikit-learn could not stratify
        splitter = StratifiedKFold(num_members, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer rows than members
        splits = list(splitter.split(rows, targets))
    # All members of a stack take equally many steps. Where a fold leaves one row less to train on,
    # `np.resize` repeats the first row.
    longest = max(len(train) for train, _ in splits)
    return [(rows[np.resize(train, longest)], rows[val]) for train, val in splits]


def split_into_stacks(
    groups: Iterable[list[Member]], batch_size: int, largest: int
) -> Iterator[list[list[Member]]]:
    """Collects groups into stacks of at most `largest` members.

    A group that is larger than that is a stack of its own. Groups share a stack only if they have
    equally many steps per epoch; otherwise, a member without rows left would still be changed by
    the optimizer's momentum.
    """
    open_stacks: dict[int, list[list[Member]]] = {}
    for group in groups:
        steps = math.ceil(len(group[0].train) / batch_size)
        stack = open_stacks.setdefault(steps, [])
        stack.append(group)
        if (len(stack) + 1) * len(group) > largest:
            yield open_stacks.pop(steps)
    yield from open_stacks.values()
