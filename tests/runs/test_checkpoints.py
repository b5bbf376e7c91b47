"""Which checkpoints a run keeps, and what evaluating them gives."""

import os
from pathlib import Path

import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris

from iris_lightning.cli import main
from iris_lightning.runs.checkpoints import find_checkpoint
from tests.conftest import assert_same_weights, curves, fit, load

FEATURES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


def test_best_is_the_lowest_loss_and_last_the_last_epoch_when_validation_worsens() -> None:
    cli = fit("--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs", "8")
    checkpoints = Path("lightning_logs/version_0/checkpoints")
    losses = [value for _, value in curves(checkpoints.parent)["loss/val"]]
    best, last = load(checkpoints / "best.ckpt"), load(checkpoints / "last.ckpt")
    assert losses[-1] > min(losses), "the run should worsen at its end"
    assert best["epoch"] == losses.index(min(losses))
    assert best["metrics"]["loss/val"] == pytest.approx(min(losses))
    assert last["epoch"] == 7
    assert_same_weights(last["state_dict"], cli.model.state_dict())
    assert sorted(os.listdir(checkpoints)) == ["best.ckpt", "last.ckpt"]


def test_a_reloaded_checkpoint_has_the_same_metrics() -> None:
    fit("--model.lr", "0.2", "--model.hidden", "[5]", "--model.standardize", "true", "--data.stratify", "true")
    checkpoints = Path("lightning_logs/version_0/checkpoints")
    best, last = load(checkpoints / "best.ckpt"), load(checkpoints / "last.ckpt")
    assert best["epoch"] != last["epoch"]
    for name, saved in (("best", best), ("last", last), (str(checkpoints / "last.ckpt"), last)):
        cli = main(["validate", "--ckpt_path", name])
        found = {metric: float(value) for metric, value in cli.trainer.callback_metrics.items()}
        assert found == pytest.approx({metric: saved["metrics"][metric] for metric in found})
        assert found.keys() == {"loss/val", "accuracy/val", "macro_f1/val"}
        assert_same_weights(cli.model.state_dict(), saved["state_dict"])


def test_evaluation_uses_the_split_of_the_checkpoint() -> None:
    fit("--data.split_seed", "3", "--data.split", "[0.5,0.25,0.25]", "--data.batch_size", "4")
    cli = main(["test"])
    assert cli.datamodule.hparams.split_seed == 3
    assert len(cli.datamodule.rows["test"]) == 37


def test_evaluation_opens_no_run_and_adds_to_the_curves_what_they_lack(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    before = sorted(Path("lightning_logs").rglob("*"))
    iris = load_iris()
    flowers = pl.DataFrame(iris.data, iris.feature_names).with_columns(species=iris.target_names[iris.target])
    flowers.reverse().write_csv("other.csv")
    capsys.readouterr()
    main(["validate"])
    main(["test", "--data.batch_size", "4", "--data.path", "other.csv"])
    main(["test", "--trainer.limit_test_batches", "1"])
    assert sorted(Path("lightning_logs").rglob("*")) == before
    main(["test", "--data.batch_size", "4"])
    (new,) = {*Path("lightning_logs").rglob("*")} - {*before}
    assert new.name.startswith("events.out.tfevents.")
    found = curves(Path("lightning_logs/version_0"))
    assert [step for step, _ in found["loss/test"]] == [4]
    assert {len(found[name]) for name in ("loss/train", "loss/val")} == {5}
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == "checkpoint: lightning_logs/version_0/checkpoints/best.ckpt (epoch 4)"
    assert out.splitlines()[1].startswith("loss/val ")
    assert out.splitlines()[-1].startswith("loss/test ")


def test_the_newest_run_is_the_one_with_the_highest_number(folder: Path) -> None:
    for number in (2, 9, 10):
        checkpoints = folder / "lightning_logs" / f"version_{number}" / "checkpoints"
        checkpoints.mkdir(parents=True)
        (checkpoints / "best.ckpt").touch()
        (checkpoints.parent / "config.yaml").touch()
    (folder / "lightning_logs" / "version_11").mkdir()  # of another program's logger
    assert find_checkpoint("best", folder).parent.parent.name == "version_10"


def test_a_run_whose_batches_another_process_loads_is_resumed_all_the_same() -> None:
    options = ["--data.batch_size", "7", "--data.num_workers"]
    fit("--trainer.max_epochs", "1", *options, "1")
    cli = main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    whole = fit("--trainer.max_epochs", "2", *options, "0")
    assert_same_weights(cli.model.state_dict(), whole.model.state_dict())


def test_a_finished_run_has_nothing_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    capsys.readouterr()
    main(["fit", "--ckpt_path", "last"])
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    out = capsys.readouterr().out
    assert "has trained 5 epochs, and max_epochs is 5; raise --trainer.max_epochs to go on" in out
    assert len(out.splitlines()) == 1


def test_a_checkpoint_holds_plain_values_only(default_run: Path) -> None:
    checkpoint = torch.load(default_run / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"] == {
        "feature_names": FEATURES,
        "class_names": ["setosa", "versicolor", "virginica"],
        "hidden": [16, 8],
        "activation": None,
        "standardize": False,
        "impute": False,
        "class_weight": None,
        "lr": 0.001,
        "weight_decay": 0.0,
    }
    assert checkpoint["datamodule_hyper_parameters"] == {
        "path": None,
        "target": "species",
        "features": FEATURES,
        "missing": "error",
        "decimal_comma": False,
        "separator": None,
        "na_values": None,
        "batch_size": 10,
        "split_seed": 20,
        "split": [0.7, 0.2, 0.1],
        "stratify": False,
        "num_workers": 0,
        "noise": 0.0,
        "noise_shrinkage": 0.0,
        "minor_discriminants": 1.0,
    }
