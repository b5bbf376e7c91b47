"""The table, its split and its batches."""

from typing import Any

import pytest
import torch
from sklearn.datasets import load_iris
from torch.utils.data import TensorDataset, random_split

from iris_lightning import IrisDataModule, UserError
from iris_lightning.data import split_rows

SPLITS = ("train", "val", "test")


def counts(data: IrisDataModule) -> list[list[int]]:
    """Returns how many rows of each class each split has."""
    return [data.tensors(split)[1].bincount(minlength=3).tolist() for split in SPLITS]


def test_default_table_is_iris_with_the_lesson_s_dtypes() -> None:
    table = IrisDataModule().table
    features, targets = load_iris(return_X_y=True)
    assert torch.equal(table.features, torch.tensor(features, dtype=torch.float32))
    assert torch.equal(table.targets, torch.tensor(targets, dtype=torch.int64))
    assert table.class_names == ["setosa", "versicolor", "virginica"]


@pytest.mark.parametrize("rows", [10, 101, 150])
@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.1), (1 / 3, 1 / 3, 1 / 3)])
@pytest.mark.parametrize("seed", [20, 2**32 - 1])
def test_split_equals_random_split(
    rows: int, fractions: tuple[float, float, float], seed: int
) -> None:
    numbers = TensorDataset(torch.arange(rows))
    theirs = random_split(numbers, fractions, torch.Generator().manual_seed(seed))
    ours = split_rows(torch.zeros(rows, dtype=torch.int64), fractions, seed, stratify=False)
    assert [split.tolist() for split in ours] == [list(split.indices) for split in theirs]


def test_default_split_is_the_lesson_s() -> None:
    data = IrisDataModule()
    rows = split_rows(data.table.targets, (0.7, 0.2, 0.1), 20, stratify=False)
    assert [data.rows[split].tolist() for split in SPLITS] == [split.tolist() for split in rows]
    assert counts(data) == [[33, 39, 33], [13, 6, 11], [4, 5, 6]]


def test_stratified_splits_keep_class_frequencies() -> None:
    data, other = (IrisDataModule(stratify=True, split_seed=seed) for seed in (20, 21))
    assert counts(data) == counts(other) == [[35] * 3, [10] * 3, [5] * 3]
    assert data.rows["test"].tolist() != other.rows["test"].tolist()
    assert sorted(torch.cat(list(data.rows.values())).tolist()) == list(range(150))


@pytest.mark.parametrize(
    ("targets", "stratify", "word"),
    [([0, 1, 0], False, "split empty"), ([0] * 20 + [1], True, "stratify")],
)
def test_impossible_splits_raise_an_error(targets: list[int], stratify: bool, word: str) -> None:
    with pytest.raises(UserError, match=word):
        split_rows(torch.tensor(targets), (0.7, 0.2, 0.1), 1, stratify)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_yields_every_row_once(num_workers: int) -> None:
    data = IrisDataModule(num_workers=num_workers)  # which needs no `setup` before its loaders
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    for split, loader in zip(SPLITS, loaders, strict=True):
        features, targets = map(torch.cat, zip(*loader, strict=True))
        expected, classes = data.tensors(split)
        assert len(loader) == -(-len(expected) // 10)
        if split == "train":
            assert not torch.equal(features, expected)
            assert sorted(features.tolist()) == sorted(expected.tolist())
        else:
            assert torch.equal(features, expected)
            assert torch.equal(targets, classes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 10.5),
        ("split", (0.5, 0.5, 0.5)),
        ("split", (float("nan"), 0.5, 0.5)),
        ("missing", "dropp"),
    ],
)
def test_invalid_options_raise_an_error(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        IrisDataModule(**{name: value})
