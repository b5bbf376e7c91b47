"""Saving and evaluating checkpoints."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import iris_lightning
from iris_lightning.cli import main
from tests.conftest import assert_same_weights, curves, fails, fit, load

CHECKPOINTS = Path("lightning_logs/version_0/checkpoints")


def test_best_has_the_lowest_loss_and_last_is_the_last_epoch() -> None:
    cli = fit("--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs", "8")
    losses = [value for _, value in curves(CHECKPOINTS.parent)["loss/val"]]
    best, last = load(CHECKPOINTS / "best.ckpt"), load(CHECKPOINTS / "last.ckpt")
    assert losses[-1] > min(losses), "the run should worsen at its end"
    assert best["epoch"] == losses.index(min(losses))
    assert best["metrics"]["loss/val"] == pytest.approx(min(losses))
    assert last["epoch"] == 7
    assert_same_weights(last["state_dict"], cli.model.state_dict())
    assert sorted(os.listdir(CHECKPOINTS)) == ["best.ckpt", "last.ckpt"]


def test_a_checkpoint_is_evaluated_with_its_options_and_its_split(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = ["--model.lr", "0.2", "--model.hidden", "[5]", "--model.standardize", "true"]
    fit(*model, "--data.split_seed", "3", "--data.stratify", "true", "--data.batch_size", "4")
    best, last = load(CHECKPOINTS / "best.ckpt"), load(CHECKPOINTS / "last.ckpt")
    assert best["epoch"] != last["epoch"]
    capsys.readouterr()
    for name, saved in (("best", best), (str(CHECKPOINTS / "last.ckpt"), last)):
        cli = main(["validate", "--ckpt_path", name])
        found = {metric: float(value) for metric, value in cli.trainer.callback_metrics.items()}
        assert found == pytest.approx({metric: saved["metrics"][metric] for metric in found})
        assert_same_weights(cli.model.state_dict(), saved["state_dict"])
        assert f"(epoch {saved['epoch']})" in capsys.readouterr().out
    assert os.listdir("lightning_logs") == ["version_0"]


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_a_checkpoint_has_only_metrics_of_its_own_epoch() -> None:
    fit("--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "2")
    metrics = load(CHECKPOINTS / "last.ckpt")["metrics"]
    assert "loss/train" in metrics
    assert "loss/val" not in metrics


def _drop(checkpoint: dict[str, Any]) -> None:
    del checkpoint["hyper_parameters"]["lr"]
    del checkpoint["datamodule_hyper_parameters"]["stratify"]


def _add(checkpoint: dict[str, Any]) -> None:
    new = {"_instantiator": "os.system", "_class_path": "os.system", "new": ("a", {"b": 1})}
    checkpoint["hyper_parameters"] |= new
    checkpoint["datamodule_hyper_parameters"] |= new


@pytest.mark.parametrize("change", [_drop, _add])
def test_options_may_be_missing_or_unknown(change: Any, default_run: Path) -> None:
    checkpoint = load(default_run / "checkpoints" / "best.ckpt")
    change(checkpoint)  # as if the classes had another option by now, or one less
    torch.save(checkpoint, "changed.ckpt")
    cli = main(["test", "--ckpt_path", "changed.ckpt"])
    assert cli.model.hparams["lr"] == 1e-3
    main(["export", "model.pth", "--ckpt_path", "changed.ckpt"])
    assert iris_lightning.load("changed.ckpt").predict([[5.1, 3.5, 1.4, 0.2]]) == ["setosa"]


def test_diverged_runs_are_reported_and_not_evaluated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit("--optimizer", "SGD", "--optimizer.lr", "1e30", "--trainer.max_epochs", "1")
    for command in (["test"], ["export", "model.pth"]):
        assert "diverged" in fails(capsys, *command)
