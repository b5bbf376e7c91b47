"""A run that was stopped, killed or interrupted, and resumed, ends bit for bit where the uninterrupted one ends."""

import contextlib
import errno
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from tensorboard.summary.writer import event_file_writer
from torch import nn

from iris_lightning import IrisClassifier, network
from iris_lightning.cli import main
from iris_lightning.runs import checkpoint_io
from iris_lightning.runs.checkpoints import epochs_done
from iris_lightning.runs.folders import training_alone
from iris_lightning.runs.saving import BestCheckpoint, LastCheckpoint
from tests.conftest import assert_same_weights, curves, fails, fit, load
from tests.test_files import full_disk

SGD = ["--optimizer", "SGD", "--optimizer.lr", "0.02", "--optimizer.momentum", "0.9"]
STOPPING = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=loss/val"]
PLATEAU = ["--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.mode", "max", "--lr_scheduler.patience", "0"]
RARELY = ["--trainer.check_val_every_n_epoch", "2"]
CASES = {
    "dropout": ["--model.activation", "dropout", "--seed_everything", "3"],
    "scheduler": ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "7"],
    "optimizer": [*SGD, "--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "3"],
    "plateau": [*SGD, *PLATEAU, "--lr_scheduler.monitor", "loss/val"],
    "rare validations": RARELY,
    "early stopping": [*SGD, *STOPPING, "--trainer.callbacks.patience=1"],
    "stratified": ["--data.stratify", "true", "--model.standardize", "true", "--model.class_weight", "balanced"],
    "noise": ["--data.noise", "0.5", "--data.num_workers", "1"],
    "double precision": ["--trainer.precision", "64-true", "--model.standardize", "true"],
    "double precision, weights of classes": ["--trainer.precision", "64-true", "--model.class_weight", "balanced"],
    "own table": ["--data.path", "rows.csv", "--data.batch_size", "7"],
}


@pytest.fixture(scope="module", autouse=True)
def clock() -> Iterator[None]:
    """Lets each event file begin in a second of its own: TensorBoard orders them by it."""
    passed = itertools.count(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: time.time() + next(passed)))
        yield


def assert_same_run(one: Path, other: Path) -> None:
    """Asserts equality of what two runs have learned and said, bit for bit."""
    assert curves(one) == curves(other)
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (load(run / "checkpoints" / name) for run in (one, other))
        assert_same_weights(first["state_dict"], second["state_dict"])
        assert first["metrics"] == second["metrics"]
        assert first["epoch"] == second["epoch"]
        assert str(first["lr_schedulers"]) == str(second["lr_schedulers"])
        for ours, theirs in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
            assert str(ours["param_groups"]) == str(theirs["param_groups"])
            for parameter, state in ours["state"].items():
                assert_same_weights(_tensors(state), _tensors(theirs["state"][parameter]))


def _tensors(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value) for key, value in state.items() if value is not None}


