"""A resumed run gives the same result as an uninterrupted one, bit for bit."""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from tensorboard.summary.writer import event_file_writer
from torch import nn

from iris_lightning import IrisClassifier, IrisNetwork
from iris_lightning.cli import main
from iris_lightning.network import ACTIVATIONS
from iris_lightning.runs import checkpoint_io
from iris_lightning.runs.folders import training_alone
from tests.conftest import assert_same_weights, curves, fails, fit, load

RUN = Path("lightning_logs/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"
SGD = ["--optimizer", "SGD", "--optimizer.lr", "0.02", "--optimizer.momentum", "0.9"]


@pytest.fixture(scope="module", autouse=True)
def clock() -> Iterator[None]:
    """Makes each event file start in a different second: TensorBoard orders them by it."""
    passed = itertools.count(1)
    later = SimpleNamespace(time=lambda: time.time() + next(passed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_file_writer, "time", later)
        yield


def resume(epochs: int, *options: str) -> Any:
    """Resumes the newest run."""
    return main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", str(epochs), *options])


def metrics_of(run: Path) -> dict[str, Any]:
    """Reads the curves of a run, without the results for HParams."""
    return {tag: points for tag, points in curves(run).items() if not tag.startswith("result/")}


def assert_same_run(one: Path, other: Path) -> None:
    """Asserts that weights, metrics and optimizer states are equal, bit for bit."""
    assert metrics_of(one) == metrics_of(other)
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (load(run / "checkpoints" / name) for run in (one, other))
        assert_same_weights(first["state_dict"], second["state_dict"])
        for entry in ("metrics", "epoch", "global_step", "lr_schedulers"):
            assert first[entry] == second[entry]
        ours, theirs = first["optimizer_states"], second["optimizer_states"]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


COSINE = ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "7"]
PLATEAU = [*SGD, "--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "loss/val"]
WEIGHED = ["--model.standardize", "true", "--model.class_weight", "balanced"]
CASES = {
    "Adam": [],
    "cosine": COSINE,
    "plateau": [*PLATEAU, "--lr_scheduler.mode", "max", "--lr_scheduler.patience", "0"],
    "dropout": [],
    "rare validations": ["--trainer.check_val_every_n_epoch", "2"],
    "double precision": ["--trainer.precision", "64-true", "--data.stratify", "true", *WEIGHED],
}


@pytest.mark.parametrize("case", CASES)
def test_three_plus_three_epochs_equal_six(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "dropout":
        monkeypatch.setitem(ACTIVATIONS, "dropout", nn.Dropout)
        monkeypatch.setattr(
            IrisClassifier, "make_network", lambda self: IrisNetwork(activation="dropout")
        )
    fit(*CASES[case], "--trainer.max_epochs", "3")
    resume(6)
    assert os.listdir("lightning_logs") == ["version_0"]
    fit(*CASES[case], "--trainer.max_epochs", "6")
    assert_same_run(RUN, Path("lightning_logs/version_1"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains four epochs without interruption."""
    root = tmp_path_factory.mktemp("whole")
    options = ["--figures", "false", "--trainer.default_root_dir", str(root)]
    fit("--model.lr", "0.01", "--trainer.max_epochs", "4", *options)
    return root / RUN


def test_a_moved_run_keeps_its_best_checkpoint() -> None:
    options = ["--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs"]
    fit(*options, "7")
    shutil.move(RUN, "logs/moved")
    last = Path("logs/moved/checkpoints/last.ckpt")
    main(["fit", "--ckpt_path", str(last), "--trainer.max_epochs", "8"])
    assert load(last.with_name("best.ckpt"))["epoch"] < 7, "the last epoch is no better"
    fit(*options, "8")
    assert_same_run(Path("logs/moved"), RUN)


def test_options_that_a_resumed_run_accepts() -> None:
    lines = [f"{i % 7},{i % 5},{'abc'[(i * i) % 3]}" for i in range(60)]
    Path("rows.csv").write_text("a,b,kind\n" + "\n".join(lines))
    fit("--data.path", "rows.csv", "--trainer.max_epochs", "2")
    Path("rows.csv").rename("moved.csv")
    resume(4, "--data.path", "moved.csv", "--data.num_workers", "1")
    fit("--data.path", "moved.csv", "--trainer.max_epochs", "4")
    assert_same_run(RUN, Path("lightning_logs/version_1"))


@pytest.mark.parametrize(
    "option",
    [
        "--model.lr=0.1",
        "--data.batch_size=5",
        "--seed_everything=3",
        "--name=other",
        "--optimizer=SGD",
        "--config=run.yaml",
        "--ckpt_path=best",
    ],
)
def test_options_that_a_resumed_run_rejects(
    option: str, default_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(default_run, folder / RUN)
    (folder / "run.yaml").write_text("model:\n  lr: 0.1\n")
    before = LAST.read_bytes()
    command = ["fit", "--ckpt_path", "last", "--trainer.max_epochs", "9", option]
    message = fails(capsys, *command)
    assert option.partition("=")[0] in message
    assert len(message.splitlines()) == 1
    assert LAST.read_bytes() == before


def test_resuming_a_finished_run_only_completes_it(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    weights, points = LAST.read_bytes(), curves(RUN)["loss/val"]
    capsys.readouterr()
    main(["fit", "--ckpt_path", "last"])
    assert "after 5 epochs" in capsys.readouterr().out
    assert LAST.read_bytes() == weights
    assert curves(RUN)["loss/val"] == points


@pytest.mark.parametrize(
    ("option", "reason"),
    [("patience=1", "did not improve in the last"), ("stopping_threshold=5", "threshold reached")],
)
def test_resuming_after_early_stopping_does_nothing(
    option: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=loss/val"]
    fit(*SGD, *stopping, f"--trainer.callbacks.{option}", "--trainer.max_epochs", "50")
    before = load(LAST)["epoch"]
    assert before < 49
    main(["fit", "--ckpt_path", "last"])
    assert load(LAST)["epoch"] == before
    assert capsys.readouterr().out.count(reason) == 2


def test_resuming_within_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_steps", "15")
    assert load(LAST)["global_step"] == 15
    cli = resume(4, "--trainer.max_steps", "-1")
    assert "uninterrupted" in capsys.readouterr().out
    assert cli.trainer.current_epoch == 4


def test_best_checkpoint_with_validation_within_epochs() -> None:
    options = ["--optimizer", "SGD", "--optimizer.lr", "0.15", "--trainer.max_epochs", "3"]
    fit(*options, "--trainer.val_check_interval", "3")
    best = load(RUN / "checkpoints" / "best.ckpt")
    assert best["global_step"] % 11 != 0, "a step within an epoch may be the best"
    for name, value in main(["validate"]).trainer.callback_metrics.items():
        assert float(value) == best["metrics"][name]


class Signal(Callback):
    """Sends this process a signal, by default in the third epoch."""

    def __init__(self, number: int, step: int = 22) -> None:
        self.number = number
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_and_explains_how_to_resume(
    number: signal.Signals, status: int, whole_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(number)
    sender = ["--trainer.callbacks+=tests.runs.test_resume.Signal"]
    sender += [f"--trainer.callbacks.number={int(number)}", "--trainer.max_epochs", "4"]
    with pytest.raises(SystemExit) as stop:
        fit("--model.lr", "0.01", *sender)
    assert stop.value.code == status
    assert signal.getsignal(number) == handler
    (said,) = capsys.readouterr().err.splitlines()
    assert number.name in said
    assert f"fit --ckpt_path {LAST}" in said
    assert load(LAST)["epoch"] == 1
    resume(4, "--trainer.callbacks=null")
    assert_same_run(RUN, whole_run)


def test_a_signal_in_the_first_epoch_leaves_its_checkpoints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sender = ["--trainer.callbacks+=tests.runs.test_resume.Signal", "--trainer.callbacks.step=5"]
    sender += [f"--trainer.callbacks.number={int(signal.SIGINT)}"]
    with pytest.raises(SystemExit):
        fit("--trainer.val_check_interval", "3", *sender)
    assert os.listdir(LAST.parent) == ["best.ckpt"]
    assert "resume" not in capsys.readouterr().err


def test_a_signal_before_the_first_step_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(IrisClassifier, "on_fit_start", interrupt)
    with pytest.raises(SystemExit) as stop:
        fit()
    assert stop.value.code == 143
    assert not Path("lightning_logs").exists()


def test_only_one_process_can_train_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    with training_alone(RUN):
        message = fails(capsys, "fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert "another process" in message
    resume(2)
    assert load(LAST)["epoch"] == 1


@pytest.mark.parametrize(
    "finder",
    [
        ["LearningRateFinder", "--trainer.callbacks.num_training_steps=40"],
        ["BatchSizeFinder", "--trainer.callbacks.max_trials=2"],
    ],
)
def test_a_resumed_run_keeps_the_result_of_a_finder(finder: list[str]) -> None:
    options = [f"--trainer.callbacks+={finder[0]}", *finder[1:], "--data.batch_size", "5"]
    fit(*options, "--trainer.max_epochs", "2")
    fit(*options, "--trainer.max_epochs", "1")
    resumed = resume(2)
    assert (resumed.model.hparams["lr"], resumed.datamodule.batch_size) != (1e-3, 5)
    assert_same_run(RUN, Path("lightning_logs/version_1"))


def test_a_failing_run_keeps_its_finished_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    scheduler = ["--lr_scheduler", "OneCycleLR", "--lr_scheduler.max_lr", "0.1"]
    with pytest.raises(SystemExit) as stop:
        fit(*scheduler, "--lr_scheduler.total_steps", "2")
    assert stop.value.code == 2
    assert "Tried to step 3 times" in capsys.readouterr().err
    assert load(LAST)["epoch"] == 1


def _child(folder: str, args: list[str]) -> None:
    os.chdir(folder)
    checkpoint_io.WRITE_INTERVAL_SECONDS = 0.05  # so that some are written before the kill
    with open("out.txt", "w", buffering=1) as sys.stdout, open(os.devnull, "w") as sys.stderr:
        main(args)


def _start(*args: str) -> Any:
    """Starts a command in a forked process, which saves the time of the imports."""
    time.sleep(1 - time.time() % 1)  # its event file, too, begins in a second of its own
    Path("out.txt").unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.runs.test_resume", "iris_lightning.cli.training"])
    process = context.Process(target=_child, args=(os.getcwd(), list(args)))
    process.start()
    return process


def _trains() -> bool:
    return Path("out.txt").exists() and "epoch " in Path("out.txt").read_text()


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_repeatedly_killed_run(kills: int, folder: Path) -> None:
    options = ["--model.lr", "0.01", "--trainer.max_epochs", str(10 * kills)]
    moments = random.Random(kills)
    command = ["fit", *options, "--figures", "false"]
    for _ in range(kills):
        process = _start(*command)
        # From the start of the process on, or, mostly, from its first epoch on.
        late = moments.random() < 0.8
        while late and process.is_alive() and not _trains():
            time.sleep(0.01)
        process.join(moments.uniform(0, 0.2))
        process.kill()
        process.join()
        # Temporary folders of the killed process, which may hold half a file, are not searched.
        assert all(map(load, folder.rglob("checkpoints/*.ckpt"))), "each of them is complete"
        for config in folder.rglob("version_*/config.yaml"):
            assert yaml.safe_load(config.read_text())
            assert (config.parent / "checkpoints" / "last.ckpt").is_file()
            command = ["fit", "--ckpt_path", "last"]
    assert command == ["fit", "--ckpt_path", "last"]
    main(command)
    (run,) = [path.parent for path in folder.rglob("version_*/config.yaml")]
    whole = fit(*options, "--trainer.default_root_dir", "whole")
    assert_same_run(run, Path(str(whole.trainer.log_dir)))
