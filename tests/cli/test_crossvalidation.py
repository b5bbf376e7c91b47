"""The command `crossvalidate`: what it writes, says and refuses, and how it goes on after it was stopped."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iris_lightning import IrisDataModule, UserError, cross_validate
from iris_lightning.cli import main
from iris_lightning.cli.crossvalidation import FoldsCLI
from iris_lightning.crossvalidation import training
from iris_lightning.crossvalidation.result import CrossValidation
from iris_lightning.runs.signals import Stopped
from tests.conftest import curves, fails, fit, wine

SMALL = ["--folds", "5", "--repeats", "2"]
RUN = Path("lightning_logs/version_0")
FILES = {"config.yaml", "environment.yaml", "folds.csv", "predictions.csv", "summary.json"}


def crossvalidate(*args: str) -> CrossValidation:
    result: CrossValidation = main(["crossvalidate", *SMALL, *args])
    return result


def summary(run: Path = RUN) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def test_the_files_say_what_the_held_out_rows_say(capsys: pytest.CaptureFixture[str]) -> None:
    result = crossvalidate("--fold_seed", "3", "--trainer.max_epochs", "30", "--model.lr", "0.01")
    events = {path.name for path in RUN.glob("events.*")}
    assert {path.name for path in RUN.iterdir()} - {".lock"} == FILES | events
    assert len(events) == 1
    found = summary()
    assert {name: found[name] for name in ("rows", "folds", "repeats", "fold_seed", "epochs")} == {
        "rows": 150,
        "folds": 5,
        "repeats": 2,
        "fold_seed": 3,
        "epochs": 30,
    }
    table, target = load_iris(return_X_y=True)
    losses, hits = [], []
    splits = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=3).split(table, target)
    for i, (_, rows) in enumerate(splits):
        probabilities = result.probabilities[i // 5, rows]
        losses.append(log_loss(target[rows], probabilities))
        hits.append((probabilities.argmax(axis=1) == target[rows]).mean())
    for name, values in (("log_loss", losses), ("accuracy", hits)):
        by_repeat = np.reshape(values, (2, 5)).mean(axis=1)
        error = abs(by_repeat[0] - by_repeat[1]) / 2
        expected = {"mean": np.mean(values), "std": np.std(values, ddof=1), "standard_error": error}
        assert found[name] == pytest.approx(expected)
    folds = pl.read_csv(RUN / "folds.csv")
    assert folds["log_loss"].to_list() == pytest.approx(losses)
    assert folds["accuracy"].to_list() == pytest.approx(hits)
    assert folds.select("repeat", "fold").rows() == [*np.ndindex(2, 5)]
    assert folds["train_rows"].unique().to_list() == [120]
    assert np.sum(found["confusion"]) == 300
    assert np.trace(found["confusion"]) / 300 == pytest.approx(found["accuracy"]["mean"])
    predictions = pl.read_csv(RUN / "predictions.csv")
    assert predictions["species"].to_list() == [found["classes"][i] for i in target]
    mean = predictions.select("^probability_.*$").to_numpy()
    np.testing.assert_allclose(mean, result.probabilities.mean(axis=0))
    assert predictions["prediction"].to_list() == [found["classes"][i] for i in mean.argmax(axis=1)]
    printed = capsys.readouterr().out
    figures = found["accuracy"]
    assert f"{figures['mean']:.4f} ± {figures['standard_error']:.4f}" in printed
    assert re.search(r"most confused: \w+ taken for \w+, \d+ of 100 times", printed)
    assert "100 % of the training is done" in printed
    assert str(RUN) in printed


def test_the_curves_are_means_and_quartiles_of_the_folds() -> None:
    result = crossvalidate("--trainer.max_epochs", "3")
    found = curves(RUN)
    assert [epoch for epoch, _ in found["loss/val"]] == [0, 1, 2]
    assert found["accuracy/train"][-1][1] > 0.3
    folds = result.curves[:, 2].reshape(3, -1)
    lower, upper = np.quantile(folds, (0.25, 0.75), axis=1)
    quartiles = {"quartiles/loss_val_lower": lower, "quartiles/loss_val_upper": upper}
    expected = {"loss/val": folds.mean(axis=1), **quartiles}
    for tag, values in expected.items():
        assert [value for _, value in found[tag]] == pytest.approx(list(values), rel=1e-6)
    assert "custom_scalars__config__" in EventAccumulator(str(RUN)).Reload().Tags()["tensors"]


def test_long_trainings_have_curves_of_a_hundred_points_and_end_as_they_should() -> None:
    result = crossvalidate("--trainer.max_epochs", "202", "--data.batch_size", "150")
    assert result.epochs.tolist() == [*range(2, 202, 3)]
    assert summary()["epochs"] == 202


def test_python_returns_the_same_figures() -> None:
    wine(Path("wine.csv"))
    crossvalidate("--data.path", "wine.csv", "--model.standardize", "true", "--trainer.max_epochs", "2")
    data = IrisDataModule("wine.csv")
    result = cross_validate({"standardize": True}, data, 5, 2, max_epochs=2)
    assert json.loads(json.dumps(result.summary())) == summary()


def test_python_refuses_what_has_no_part() -> None:
    refused: list[dict[str, Any]] = [{"devices": 2}, {"callbacks": []}, {"logger": True}, {"epochs": 3}]
    for options in refused:
        with pytest.raises(UserError, match="has no part in a cross-validation"):
            cross_validate(folds=2, repeats=1, **options)
    with pytest.raises(UserError, match="max_epochs: expected at least 1, got 0"):
        cross_validate(folds=2, repeats=1, max_epochs=0)


def test_best_stays_the_newest_run_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    crossvalidate("--trainer.max_epochs", "1")
    (Path("lightning_logs/version_2/parts")).mkdir(parents=True)  # one that is stopped, or runs at the moment
    shutil.copy(RUN / "config.yaml", "lightning_logs/version_2/")
    capsys.readouterr()
    main(["test"])
    assert "version_0/checkpoints/best.ckpt" in capsys.readouterr().out
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    assert "lightning_logs/version_0 goes on" in capsys.readouterr().out


def test_a_config_serves_fit_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    crossvalidate("--model.hidden", "[3]", "--trainer.max_epochs", "1")
    cli = fit("--config", str(RUN / "config.yaml"))
    assert cli.model.hparams["hidden"] == [3]
    assert "folds" not in (Path("lightning_logs/version_1") / "config.yaml").read_text()
    with pytest.raises(SystemExit):
        main(["crossvalidate", *SMALL, "--print_config"])
    printed = capsys.readouterr().out
    assert "folds: 5" in printed
    Path("printed.yaml").write_text(printed[printed.index("seed_everything") :])
    assert crossvalidate("--config", "printed.yaml").done.shape == (2, 5)


def test_the_same_command_goes_on_from_the_folds_that_are_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--trainer.max_epochs", "3", "--max_parallel", "4"]
    whole = crossvalidate(*args)
    expected = {name: (RUN / name).read_bytes() for name in FILES}
    shutil.rmtree("lightning_logs")
    train, trained = training.train_stack, []

    def stop_in_the_third(*parts: Any) -> Any:
        trained.append(parts)
        if len(trained) == 3:
            raise Stopped(signal.SIGINT, None)
        return train(*parts)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_stack", stop_in_the_third)
        with pytest.raises(SystemExit) as stop:
            crossvalidate(*args)
    assert stop.value.code == 128 + signal.SIGINT
    assert "the same command goes on: 8 of 10 folds are done" in capsys.readouterr().err
    crossvalidate("--trainer.max_epochs", "4")  # another command is another run
    damaged, *_ = sorted((RUN / "parts").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:100])
    result = crossvalidate(*args)
    assert "lightning_logs/version_0 goes on: 4 of 10 folds are done" in capsys.readouterr().out
    np.testing.assert_array_equal(result.probabilities, whole.probabilities)
    assert {name: (RUN / name).read_bytes() for name in FILES} == expected
    assert not (RUN / "parts").exists()
    crossvalidate(*args)  # nothing is left to do there: a new run
    assert {path.name for path in RUN.parent.iterdir()} == {"version_0", "version_1", "version_2"}


def test_a_killed_run_goes_on_to_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*SMALL, "--trainer.max_epochs", "12", "--max_parallel", "1"]
    with subprocess.Popen([sys.executable, "-m", "iris_lightning", "crossvalidate", *args]) as run:
        while run.poll() is None and not list(RUN.glob("parts/*.npz")):
            time.sleep(0.01)
        run.kill()
    assert not (RUN / "summary.json").exists()
    result: CrossValidation = main(["crossvalidate", *args])
    assert "lightning_logs/version_0 goes on" in capsys.readouterr().out
    whole = cross_validate(None, None, 5, 2, max_epochs=12, max_parallel=1)
    np.testing.assert_array_equal(result.probabilities, whole.probabilities)
    np.testing.assert_array_equal(result.curves, whole.curves)
    assert result.curves[-1, 3].mean() == pytest.approx(summary()["accuracy"]["mean"])
    assert result.curves[-1, 2].mean() == pytest.approx(summary()["log_loss"]["mean"], rel=1e-5)


def test_what_was_done_is_kept_where_a_later_stack_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, trained = training.train_stack, []

    def fail_in_the_second(*parts: Any) -> Any:
        trained.append(parts)
        if len(trained) == 2:
            raise RuntimeError("out of memory")
        return train(*parts)

    monkeypatch.setattr(training, "train_stack", fail_in_the_second)
    with pytest.raises(SystemExit) as stop:
        crossvalidate("--max_parallel", "4", "--trainer.max_epochs", "1")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "out of memory\nthe folds that were done before are kept in lightning_logs/version_0" in message
    crossvalidate("--max_parallel", "4", "--trainer.max_epochs", "1")
    assert "goes on: 4 of 10 folds are done" in capsys.readouterr().out


def test_the_same_command_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["--trainer.max_epochs", "2", "--max_parallel", "4"]
    train, results = training.train_stack, []

    def start_another(*parts: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(training, "train_stack", train)
            results.append(crossvalidate(*args))
        return train(*parts)

    monkeypatch.setattr(training, "train_stack", start_another)
    results.append(crossvalidate(*args))
    assert summary() == summary(Path("lightning_logs/version_1"))
    assert all(np.array_equal(result.probabilities, results[0].probabilities) for result in results)


def test_a_stop_before_any_fold_is_done_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*args: Any) -> None:
        raise Stopped(signal.SIGTERM, None)

    monkeypatch.setattr(FoldsCLI, "train", stop)
    with pytest.raises(SystemExit):
        crossvalidate()
    assert "the same command starts anew: no stack of folds was done" in capsys.readouterr().err
    assert not RUN.parent.exists()


def test_baselines_are_measured_on_the_same_folds(capsys: pytest.CaptureFixture[str]) -> None:
    crossvalidate("--baselines", "true", "--fold_seed", "1")
    found = summary()["baselines"]
    assert list(found) == [
        *("majority", "logistic_regression", "linear_discriminant_analysis", "svc_rbf", "k_nearest_neighbors"),
        "random_forest",
    ]
    features, target = load_iris(return_X_y=True)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=1)
    oracle = LinearDiscriminantAnalysis()
    for name, scoring, sign in (("accuracy", "accuracy", 1), ("log_loss", "neg_log_loss", -1)):
        scores = sign * cross_val_score(oracle, features, target, cv=folds, scoring=scoring)
        assert found["linear_discriminant_analysis"][name]["mean"] == pytest.approx(scores.mean(), rel=1e-5)
        column = pl.read_csv(RUN / "folds.csv")[f"linear_discriminant_analysis_{name}"]
        assert column.to_list() == pytest.approx(list(scores), rel=1e-5)
        found_by_fold = (pl.read_csv(RUN / "folds.csv")[name] - column).to_numpy()
        variance = found_by_fold.var(ddof=1)
        expected = {"mean": found_by_fold.mean(), "standard_error": ((1 / 10 + 1 / 4) * variance) ** 0.5}
        assert found["linear_discriminant_analysis"]["difference"][name] == pytest.approx(expected)
    assert "log_loss" not in found["svc_rbf"]
    assert found["majority"]["accuracy"]["mean"] == pytest.approx(1 / 3)
    printed = capsys.readouterr().out
    assert len(re.findall("ours minus theirs", printed)) == 6


def test_every_row_and_column_of_an_own_table_is_kept() -> None:
    draw = np.random.default_rng(0)
    lines = [
        f"{i};{value:.2f};{'ab'[i % 2]};note {i}".replace(".", ",") for i, value in enumerate(draw.normal(size=40))
    ]
    lines[3], lines[7] = "3;;b;a row; too", '7;NA;b;"x;y"'
    lines[3] = "3;;b;without"
    Path("own.csv").write_text("\n".join(["id;size;kind;text", *lines]) + "\n")
    how = [
        "--data.path",
        "own.csv",
        "--data.target",
        "kind",
        "--data.features",
        "[size]",
        "--data.decimal_comma",
        "true",
    ]
    crossvalidate(*how, "--data.missing", "drop", "--trainer.max_epochs", "1")
    text = (RUN / "predictions.csv").read_text().splitlines()
    assert [line.split(";prediction")[0] for line in text[:1]] == ["id;size;kind;text"]
    assert [line.startswith(own) for line, own in zip(text[1:], lines, strict=True)] == [True] * 40
    assert text[4] == "3;;b;without;;;"
    assert text[8] == '7;NA;b;"x;y";;;'
    kinds = pl.read_csv(RUN / "predictions.csv", separator=";")["prediction"]
    assert kinds.null_count() == 2
    assert re.search(r";[ab];0,\d+;0,\d+$", text[1])
    assert summary()["rows"] == 38


MEMORY = """
from pathlib import Path
from iris_lightning.cli import main
main(["crossvalidate", "--repeats", "1000", "--trainer.max_epochs", "2"])
print(Path("/proc/self/status").read_text())
"""


def test_options_of_a_fit_that_say_nothing_of_the_training_are_passed_over() -> None:
    Path("fit.yaml").write_text("trainer: {check_val_every_n_epoch: 2, val_check_interval: 2, max_epochs: 2}\n")
    result = crossvalidate("--config", "fit.yaml")
    assert result.epochs.tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from Linux")
def test_ten_thousand_folds_take_less_than_two_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout.split("VmHWM:")[1].split()[0]) < 2e6  # kB
    assert summary()["repeats"] == 1000


def test_a_table_that_changes_meanwhile_is_written_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    wine(Path("wine.csv"))
    before, train = pl.read_csv("wine.csv"), training.train_stack

    def change(*parts: Any) -> Any:
        before.reverse().head(100).write_csv("wine.csv")
        return train(*parts)

    monkeypatch.setattr(training, "train_stack", change)
    crossvalidate("--data.path", "wine.csv", "--trainer.max_epochs", "1")
    assert pl.read_csv(RUN / "predictions.csv").select(before.columns).equals(before)


def test_columns_of_any_kind_are_written() -> None:
    columns: dict[str, Any] = {"x": [1.5, 2, 3, 4] * 5, "kind": ["a", "a", "b", "b"] * 5}
    columns |= {"took": [timedelta(seconds=3)] * 20, "parts": [[1, 2]] * 20, "day": [date(2020, 1, 2)] * 20}
    pl.DataFrame(columns).write_parquet("rows.parquet")
    crossvalidate("--data.path", "rows.parquet", "--data.target", "kind", "--trainer.max_epochs", "1")
    written = pl.read_csv(RUN / "predictions.csv", infer_schema=False)
    assert written.select("x", "kind", "took", "parts", "day").row(0) == ("1.5", "a", "0:00:03", "[1, 2]", "2020-01-02")


def test_a_baseline_that_cannot_be_trained_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.csv").write_text("x,y,kind\n1,2,a\n2,1,a\n5,5,b\n6,7,b\n")
    main(["crossvalidate", "--folds", "2", "--repeats", "1", "--data.path", "tiny.csv", "--baselines", "true"])
    assert re.search(r"^k_nearest_neighbors +- +- +-$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_does_as_the_cpu() -> None:
    options = ["--data.noise", "0.5", "--model.standardize", "true", "--model.class_weight", "balanced"]
    one, other = (crossvalidate(*options, "--trainer.accelerator", where) for where in ("cpu", "gpu"))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)


REFUSED = {
    "more folds than rows of the rarest class": (
        ["--folds", "51"],
        "--folds: expected at most 50, the rows of the rarest class, 'setosa'; got 51",
    ),
    "as many folds as there are grains of sand": (["--folds", "1" + "0" * 26], "--folds: expected at most 50"),
    "one fold": (["--folds", "1"], "--folds: expected at least 2, got 1"),
    "no repeat": (["--repeats", "0"], "--repeats: expected 1 to"),
    "words for a number": (["--repeats", "many"], "--repeats: expected an integer, got many"),
    "negative seed": (["--fold_seed", "-1"], "--fold_seed: expected a whole number"),
    "none at once": (["--max_parallel", "0"], "--max_parallel: expected at least 1"),
    "a checkpoint": (["--ckpt_path", "best"], "--ckpt_path: has no effect in crossvalidate"),
    "weights": (["--weights", "model.pth"], "--weights: has no effect in crossvalidate"),
    "checkpoints to be kept": (["--trainer.enable_checkpointing", "true"], "has no effect in crossvalidate"),
    "a split": (["--data.split", "[0.8, 0.1, 0.1]"], "--data.split: has no effect in crossvalidate"),
    "several processes": (["--config", "ddp.yaml"], "--trainer.devices: has no effect in crossvalidate"),
    "early stopping in a config": (["--config", "stop.yaml"], "--trainer.callbacks: has no effect in crossvalidate"),
    "no curves in a config": (["--config", "quiet.yaml"], "--trainer.logger: has no effect in crossvalidate"),
    "an optimizer that mixes the folds": (["--optimizer", "LBFGS"], "--optimizer: LBFGS would mix the folds"),
    "a scheduler that follows held-out rows": (
        ["--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "loss/val"],
        "--lr_scheduler: ReduceLROnPlateau would follow the held-out rows",
    ),
    "divergence": (["--model.lr", "1e30"], "has diverged"),
    "no epochs": (["--trainer.max_epochs", "0"], "--trainer.max_epochs 0: expected at least 1"),
    "an end that never comes": (["--trainer.max_epochs", "-1"], "--trainer.max_epochs -1: expected at least 1"),
    "a misspelt option": (["--fold", "5"], "did you mean --folds?"),
    "no such table": (["--data.path", "none.csv"], "none.csv: no such file"),
    "a column of the name of a result": (["--data.path", "taken.csv"], "has a column 'prediction' already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("ddp.yaml").write_text("trainer: {devices: 2, accelerator: cpu}\n")
    Path("stop.yaml").write_text(
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: loss/val}}]}\n"
    )
    Path("quiet.yaml").write_text("trainer: {logger: false}\n")
    Path("taken.csv").write_text("x,prediction,kind\n" + "1,yes,a\n3,no,b\n" * 10)
    args, expected = REFUSED[case]
    assert expected in fails(capsys, "crossvalidate", *args)


def test_other_commands_refuse_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--folds: has no effect in fit" in fails(capsys, "fit", "--folds", "5")
    assert "did you mean crossvalidate?" in fails(capsys, "cross_validate")
