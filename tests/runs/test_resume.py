"""A run that was stopped, killed or interrupted, and resumed, ends bit for bit where the uninterrupted one ends."""

import contextlib
import errno
import io
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from iris_lightning import network
from iris_lightning.cli import main
from tests.conftest import assert_same_weights, curves, fails, fit, load

CASES = {
    "plain": [],
    "dropout": ["--model.activation", "dropout"],
    "scheduler": ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "7"],
    "early stopping": [
        *(
            "--optimizer",
            "SGD",
            "--optimizer.lr",
            "0.1",
            "--optimizer.momentum",
            "0.9",
            "--trainer.callbacks+=EarlyStopping",
        ),
        *("--trainer.callbacks.monitor=loss/val", "--trainer.callbacks.patience=1"),
    ],
    "stratified": ["--data.stratify", "true", "--model.standardize", "true", "--model.class_weight", "balanced"],
    "own table": ["--data.path", "rows.csv", "--data.batch_size", "7"],
}


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


def _let_a_second_pass() -> None:
    """TensorBoard orders event files by the second they were made in, which a command of its own never shares."""
    time.sleep(1 - time.time() % 1)


@pytest.mark.parametrize("case", CASES)
def test_after_every_epoch(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(network.ACTIVATIONS, "dropout", nn.Dropout)
    lines = [f"{i % 7},{i % 5},{'abc'[(i * i) % 3]}" for i in range(60)]
    (folder / "rows.csv").write_text("a,b,kind\n" + "\n".join(lines))
    whole = Path(str(fit(*CASES[case], "--trainer.max_epochs", "4").trainer.log_dir)).resolve()
    for k in (1, 2, 3):
        part = Path(str(fit(*CASES[case], "--trainer.max_epochs", str(k)).trainer.log_dir)).resolve()
        _let_a_second_pass()
        main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
        assert_same_run(part, whole)
    assert len(os.listdir("lightning_logs")) == 4


def test_a_run_that_early_stopping_ended_has_nothing_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    cli = fit(*CASES["early stopping"], "--trainer.max_epochs", "50")
    assert cli.trainer.current_epoch < 50
    capsys.readouterr()
    main(["fit", "--ckpt_path", "last"])
    assert (
        f"has finished {cli.trainer.current_epoch} epochs, after which EarlyStopping ended it"
        in capsys.readouterr().out
    )


def _child(folder: str, args: list[str]) -> None:
    os.chdir(folder)
    for descriptor, name in ((1, "out.txt"), (2, "err.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    for stream in (sys.__stdout__, sys.__stderr__):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=True)  # a line is to be read when it is printed
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    main(args)


def _start(*args: str) -> Any:
    """Starts a command in a process of its own, forked from one that has the imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["iris_lightning.cli"])
    process = context.Process(target=_child, args=(os.getcwd(), list(args)))
    process.start()
    return process


def _printed(text: str) -> bool:
    return Path("out.txt").exists() and text in Path("out.txt").read_text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_and_says_how_to_go_on(number: int, status: int) -> None:
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    process = _start("fit", "--trainer.max_epochs", "100000")
    deadline = time.monotonic() + 60
    while not _printed("epoch 3"):
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == status
    name = signal.Signals(number).name
    assert Path("err.txt").read_text() == (
        f"stopped by {name}; to go on: python -m iris_lightning fit --ckpt_path {last}\n"
    )
    epochs = str(load(Path(last))["epoch"] + 3)
    _let_a_second_pass()
    resumed = main(["fit", "--ckpt_path", last, "--trainer.max_epochs", epochs])
    whole = fit("--trainer.max_epochs", epochs)
    assert_same_run(Path(str(resumed.trainer.log_dir)), Path(str(whole.trainer.log_dir)))


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_a_storm_of_kills(kills: int, folder: Path) -> None:
    epochs = str(20 * kills)
    options = ["--model.lr", "0.01", "--trainer.max_epochs", epochs]
    moments = random.Random(kills)
    done = 0
    deadline = time.monotonic() + 20 * kills
    command = ["fit", *options]
    while done < kills and time.monotonic() < deadline:
        Path("out.txt").unlink(missing_ok=True)
        _let_a_second_pass()
        process = _start(*command)
        # From the start of the process on, or, mostly, from its first epoch on.
        late = moments.random() < 0.8
        while late and process.is_alive() and not _printed("epoch "):
            time.sleep(0.01)
        process.join(moments.uniform(0, 0.4))
        process.kill()
        process.join()
        done += 1
        checkpoints = list(folder.glob("lightning_logs/*/checkpoints/*.ckpt"))
        for path in checkpoints:
            load(path)  # each of them is whole
        assert all(yaml.safe_load(path.read_text()) for path in folder.glob("lightning_logs/*/*.yaml"))
        for path in folder.glob("lightning_logs/*/checkpoints/.*.part"):
            load(path)  # killed while it was renamed: whole as well
        if checkpoints:
            command = ["fit", "--ckpt_path", "last"]
    assert done == kills
    _let_a_second_pass()
    main(["fit", "--ckpt_path", "last"])
    assert not list(folder.glob("lightning_logs/*/checkpoints/.*"))
    (run,) = [path for path in (folder / "lightning_logs").iterdir() if (path / "checkpoints" / "last.ckpt").is_file()]
    whole = fit(*options, "--trainer.default_root_dir", "whole")
    assert_same_run(run, Path(str(whole.trainer.log_dir)))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_folder_that_cannot_be_written_keeps_its_checkpoints(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--trainer.max_epochs", "2")
    last = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    before = last.read_bytes()

    @contextlib.contextmanager
    def refuse(path: Path) -> Any:
        if path.suffix == ".ckpt":
            raise OSError(code, os.strerror(code), str(path))
        yield io.BytesIO()

    monkeypatch.setattr("iris_lightning.saving.whole_file", refuse)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
    assert stop.value.code == 2
    assert f"cannot be written: {os.strerror(code)}; the one before is kept\n" in capsys.readouterr().err
    assert last.read_bytes() == before


def test_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "2")
    run = Path("lightning_logs/version_0")
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(SystemExit) as stop:
            main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "last.ckpt: cannot be written" in err or "best.ckpt: cannot be written" in err
    assert len(err.splitlines()) == 1
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    monkey = fails(capsys, "fit", "--ckpt_path", "last", "--model.lr", "1")
    assert "--model.lr" in monkey
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])


def test_what_a_rerun_needs(default_run: Path) -> None:
    environment = yaml.safe_load((default_run / "environment.yaml").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["seed"] == 20
    assert environment["data"] == {
        "source": "Iris",
        "sha256": load(default_run / "checkpoints" / "last.ckpt")["IrisDataModule"]["sha256"],
    }
    again = fit("--config", str(default_run / "config.yaml"))
    assert_same_run(Path(str(again.trainer.log_dir)), default_run)


def test_twenty_runs_on_one_thread_and_on_two_are_equal(default_run: Path) -> None:
    expected = load(default_run / "checkpoints" / "last.ckpt")["state_dict"]
    threads = torch.get_num_threads()
    try:
        for i in range(20):
            torch.set_num_threads(1 + i % 2)
            assert_same_weights(dict(fit("--trainer.logger", "false").model.state_dict()), expected)
    finally:
        torch.set_num_threads(threads)
