"""The folds are scikit-learn's, and their batches hold each row once."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import RepeatedStratifiedKFold

from iris_lightning import IrisDataModule
from iris_lightning.crossvalidation.folds import FoldBatches, TrainBatches, assign_folds, folds_of, stacks_of
from iris_lightning.tables.table import Table, load_iris_table


def table_of(rows: int, seed: int = 0) -> Table:
    """A table of one feature, the row number, and three classes of unequal size."""
    targets = torch.from_numpy(np.random.default_rng(seed).choice(3, size=rows, p=[0.5, 0.3, 0.2]))
    return Table(torch.arange(rows).float()[:, None], targets, ["x"], ["a", "b", "c"], "kind", "rows", [])


@pytest.mark.parametrize(("rows", "folds", "repeats", "seed"), [(150, 10, 3, 0), (97, 4, 2, 7), (61, 2, 1, 2**32 - 1)])
def test_the_folds_are_those_of_scikit_learn(rows: int, folds: int, repeats: int, seed: int) -> None:
    table = load_iris_table() if rows == 150 else table_of(rows)
    found = list(folds_of(assign_folds(table, folds, repeats, seed), seed=20))
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
    expected = list(splitter.split(table.features, table.targets))
    assert len(found) == len(expected) == folds * repeats
    for fold, (train, held_out) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.held_out, held_out)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
def test_each_row_counts_once_in_folds_of_unequal_size(batch_size: int) -> None:
    table = table_of(97)
    data = IrisDataModule(batch_size=batch_size)
    vars(data)["table"] = table
    folds = list(folds_of(assign_folds(table, 4, 2, 3), seed=20))
    assert len({len(fold.train) for fold in folds}) > 1, "folds of unequal size"
    stacks = list(stacks_of(folds, batch_size, max_parallel=3))
    assert all(len({-(-len(fold.train) // batch_size) for fold in stack}) == 1 for stack in stacks)
    assert sorted(id(fold) for stack in stacks for fold in stack) == sorted(map(id, folds))
    for stack in stacks:
        loaders = {
            "train": TrainBatches(data, stack),
            "held_out": FoldBatches(table, [fold.held_out for fold in stack], batch_size),
        }
        for part, loader in loaders.items():
            batches = list(loader)
            for i, fold in enumerate(stack):
                own = [(batch.features[i, batch.share[i] > 0, 0], batch.share[i]) for batch in batches]
                seen = torch.cat([values for values, _ in own]).long()
                assert sorted(seen.tolist()) == getattr(fold, part).tolist()
                assert all(share.sum() == pytest.approx(1) or not share.any() for _, share in own)
                if part == "train" and batch_size < 97:
                    assert seen.tolist() != fold.train.tolist(), "in another order"
