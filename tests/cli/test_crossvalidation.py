"""The command `crossvalidate`: what it writes and prints, and what it refuses."""

import json
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedStratifiedKFold
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from iris_lightning import IrisClassifier, IrisDataModule, UserError, cross_validate
from iris_lightning.cli import crossvalidation, main
from iris_lightning.ensemble.results import CrossValidation
from iris_lightning.runs.signals import Stopped
from tests.conftest import curves, fails, fit, wine

RUN = Path("lightning_logs/version_0")
FILES = {"config.yaml", "environment.yaml", "predictions.csv", "summary.json"}


def crossvalidate(*args: str) -> CrossValidation:
    """Runs the command with 2 repeats of 5 folds, by default without plots."""
    options = ["--folds", "5", "--repeats", "2", "--figures", "false"]
    result: CrossValidation = main(["crossvalidate", *options, *args])
    return result


def summary() -> Any:
    """Reads the summary of the first run."""
    return json.loads((RUN / "summary.json").read_text())


def test_files_and_output_agree_with_the_held_out_rows(capsys: pytest.CaptureFixture[str]) -> None:
    result = crossvalidate("--fold_seed", "3", "--trainer.max_epochs", "9", "--model.lr", "0.01")
    events = {path.name for path in RUN.glob("events.*")}
    assert {path.name for path in RUN.iterdir()} - {".lock"} == FILES | events
    targets = result.table.targets.numpy()
    losses = []
    splits = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=3)
    for i, (_, rows) in enumerate(splits.split(targets, targets)):
        losses.append(log_loss(targets[rows], result.probabilities[i // 5, rows]))
    found = summary()
    assert found["log_loss"]["mean"] == pytest.approx(np.mean(losses))
    assert np.trace(found["confusion"]) / 300 == pytest.approx(found["accuracy"]["mean"])
    np.testing.assert_allclose(np.ravel(found["log_loss"]["values"]), losses)
    predictions = pl.read_csv(RUN / "predictions.csv")
    mean = result.probabilities.mean(axis=0)
    np.testing.assert_allclose(predictions.select("^probability_.*$"), mean)
    names = np.array(found["classes"])
    assert predictions["prediction"].to_list() == names[mean.argmax(axis=1)].tolist()
    assert f"{found['accuracy']['mean']:.4f} ± " in capsys.readouterr().out


@pytest.mark.plots
def test_tensorboard_shows_mean_and_quartiles_of_the_folds() -> None:
    result = crossvalidate("--trainer.max_epochs", "3", "--figures", "true")
    found = curves(RUN)
    folds = torch.cat(result.curves[2], dim=1)[2]
    lower, upper = np.quantile(folds, (0.25, 0.75))
    assert found["loss/val"][2][1] == pytest.approx(float(folds.mean()))
    assert found["quartiles/loss_val_lower"][2][1] == pytest.approx(lower)
    assert found["quartiles/loss_val_upper"][2][1] == pytest.approx(upper)
    tags = EventAccumulator(str(RUN)).Reload().Tags()
    assert "custom_scalars__config__" in tags["tensors"]
    assert tags["images"] == ["plots/confusion"]


class Sgd(IrisClassifier):
    """Has the optimizer that the command line chooses below."""

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]


def test_python_returns_the_same_figures() -> None:
    wine(Path("wine.csv"))
    optimizer = ["--optimizer", "SGD", "--optimizer.lr", "0.1"]
    scheduler = ["--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "1"]
    model = ["--model.standardize", "true", "--trainer.max_epochs", "2"]
    crossvalidate("--data.path", "wine.csv", *model, *optimizer, *scheduler)
    data = IrisDataModule("wine.csv")
    own = Sgd(data.feature_names, data.class_names, standardize=True)
    result = cross_validate(own, data, 5, 2, max_epochs=2)
    assert json.loads(json.dumps(result.summary())) == summary()


def test_baselines_are_measured_on_the_same_folds(capsys: pytest.CaptureFixture[str]) -> None:
    crossvalidate("--folds", "2", "--repeats", "1", "--baselines", "true")
    assert len(re.findall("ours minus theirs", capsys.readouterr().out)) == 7
    for baseline in summary()["baselines"].values():
        assert np.shape(baseline["accuracy"]["values"]) == (1, 2)


def test_classes_may_be_called_like_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["accuracy", "macro avg", "mean"]
    pl.DataFrame({"x": range(60), "kind": names * 20}).write_csv("rows.csv")
    crossvalidate("--data.path", "rows.csv", "--data.features", "[x]")
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if re.match(r"(accuracy|macro avg|mean) .* 20$", line)]) == 3
    assert [*summary()["by_class"]] == names


def test_best_stays_the_newest_run_of_fit(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    crossvalidate("--trainer.max_epochs", "1")
    capsys.readouterr()
    main(["test"])
    assert "version_0/checkpoints/best.ckpt" in capsys.readouterr().out


def test_options_of_any_type_are_recorded() -> None:
    options = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration", "00:00:10:00"]
    options += ["--trainer.callbacks+=ModelCheckpoint"]
    options += ["--trainer.callbacks.train_time_interval", "00:01:00"]
    crossvalidate(*options[:3], "--trainer.max_epochs", "1")
    fit(*options, "--trainer.max_epochs", "2")
    cli = fit("--ckpt_path", "last", "--trainer.max_epochs", "3")
    (timer,) = [each for each in cli.trainer.callbacks if isinstance(each, Timer)]  # type: ignore[attr-defined]  # Lightning sets it
    assert 0 < (timer.time_remaining() or 0) < 600


def test_fit_takes_the_config_of_a_cross_validation() -> None:
    crossvalidate("--model.hidden", "[3]", "--trainer.max_epochs", "1")
    assert fit("--config", str(RUN / "config.yaml")).model.hparams["hidden"] == [3]


@pytest.mark.parametrize("error", [Stopped(signal.SIGINT), UserError("no memory")])
def test_a_run_that_ends_early_leaves_nothing(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(crossvalidation, "cross_validate", end)
    with pytest.raises(SystemExit):
        crossvalidate()
    assert not RUN.parent.exists()
    assert ("nothing was saved" in capsys.readouterr().err) == isinstance(error, Stopped)


def test_results_are_kept_if_the_curves_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError(28, "No space left", "events")

    monkeypatch.setattr(crossvalidation, "write_curves", fail)
    with pytest.raises(SystemExit):
        crossvalidate()
    assert (RUN / "predictions.csv").exists()
    assert (RUN / "summary.json").exists()


def test_predictions_have_the_numbers_of_the_rows_that_were_used() -> None:
    lines = [f"{i % 7},{'ab'[i % 2]}" for i in range(40)]
    lines[3] = ",b"
    Path("own.csv").write_text("\n".join(["size,kind", *lines]) + "\n")
    crossvalidate("--data.path", "own.csv", "--data.missing", "drop", "--trainer.max_epochs", "1")
    written = pl.read_csv(RUN / "predictions.csv")
    assert written["row"].to_list() == [1, 2, 3, *range(5, 41)]
    assert written["class"].to_list() == ["ab"[(row - 1) % 2] for row in written["row"]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_does_as_the_cpu() -> None:
    options = ["--model.standardize", "true", "--model.class_weight", "balanced"]
    one, other = (crossvalidate(*options, "--trainer.accelerator", kind) for kind in ("cpu", "gpu"))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)


REFUSED = {
    "more folds than rows of a class": (["--folds", "51"], "--folds"),
    "no epochs": (["--trainer.max_epochs", "0"], "max_epochs"),
    "an optimizer that mixes folds": (["--optimizer", "LBFGS"], "--optimizer: LBFGS"),
    "a scheduler that follows held-out rows": (
        ["--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "loss/val"],
        "ReduceLROnPlateau",
    ),
    "divergence": (["--model.lr", "1e30"], "diverged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    args, expected = REFUSED[case]
    assert expected in fails(capsys, "crossvalidate", "--folds", "2", "--repeats", "1", *args)
