"""A second process: what a shell sees."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import assert_same_weights, load


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One `python -m iris_lightning fit` and the folder it ran in."""
    root = tmp_path_factory.mktemp("process")
    command = [sys.executable, "-m", "iris_lightning", "fit"]
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # as many threads as usual
    return subprocess.run(command, cwd=root, env=own, capture_output=True, text=True, timeout=120, check=False), root


def test_fit_is_quiet_on_stderr_and_exits_with_0(process: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    result, _ = process
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 10


def test_two_processes_with_one_seed_have_the_same_weights(
    process: tuple[subprocess.CompletedProcess[str], Path], default_run: Path
) -> None:
    theirs = load(process[1] / "lightning_logs/version_0/checkpoints/last.ckpt")
    assert_same_weights(theirs["state_dict"], load(default_run / "checkpoints/last.ckpt")["state_dict"])


def test_the_console_script_is_the_module(process: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    script = Path(sys.executable).with_name("iris-lightning")
    command = [str(script), "export", "model.pth"]
    result = subprocess.run(command, cwd=process[1], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("checkpoint: lightning_logs/version_0/checkpoints/best.ckpt (epoch 4)\nmodel.pth: ")


def test_a_reader_that_leaves_does_not_end_the_run(
    process: tuple[subprocess.CompletedProcess[str], Path], folder: Path
) -> None:
    run = [sys.executable, "-m", "iris_lightning", "fit", "--trainer.max_epochs", "20", "--figures", "false"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        assert training.stderr is not None
        assert training.stdout.readline().startswith("Iris: ")
        training.stdout.close()
        assert training.stderr.read() == ""
    assert training.returncode == 0
    assert load(folder / "lightning_logs/version_0/checkpoints/last.ckpt")["epoch"] == 19


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_sees_at_once_that_something_happens() -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "iris_lightning", "export", "model.pth"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs) as testing:
        os.close(theirs)
        printed = b""
        with contextlib.suppress(OSError):  # the end, on Linux
            while part := os.read(ours, 1000):
                printed += part
    os.close(ours)
    assert testing.returncode == 2
    note, _, message = printed.decode().partition("\r")
    assert note == "starting …"
    assert len(message.splitlines()[0]) > len(note), "covers the note"
