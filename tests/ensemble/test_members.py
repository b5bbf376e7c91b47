"""Folds equal those of scikit-learn, and each row is in one batch."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import RepeatedStratifiedKFold

from iris_lightning.data import IrisDataModule
from iris_lightning.ensemble.members import Member, assign_folds, groups_of_folds
from iris_lightning.table import Table, load_iris_table


def table_of(rows: int) -> Table:
    """Returns a table with one feature, the row number, and three classes of unequal size."""
    draw = np.random.default_rng(0)
    targets = torch.from_numpy(draw.choice(3, size=rows, p=[0.5, 0.3, 0.2]))
    features = torch.arange(rows).float()[:, None]
    return Table(features, targets, ["x"], ["a", "b", "c"], "kind", "rows", [])


def members_of(table: Table, assigned: torch.Tensor) -> list[Member]:
    """Returns the members of folds that train on all rows that are not held out."""
    data = IrisDataModule()
    vars(data)["table"] = table
    return [member for (member,) in groups_of_folds(assigned, data, 1, 20, "last")]


@pytest.mark.parametrize(
    ("rows", "folds", "repeats", "seed"), [(97, 4, 2, 7), (61, 2, 1, 2**32 - 1)]
)
def test_folds_equal_scikit_learn(rows: int, folds: int, repeats: int, seed: int) -> None:
    table = table_of(rows)
    members = members_of(table, assign_folds(table, folds, repeats, seed))
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
    expected = list(splitter.split(table.features, table.targets))
    for member, (train, held_out) in zip(members, expected, strict=True):
        np.testing.assert_array_equal(member.train, train)
        np.testing.assert_array_equal(member.held_out, held_out)


def test_seeds_do_not_depend_on_the_number_of_folds() -> None:
    table = load_iris_table()
    few, many = (members_of(table, assign_folds(table, 5, repeats, 0)) for repeats in (1, 3))
    assert [member.seed for member in few] == [member.seed for member in many[:5]]
    assert len({member.seed for member in many}) == 15