@pytest.mark.parametrize("case", CASES)
def test_after_every_epoch(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(network.ACTIVATIONS, "dropout", nn.Dropout)
    lines = [f"{i % 7},{i % 5},{'abc'[(i * i) % 3]}" for i in range(60)]
    (folder / "rows.csv").write_text("a,b,kind\n" + "\n".join(lines))
    fit(*CASES[case], "--trainer.max_epochs", "4", "--trainer.default_root_dir", "whole")
    fit(*CASES[case], "--trainer.max_epochs", "1")
    for epochs in ("2", "3", "4"):
        main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", epochs])
    assert os.listdir("lightning_logs") == ["version_0"]
    assert_same_run(folder / "lightning_logs" / "version_0", folder / "whole" / "lightning_logs" / "version_0")


def test_a_run_that_early_stopping_ended_has_nothing_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    cli = fit(*CASES["early stopping"], "--trainer.max_epochs", "50")
    epochs = cli.trainer.current_epoch
    assert epochs < 50
    capsys.readouterr()
    main(["fit", "--ckpt_path", "last"])
    assert f"has trained {epochs} epochs, after which EarlyStopping ended it" in capsys.readouterr().out


def test_a_run_that_has_moved_is_resumed_where_it_is_and_keeps_its_best(folder: Path) -> None:
    options = ["--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs"]
    fit(*options, "8", "--trainer.default_root_dir", "whole")
    fit(*options, "7", "--trainer.default_root_dir", "before")
    shutil.move("before/lightning_logs/version_0", "after/logs/moved")
    shutil.rmtree("before")
    main(["fit", "--ckpt_path", "after/logs/moved/checkpoints/last.ckpt", "--trainer.max_epochs", "8"])
    assert sorted(os.listdir()) == ["after", "whole"]
    assert load(Path("after/logs/moved/checkpoints/best.ckpt"))["epoch"] < 7, "the last epoch is no better"
    assert_same_run(folder / "after" / "logs" / "moved", folder / "whole" / "lightning_logs" / "version_0")


# What a kill leaves behind: the files as they are at a moment of the first or the third epoch.
MOMENTS: dict[str, tuple[int, Any, str, bool]] = {
    "before the run's first checkpoints": (0, Callback, "on_validation_start", True),
    "before its first step": (2, Callback, "on_train_epoch_start", True),
    "before its validation": (2, Callback, "on_validation_start", True),
    "before its checkpoints": (2, BestCheckpoint, "on_train_epoch_end", True),
    "between its checkpoints": (2, BestCheckpoint, "on_train_epoch_end", False),
    "before its train metrics are logged": (2, LastCheckpoint, "on_train_epoch_end", False),
    "while a checkpoint is renamed": (2, os, "replace", True),
}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, and beside it its folder as it was at each of the moments."""
    root = tmp_path_factory.mktemp("moments")
    run = root / "lightning_logs" / "version_0"
    trainers: list[L.Trainer] = []

    def keep(name: str, epoch: int, original: Callable[..., Any], before: bool) -> Callable[..., None]:
        def copy() -> None:
            if trainers and trainers[-1].current_epoch == epoch and not (root / name).exists():
                shutil.copytree(run, root / name / "lightning_logs" / "version_0")

        def changed(*args: Any, **kwargs: Any) -> None:
            trainers.extend(item for item in args if isinstance(item, L.Trainer))
            if before:
                copy()
            original(*args, **kwargs)
            if not before:
                copy()

        return changed

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(checkpoint_io, "SECONDS", 0)  # as if epochs were long
        for name, (epoch, owner, function, before) in MOMENTS.items():
            patch.setattr(owner, function, keep(name, epoch, getattr(owner, function), before))
        fit("--model.lr", "0.01", "--trainer.max_epochs", "4")
    return run


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment_of_an_epoch(moment: str, whole_run: Path, folder: Path) -> None:
    shutil.copytree(whole_run.parents[1] / moment, folder, dirs_exist_ok=True)
    run = folder / "lightning_logs" / "version_0"
    done = MOMENTS[moment][0] + (moment == "before its train metrics are logged")
    assert epochs_done(load(run / "checkpoints" / "last.ckpt")) == done
    assert len(list(run.rglob("*.part"))) == (moment == "while a checkpoint is renamed")
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
    assert_same_run(run, whole_run)
    assert not list(run.rglob("*.part"))


class Signal(Callback):
    """Sends this process a signal in the third epoch."""

    def __init__(self, number: int, when: str) -> None:
        self.number = number
        setattr(self, when, self.send)

    def send(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 2:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("when", ["on_train_batch_start", "on_validation_batch_start"])
def test_a_signal_stops_the_run_and_says_how_to_go_on(
    number: signal.Signals, status: int, when: str, whole_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    sender = ["--trainer.callbacks+=tests.runs.test_resume.Signal", f"--trainer.callbacks.number={int(number)}"]
    with pytest.raises(SystemExit) as stop:
        fit("--model.lr", "0.01", "--trainer.max_epochs", "4", *sender, f"--trainer.callbacks.when={when}")
    assert stop.value.code == status
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"stopped by {number.name}; to go on: python -m iris_lightning fit --ckpt_path {last}"
    assert "Traceback" not in "".join(said)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert load(Path(last))["epoch"] == 1
    main(["fit", "--ckpt_path", last, "--trainer.callbacks=null"])
    assert_same_run(Path("lightning_logs/version_0"), whole_run)


def test_a_run_that_goes_on_to_a_number_of_steps() -> None:
    fit("--trainer.max_epochs", "2")
    main(["fit", "--ckpt_path", "last", "--trainer.max_steps", "44"])
    fit("--trainer.max_steps", "44")
    assert_same_run(Path("lightning_logs/version_0"), Path("lightning_logs/version_1"))


# What ends a run after 15 steps, within its second epoch, and what lets it go on to the end of its fourth.
ENDS = {
    "max_steps": (["--trainer.max_steps", "15"], ["--trainer.max_steps", "44"]),
    "early stopping": (
        ["--trainer.callbacks+=tests.runs.test_resume.StopsAfter", "--trainer.max_epochs", "4"],
        ["--trainer.callbacks", "null"],
    ),
}


class StopsAfter(Callback):
    """Ends training within an epoch, as `EarlyStopping` does where that is validated within, and `max_time`."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        trainer.should_stop = trainer.global_step == 15


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_ended_within_an_epoch_goes_on_from_the_one_before(
    end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ends, goes_on = ENDS[end]
    assert fit(*ends).trainer.global_step == 15
    checkpoints = Path("lightning_logs/version_0/checkpoints")
    assert load(checkpoints / "last.ckpt")["global_step"] == 15
    assert load(checkpoints / "whole_epoch.ckpt")["global_step"] == 11
    capsys.readouterr()
    main(["fit", "--ckpt_path", "last", *goes_on])
    assert "lightning_logs/version_0 goes on after epoch 0, the last whole one" in capsys.readouterr().out
    assert not (checkpoints / "whole_epoch.ckpt").exists(), "the last epoch is whole"
    fit("--trainer.max_epochs", "4")
    assert_same_run(Path("lightning_logs/version_0"), Path("lightning_logs/version_1"))


@pytest.mark.parametrize("interval", ["1", "3", "0.5"])
def test_the_best_of_epochs_that_are_validated_within_is_what_was_validated(interval: str) -> None:
    options = ["--optimizer", "SGD", "--optimizer.lr", "0.15", "--trainer.val_check_interval", interval]
    options += ["--trainer.max_epochs"]
    fit(*options, "3")
    best = load(Path("lightning_logs/version_0/checkpoints/best.ckpt"))
    assert best["global_step"] % 11 != 0, "a step within an epoch may be the best"
    validated = main(["validate"]).trainer.callback_metrics
    assert {name: float(value) for name, value in validated.items()} == best["metrics"]
    fit(*options, "1")
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    again = load(Path("lightning_logs/version_1/checkpoints/best.ckpt"))
    assert again["global_step"] == best["global_step"]
    assert_same_weights(again["state_dict"], best["state_dict"])


STOPS = ["--trainer.callbacks+=tests.runs.test_resume.StopsAfter"]
NOISY = ["--optimizer", "SGD", "--optimizer.lr", "0.1", "--optimizer.momentum", "0.9", "--model.standardize", "true"]


@pytest.mark.parametrize("options", [[], ["--trainer.val_check_interval", "3"]])
def test_the_validation_at_which_a_run_ends_within_an_epoch_makes_no_best(options: list[str]) -> None:
    options = [*NOISY, *options, "--model.activation", "relu", "--seed_everything", "3", "--trainer.max_epochs", "2"]
    fit(*options)
    fit(*options, *STOPS)
    assert load(Path("lightning_logs/version_1/checkpoints/best.ckpt"))["global_step"] < 15
    main(["fit", "--ckpt_path", "last", "--trainer.callbacks", "null"])
    first, second = (load(Path(f"lightning_logs/version_{i}/checkpoints/best.ckpt")) for i in (0, 1))
    assert first["global_step"] == second["global_step"]
    assert_same_weights(first["state_dict"], second["state_dict"])


def test_a_best_that_is_lost_is_missed_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    for damage in (lambda: best.write_bytes(b"PK"), best.unlink):
        damage()
        message = fails(capsys, "fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
        assert "best.ckpt" in message
        assert "the best epoch of the run would be lost" in message


def test_a_users_own_checkpoints_go_on_too() -> None:
    own = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename={epoch}"]
    own += ["--trainer.callbacks.save_top_k=2", "--trainer.callbacks.monitor=loss/val", "--trainer.max_epochs"]
    fit(*own, "4")
    fit(*own, "1")
    for epochs in ("2", "4"):
        main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", epochs])
    first, second = (sorted(os.listdir(f"lightning_logs/version_{i}/checkpoints")) for i in (0, 1))
    assert first == second


def test_a_checkpoint_within_an_epoch_resumes_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.val_check_interval", "3", "--trainer.max_steps", "15")
    checkpoints = Path("lightning_logs/version_0/checkpoints")
    message = "was saved within an epoch, from where no run goes on exactly; "
    assert message + "resume last" in fails(capsys, "fit", "--ckpt_path", "best")
    (checkpoints / "whole_epoch.ckpt").unlink()
    assert message + "expected whole_epoch.ckpt beside it" in fails(capsys, "fit", "--ckpt_path", "last")


def test_a_damaged_last_checkpoint_does_not_block_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "2")
    Path("lightning_logs/version_0/checkpoints/last.ckpt").write_bytes(b"PK")
    assert "last.ckpt: not a checkpoint, or a damaged one" in fails(capsys, "fit", "--ckpt_path", "last")
    assert fit("--ckpt_path", "best", "--trainer.max_epochs", "3").trainer.current_epoch == 3


def test_an_edited_config_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1", "--optimizer", "SGD")
    config = Path("lightning_logs/version_0/config.yaml")
    before = config.read_text()
    for old, new, told in (
        ("batch_size: 10", "batch_size: 5", "data.batch_size is 5 now, and the run was trained with 10"),
        ("seed_everything: 20", "seed_everything: 3", "seed_everything is 3 now"),
        ("momentum: 0.0", "momentum: 0.5", "optimizer.init_args.momentum is 0.5 now"),
    ):
        config.write_text(before.replace(old, new))
        assert f"{config}: {told}" in fails(capsys, "fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    unsaid = before.replace("  stratify: false\n", "")  # which is the default
    assert unsaid != before
    config.write_text(unsaid.replace("max_epochs: 1", "max_epochs: 2"))
    assert fit("--ckpt_path", "last").trainer.current_epoch == 2


def test_a_run_is_resumed_from_any_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("a,b,kind\n" + "1,2,x\n2,1,y\n3,4,x\n" * 20)
    fit("--data.path", "rows.csv", "--trainer.max_epochs", "1")
    run = Path("lightning_logs/version_0").absolute()
    for epochs, (inside, checkpoint) in enumerate([("checkpoints", "last.ckpt"), (".", "checkpoints/last.ckpt")], 2):
        monkeypatch.chdir(run / inside)
        cli = fit("--ckpt_path", checkpoint, "--trainer.max_epochs", str(epochs))
        assert (cli.run, cli.trainer.current_epoch) == (run, epochs)
        assert f"run:    {run}\n" in capsys.readouterr().out
        assert not Path("lightning_logs").exists()


def test_one_process_at_a_time_trains_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    with training_alone(Path("lightning_logs/version_0")):
        message = fails(capsys, "fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert "lightning_logs/version_0: another process is training this run" in message
    assert fit("--ckpt_path", "last", "--trainer.max_epochs", "2").trainer.current_epoch == 2


def test_a_run_that_was_trained_meanwhile_is_not_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--trainer.max_epochs", "1")

    @contextlib.contextmanager
    def late(run: Path) -> Iterator[None]:
        monkeypatch.undo()
        monkeypatch.chdir(run.parent.parent)
        fit("--ckpt_path", "last", "--trainer.max_epochs", "2")
        yield

    monkeypatch.setattr("iris_lightning.cli.training.training_alone", late)
    with pytest.raises(SystemExit):
        fit("--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert "lightning_logs/version_0: another process has trained it meanwhile" in capsys.readouterr().err


@pytest.mark.parametrize("finder", ["LearningRateFinder", "BatchSizeFinder"])
def test_a_resumed_run_keeps_what_a_finder_found(finder: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--trainer.callbacks+={finder}", "--data.batch_size", "5", "--trainer.max_epochs"]
    fit(*options, "4")
    assert "epoch -1" not in capsys.readouterr().out
    fit(*options, "2")
    resumed = fit("--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert (resumed.model.hparams["lr"], resumed.datamodule.batch_size) != (1e-3, 5)
    assert_same_run(Path("lightning_logs/version_0"), Path("lightning_logs/version_1"))


def test_a_refused_resume_leaves_every_file_as_it_was() -> None:
    fit("--trainer.max_epochs", "2")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    for mistake in ("--trainer.val_check_interval=500", "--trainer.limit_train_batches=0"):
        with pytest.raises(SystemExit):
            main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3", mistake])
        assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.filterwarnings("ignore:Swapping scheduler", "ignore:.*SWA")
def test_a_callback_with_a_default_that_yaml_does_not_know() -> None:
    swa = ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"]
    fit("--trainer.max_epochs", "1", *swa)
    assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"]).trainer.current_epoch == 2


def test_what_fails_after_some_epochs_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    scheduler = ["--lr_scheduler", "OneCycleLR", "--lr_scheduler.max_lr", "0.1", "--lr_scheduler.total_steps", "2"]
    with pytest.raises(SystemExit) as stop:
        fit(*scheduler)
    assert stop.value.code == 2
    assert "--lr_scheduler: Tried to step 3 times" in capsys.readouterr().err
    assert load(Path("lightning_logs/version_0/checkpoints/last.ckpt"))["epoch"] == 1


def test_a_training_that_has_diverged_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--optimizer", "SGD", "--optimizer.lr", "1e30", "--trainer.max_epochs", "1")
    assert "the loss is not a finite number: the training has diverged" in capsys.readouterr().out
    message = "best.ckpt: the network's weights are not finite: its training has diverged"
    for command in (["test"], ["validate"], ["export", "model.pth"]):
        assert message in fails(capsys, *command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--trainer.max_epochs", "1")
    monkeypatch.setattr(IrisClassifier, "setup", lambda *args, **kwargs: signal.raise_signal(number), raising=False)
    for options, hint in (
        ([], "no run was begun"),
        (["--ckpt_path", "last", "--trainer.max_epochs", "2"], "to go on: python -m iris_lightning fit --ckpt_path "),
    ):
        with pytest.raises(SystemExit) as stop:
            fit(*options)
        assert stop.value.code == 128 + number
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"stopped by {number.name}; {hint}")
        assert os.listdir("lightning_logs") == ["version_0"]


def _child(folder: str, args: list[str]) -> None:
    os.chdir(folder)
    checkpoint_io.SECONDS = 0.05  # some are written and some held, in the time that it has
    with open("out.txt", "w", buffering=1, encoding="utf-8") as sys.stdout, open(os.devnull, "w") as sys.stderr:
        main(args)


def _start(*args: str) -> Any:
    """Starts a command in a process of its own, forked from one that has the imports done."""
    time.sleep(1 - time.time() % 1)  # its event file, too, begins in a second of its own
    Path("out.txt").unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sklearn.datasets", "tests.runs.test_resume"])
    process = context.Process(target=_child, args=(os.getcwd(), list(args)))
    process.start()
    return process


def _trains() -> bool:
    return Path("out.txt").exists() and "epoch " in Path("out.txt").read_text()


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_a_storm_of_kills(kills: int, folder: Path) -> None:
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
        checkpoints = list(folder.glob("lightning_logs/*/checkpoints/*.ckpt"))
        assert all(load(path) for path in checkpoints), "each of them is whole"
        assert all(yaml.safe_load(path.read_text()) for path in folder.glob("lightning_logs/*/*.yaml"))
        if checkpoints:
            command = ["fit", "--ckpt_path", "last"]
    assert command == ["fit", "--ckpt_path", "last"]
    main(command)
    (run,) = [path.parents[1] for path in folder.glob("lightning_logs/*/checkpoints/last.ckpt")]
    assert not list(run.rglob("*.part"))
    whole = fit(*options, "--trainer.default_root_dir", "whole")
    assert_same_run(run, Path(str(whole.trainer.log_dir)))


def test_a_folder_that_cannot_be_written_keeps_its_checkpoints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--trainer.max_epochs", "2")
    last = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    before = last.read_bytes()

    @contextlib.contextmanager
    def refuse(path: Path) -> Any:
        if path.suffix == ".ckpt":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        yield path

    monkeypatch.setattr("iris_lightning.runs.checkpoint_io.atomic_write", refuse)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert all(part in err for part in (".ckpt: cannot be written", os.strerror(errno.EROFS), "the one before is kept"))
    assert last.read_bytes() == before


def test_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "2")
    checkpoints = sorted(Path("lightning_logs/version_0/checkpoints").iterdir())
    before = [path.read_bytes() for path in checkpoints]
    with full_disk(9000), pytest.raises(SystemExit) as stop:
        main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert ".ckpt: cannot be written" in err
    assert len(err.splitlines()) == 1
    assert [path.read_bytes() for path in checkpoints] == before
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
    assert [load(path)["epoch"] for path in checkpoints] == [3, 3]


def test_what_a_rerun_needs(default_run: Path) -> None:
    environment = yaml.safe_load((default_run / "environment.yaml").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["seed"] == 20
    assert environment["data"] == {
        "source": "Iris",
        "sha256": load(default_run / "checkpoints" / "last.ckpt")["trained_on"]["sha256"],
    }
    again = fit("--config", str(default_run / "config.yaml"))
    assert_same_run(Path(str(again.trainer.log_dir)), default_run)


@pytest.mark.slow
def test_twenty_runs_on_one_thread_and_on_two_are_equal() -> None:
    random = np.random.default_rng(0)
    features = {name: random.normal(size=100_000).round(3) for name in "abcd"}
    pl.DataFrame({**features, "kind": random.integers(0, 3, 100_000)}).write_parquet("rows.parquet")
    # Torch splits what has more than 32768 numbers: of a column for its scale, and of a batch for its layers.
    options = ["--data.path", "rows.parquet", "--data.batch_size", "16384", "--model.hidden", "[64]"]
    options += ["--model.activation", "relu", "--model.standardize", "true", "--trainer.logger", "false"]
    threads = torch.get_num_threads()
    states = []
    try:
        for i in range(20):
            torch.set_num_threads(1 + i % 2)
            states.append(fit(*options, "--trainer.max_epochs", "2").model.state_dict())
    finally:
        torch.set_num_threads(threads)
    for state in states[1:]:
        assert_same_weights(state, states[0])
