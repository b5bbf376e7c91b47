"""The table, its split and its batches."""

from typing import Any

import pytest
import torch
from sklearn.datasets import load_iris
from torch.utils.data import TensorDataset, random_split

from iris_lightning import IrisDataModule, UserError
from iris_lightning.data import Batches, ShuffledBatches, split_rows

PARTS = ("train", "val", "test")


def counts(data: IrisDataModule, part: str) -> list[int]:
    """Rows of each class in a part."""
    return torch.bincount(data.table.targets[data.rows[part]], minlength=3).tolist()


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
    assert [ours[part].tolist() for part in PARTS] == [list(part.indices) for part in theirs]


@pytest.mark.filterwarnings("ignore:Length of split")
@pytest.mark.parametrize("rows", [3, 10, 101, 149, 1000])
@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.1), (0.5, 0.25, 0.25), (1 / 3, 1 / 3, 1 / 3)])
def test_split_of_any_size_is_that_of_random_split(rows: int, fractions: tuple[float, float, float]) -> None:
    theirs = random_split(TensorDataset(torch.arange(rows)), fractions, torch.Generator().manual_seed(1))
    if any(len(part) == 0 for part in theirs):
        with pytest.raises(UserError, match="part empty"):
            split_rows(torch.zeros(rows, dtype=torch.int64), fractions, 1, stratify=False)
        return
    ours = split_rows(torch.zeros(rows, dtype=torch.int64), fractions, 1, stratify=False)
    assert [part.tolist() for part in ours] == [list(part.indices) for part in theirs]


def test_class_counts_of_the_default_split() -> None:
    data = IrisDataModule()
    assert [counts(data, part) for part in PARTS] == [[33, 39, 33], [13, 6, 11], [4, 5, 6]]


def test_stratified_parts_keep_the_class_shares() -> None:
    data = IrisDataModule(stratify=True)
    assert [counts(data, part) for part in PARTS] == [[35] * 3, [10] * 3, [5] * 3]
    other = IrisDataModule(stratify=True, split_seed=21)
    assert data.rows["test"].tolist() != other.rows["test"].tolist()


@pytest.mark.parametrize("stratify", [False, True])
def test_parts_are_disjoint_and_complete(stratify: bool) -> None:
    rows = IrisDataModule(stratify=stratify).rows
    assert sorted(torch.cat([rows[part] for part in PARTS]).tolist()) == list(range(150))


@pytest.mark.parametrize(("stage", "parts"), [("fit", {"train", "val"}), ("validate", {"val"}), ("test", {"test"})])
def test_setup_builds_what_the_stage_needs(stage: str, parts: set[str]) -> None:
    data = IrisDataModule()
    data.setup(stage)
    assert set(data.parts) == parts


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_yields_every_row_once(num_workers: int) -> None:
    data = IrisDataModule(num_workers=num_workers)
    data.setup("fit")
    data.setup("test")
    for part, loader in (
        ("train", data.train_dataloader()),
        ("val", data.val_dataloader()),
        ("test", data.test_dataloader()),
    ):
        batches = list(loader)
        rows = torch.cat([features for features, _ in batches])
        expected = data.table.features[data.rows[part]]
        assert len(batches) == len(loader) == -(-len(expected) // 10)
        assert sorted(rows.tolist()) == sorted(expected.tolist())
        if part != "train":
            assert torch.equal(rows, expected)
            assert torch.equal(torch.cat([targets for _, targets in batches]), data.table.targets[data.rows[part]])


def test_train_order_follows_from_seed_and_epoch() -> None:
    rows = torch.arange(23)
    dataset = Batches(rows[:, None].float(), rows, batch_size=5)

    def order(seed: int, epoch: int) -> list[int]:
        sampler = ShuffledBatches(dataset, seed)
        sampler.set_epoch(epoch)
        return torch.cat(list(sampler)).tolist()

    assert order(20, 0) == order(20, 0)
    assert len({tuple(order(20, epoch)) for epoch in range(5)}) == 5
    assert order(20, 3) != order(7, 3)
    assert sorted(order(20, 4)) == rows.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected 1 to 2147483647 rows, got 0"),
        ({"num_workers": -1}, "num_workers: expected 0 or more"),
        ({"split_seed": -1}, "split_seed: expected a whole number from 0"),
        ({"split": (0.5, 0.5, 0.5)}, "split: expected three fractions above 0 that sum to 1"),
        ({"split": (0.7, 0.3, 0.0)}, "split: expected three fractions above 0 that sum to 1"),
        ({"split": (float("nan"), 0.5, 0.5)}, "split: expected three fractions above 0 that sum to 1"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IrisDataModule(**options)
