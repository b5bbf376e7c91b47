"""A fold of a stack ends as the same fold trained alone, whatever it was stacked with."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch

from iris_lightning.cli.crossvalidation import FoldsCLI
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.crossvalidation import training
from iris_lightning.crossvalidation.folds import Fold, assign_folds, folds_of, stacks_of
from iris_lightning.crossvalidation.result import CrossValidation, Part
from iris_lightning.crossvalidation.stack import StackedClassifier
from iris_lightning.crossvalidation.training import cross_validate
from iris_lightning.tables.table import load_iris_table
from tests.conftest import wine

SGD = ["--optimizer", "SGD", "--optimizer.lr", "0.05", "--optimizer.momentum", "0.9"]
COSINE = ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "6"]
NADAM = ["--optimizer", "NAdam", "--optimizer.lr", "0.01", "--optimizer.weight_decay", "0.01"]
BALANCED = ["--model.standardize", "true", "--model.class_weight", "balanced"]
GELU = ["--model.hidden", "[12]", "--model.activation", "gelu", "--model.lr", "0.01"]
CASES = {
    "lesson": [],
    "own table, in epochs of 16 and of 17 steps": ["--data.path", "wine.csv", *BALANCED, *GELU],
    "optimizer and scheduler": [*SGD, *COSINE, "--data.batch_size", "32"],
    "another optimizer": [*NADAM, "--model.activation", "tanh", "--data.batch_size", "7"],
    "no hidden layer, weight decay": [
        "--model.hidden",
        "[]",
        "--model.weight_decay",
        "0.1",
        "--data.batch_size",
        "1000",
    ],
    "gradients clipped by norm and added up": [
        *("--trainer.gradient_clip_val", "0.5", "--trainer.accumulate_grad_batches", "3", "--model.lr", "0.01"),
    ],
    "noise": ["--data.noise", "0.7", "--data.noise_shrinkage", "0.2", "--data.minor_discriminants", "0.3"],
    "noise, own table with missing values": [
        *(
            "--data.path",
            "rows.csv",
            "--data.missing",
            "mean",
            "--data.noise",
            "1",
            "--data.batch_size",
            "20",
            *BALANCED,
        ),
    ],
    "gradients clipped by nothing": ["--trainer.gradient_clip_val", "0"],
    "gradients clipped by value": ["--trainer.gradient_clip_val", "0.01", "--trainer.gradient_clip_algorithm", "value"],
    "double precision": ["--trainer.precision", "64-true", *GELU],
    "categories, and means for missing values": [
        *("--data.path", "rows.csv", "--data.features", "[length, width, site]", "--data.missing", "mean", *BALANCED),
        *("--model.activation", "silu", "--data.batch_size", "16"),
    ],
}


def rows(path: Path) -> None:
    """Writes a table with categories, missing values and classes of unequal size."""
    draw = np.random.default_rng(0)
    kind = draw.choice(["a", "b", "c"], size=90, p=[0.6, 0.3, 0.1])
    shift = np.char.replace(np.char.replace(np.char.replace(kind, "a", "0"), "b", "1"), "c", "2").astype(float)
    length = [None if i % 9 == 0 else value for i, value in enumerate(shift + draw.normal(size=90))]
    columns = {"length": length, "width": draw.normal(size=90) * 100, "site": draw.choice(["x", "y"], size=90)}
    pl.DataFrame({**columns, "kind": kind}, strict=False).write_csv(path)


def alone(fold: Fold, args: list[str]) -> dict[str, torch.Tensor]:
    """Trains an ordinary `IrisClassifier` on the rows of a fold, and returns its network's weights."""
    nothing = ["--trainer.logger", "false", "--trainer.enable_checkpointing", "false"]
    one = IrisCLI("fit", [*args, *nothing, "--seed_everything", str(fold.seed)])
    one.datamodule.rows = {"train": fold.train, "val": fold.held_out, "test": fold.held_out}
    one.trainer.fit(one.model, one.datamodule)
    return one.model.network.state_dict()


@pytest.mark.filterwarnings("ignore:.*`\\w+.configure_optimizers` will be overridden", "ignore:.*LeafSpec")
@pytest.mark.parametrize("case", CASES)
def test_a_fold_ends_as_it_does_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wine(Path("wine.csv"))
    rows(Path("rows.csv"))
    args = [*CASES[case], "--trainer.max_epochs", "6"]
    cli = FoldsCLI("crossvalidate", args)
    table, batch_size = cli.datamodule.table, cli.datamodule.batch_size
    folds = list(folds_of(assign_folds(table, 4, 2, fold_seed=1), seed=5))
    stacks = list(stacks_of(folds, batch_size, max_parallel=5))
    assert sorted((fold.repeat, fold.number) for stack in stacks for fold in stack) == [*np.ndindex(2, 4)]
    models: list[StackedClassifier] = []

    def keep(trainer: L.Trainer, model: StackedClassifier, *parts: Any) -> Part:
        models.append(model)
        return train(trainer, model, *parts)

    train = training.train_stack
    monkeypatch.setattr(training, "train_stack", keep)
    cli.config.max_parallel = 5
    assert len(list(cli.train(CrossValidation(table, 4, 2, fold_seed=1, seed=5)))) == len(stacks)
    for stack, model in zip(stacks, models, strict=True):
        for i in {0, len(stack) - 1}:
            expected = alone(stack[i], args)
            found = model.network.state_of(i)
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5, msg=name)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.parametrize(
    ("options", "rounding"),
    [
        ({}, 0),
        ({"hidden": [5], "activation": "relu", "lr": 0.02, "class_weight": "balanced"}, 0),
        ({"hidden": [33], "activation": "tanh", "standardize": True}, 1e-6),  # whose last digit depends on its place
    ],
)
def test_no_result_depends_on_how_many_are_stacked(options: dict[str, object], rounding: float) -> None:
    def run(max_parallel: int) -> dict[str, np.ndarray]:
        result = cross_validate(options, folds=5, repeats=4, max_parallel=max_parallel, max_epochs=2)
        return {"probabilities": result.probabilities, "curves": result.curves}

    together = run(20)
    for max_parallel in (1, 3, 8):
        for name, values in run(max_parallel).items():
            np.testing.assert_allclose(values, together[name], rtol=0, atol=rounding, err_msg=name)


def test_a_fold_has_a_seed_of_its_own_which_no_other_fold_changes() -> None:
    table = load_iris_table()
    few, many = (list(folds_of(assign_folds(table, 5, repeats, 0), seed=20)) for repeats in (1, 3))
    assert [fold.seed for fold in few] == [fold.seed for fold in many[:5]]
    assert len({fold.seed for fold in many}) == 15
    assert {fold.seed for fold in many}.isdisjoint(
        fold.seed for fold in folds_of(assign_folds(table, 5, 3, 0), seed=21)
    )
