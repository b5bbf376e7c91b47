"""A second process: what a shell sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import assert_same_weights, fit, load

MODULE = [sys.executable, "-m", "iris_lightning"]
Process = subprocess.CompletedProcess[str]


def run(folder: Path, *command: str, **environment: str) -> Process:
    """Runs a command in a folder, with as many threads as usual."""
    variables = {**os.environ, **environment}
    variables.pop("OMP_NUM_THREADS", None)
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Process, Path]:
    """One `fit` on a system whose encoding is ASCII, and the folder it ran in."""
    root = tmp_path_factory.mktemp("process")
    (root / "mine.yaml").write_text("# ä\nmembers: 1\n", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return run(root, *MODULE, "fit", "--config", "mine.yaml", **ascii_only), root


def test_fit_reads_configs_in_utf_8_and_is_quiet_on_stderr(trained: tuple[Process, Path]) -> None:
    result, _ = trained
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 12


def test_two_processes_with_one_seed_have_the_same_weights(
    trained: tuple[Process, Path], default_run: Path
) -> None:
    _, root = trained
    theirs = load(root / "lightning_logs/version_0/checkpoints/last.ckpt")
    ours = load(default_run / "checkpoints/last.ckpt")
    assert_same_weights(theirs["state_dict"], ours["state_dict"])


def test_the_console_script_is_the_module(trained: tuple[Process, Path]) -> None:
    _, root = trained
    script = Path(sys.executable).with_name("iris-lightning")
    result = run(root, str(script), "export", "model.pth")
    assert (result.returncode, result.stderr) == (0, "")
    assert "checkpoints/best.ckpt (epoch 4)\nmodel.pth: " in result.stdout


def test_development_mode_shows_the_traceback(folder: Path) -> None:
    result = run(folder, sys.executable, "-X", "dev", *MODULE[1:], "export", "model.pth")
    assert "Traceback" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no ulimit")
def test_too_little_memory_gives_one_line(folder: Path) -> None:
    limited = "ulimit -v 200000; exec " + " ".join([*MODULE, "export", "model.pth"])
    result = run(folder, "sh", "-c", limited)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_reader_that_leaves_does_not_end_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        fit("--trainer.max_epochs", "2")
    assert load(folder / "lightning_logs/version_0/checkpoints/last.ckpt")["epoch"] == 1
