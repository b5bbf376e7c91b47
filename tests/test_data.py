"""The table, its split and its batches."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch.utils.data import TensorDataset, random_split

from iris_lightning import IrisDataModule, UserError
from iris_lightning.data import split_rows
from iris_lightning.sharing import Batches, BatchOrder

SPLITS = ("train", "val", "test")


def counts(data: IrisDataModule, split: str) -> list[int]:
    """Rows of each class in a split."""
    return torch.bincount(data.tensors(split)[1], minlength=3).tolist()


def test_the_table_is_iris_as_the_lesson_casts_it() -> None:
    table = IrisDataModule().table
    features, targets = load_iris(return_X_y=True)
    assert table.features.dtype == torch.float32
    assert table.targets.dtype == torch.int64
    assert torch.equal(table.features, torch.tensor(features).to(torch.float))
    assert torch.equal(table.targets, torch.tensor(targets))
    assert table.class_names == ["setosa", "versicolor", "virginica"]


@pytest.mark.parametrize("seed", [20, 0, 2**32 - 1])
def test_split_is_that_of_random_split(seed: int) -> None:
    ours = IrisDataModule(split_seed=seed).rows
    theirs = random_split(TensorDataset(torch.arange(150)), [0.7, 0.2, 0.1], torch.Generator().manual_seed(seed))
    assert [ours[split].tolist() for split in SPLITS] == [list(split.indices) for split in theirs]


@pytest.mark.filterwarnings("ignore:Length of split")
@pytest.mark.parametrize("rows", [3, 10, 101, 149, 1000])
@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.1), (0.5, 0.25, 0.25), (1 / 3, 1 / 3, 1 / 3)])
def test_split_of_any_size_is_that_of_random_split(rows: int, fractions: tuple[float, float, float]) -> None:
    theirs = random_split(TensorDataset(torch.arange(rows)), fractions, torch.Generator().manual_seed(1))
    if any(len(split) == 0 for split in theirs):
        with pytest.raises(UserError, match=f"of {rows} rows .* split empty") as refused:
            split_rows(torch.zeros(rows, dtype=torch.int64), fractions, 1, stratify=False)
        assert refused.value.parameter == "split"
        return
    ours = split_rows(torch.zeros(rows, dtype=torch.int64), fractions, 1, stratify=False)
    assert [split.tolist() for split in ours] == [list(split.indices) for split in theirs]


def test_class_counts_of_the_default_split() -> None:
    data = IrisDataModule()
    assert [counts(data, split) for split in SPLITS] == [[33, 39, 33], [13, 6, 11], [4, 5, 6]]


def test_stratified_splits_keep_the_class_shares() -> None:
    data = IrisDataModule(stratify=True)
    assert [counts(data, split) for split in SPLITS] == [[35] * 3, [10] * 3, [5] * 3]
    other = IrisDataModule(stratify=True, split_seed=21)
    assert data.rows["test"].tolist() != other.rows["test"].tolist()


def test_a_class_of_one_row_cannot_be_stratified() -> None:
    with pytest.raises(UserError) as refused:
        split_rows(torch.tensor([0] * 20 + [1]), (0.7, 0.2, 0.1), 1, stratify=True)
    assert refused.value.parameter == "stratify"


@pytest.mark.parametrize("stratify", [False, True])
def test_splits_are_disjoint_and_complete(stratify: bool) -> None:
    rows = IrisDataModule(stratify=stratify).rows
    assert sorted(torch.cat([rows[split] for split in SPLITS]).tolist()) == list(range(150))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_yields_every_row_once(num_workers: int) -> None:
    data = IrisDataModule(num_workers=num_workers)  # which needs no `setup` before its loaders
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    for split, loader in zip(SPLITS, loaders, strict=True):
        batches = list(loader)
        rows = torch.cat([features for features, _ in batches])
        expected = data.table.features[data.rows[split]]
        assert len(batches) == len(loader) == -(-len(expected) // 10)
        assert sorted(rows.tolist()) == sorted(expected.tolist())
        if split == "train":
            assert not torch.equal(rows, expected)
        else:
            assert torch.equal(rows, expected)
            assert torch.equal(torch.cat([targets for _, targets in batches]), data.table.targets[data.rows[split]])


@pytest.mark.parametrize(("seed", "epoch"), [(20, 0), (20, 1), (21, 0), (7, 3), (2**32 - 1, 4)])
def test_train_order_follows_from_seed_and_epoch(seed: int, epoch: int) -> None:
    rows = torch.arange(23)
    order = BatchOrder(Batches(rows[:, None].float(), rows, batch_size=5), shuffle=True, seed=seed)
    order.set_epoch(epoch)
    (state,) = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    expected = torch.randperm(23, generator=torch.Generator().manual_seed(int(state)))
    assert [torch.as_tensor(batch).tolist() for batch in order] == [batch.tolist() for batch in expected.split(5)]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"batch_size": 0}, ("batch_size", "1 to 2147483647", "got 0")),
        ({"num_workers": -1}, ("num_workers", "from 0 to 1023", "got -1")),
        ({"split_seed": -1}, ("split_seed", "from 0 to 4294967295", "got -1")),
        ({"split": (0.5, 0.5)}, ("split", "three fractions above 0 that sum to 1", "got [0.5, 0.5]")),
        ({"split": (0.5, 0.5, 0.5)}, ("split", "three fractions above 0 that sum to 1", "got [0.5, 0.5, 0.5]")),
        ({"split": (0.7, 0.3, 0.0)}, ("split", "three fractions above 0 that sum to 1", "got [0.7, 0.3, 0.0]")),
        ({"split": (float("nan"), 0.5, 0.5)}, ("split", "three fractions above 0 that sum to 1", "nan")),
        ({"missing": "dropp"}, ("missing", "error", "drop", "'dropp'")),
        ({"target": "colour"}, ("path", "target")),
        ({"decimal_comma": True}, ("path", "decimal_comma")),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"^{parts[0]}: ") as refused:
        IrisDataModule(**options)
    assert [part for part in parts if part not in str(refused.value)] == []
