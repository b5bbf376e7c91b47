"""A second process: what a shell sees."""

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
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False), root


def test_fit_is_quiet_on_stderr_and_exits_with_0(process: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    result, _ = process
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 9


def test_two_processes_with_one_seed_have_the_same_weights(
    process: tuple[subprocess.CompletedProcess[str], Path], default_run: Path
) -> None:
    theirs = load(process[1] / "lightning_logs/version_0/checkpoints/last.ckpt")
    assert_same_weights(theirs["state_dict"], load(default_run / "checkpoints/last.ckpt")["state_dict"])


def test_the_console_script_is_the_module(process: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    script = Path(sys.executable).with_name("iris-lightning")
    result = subprocess.run([script, "test"], cwd=process[1], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("checkpoint: lightning_logs/version_0/checkpoints/best.ckpt (epoch 4)\nloss/test ")
