"""Run folders."""

import subprocess
import sys
from pathlib import Path

import pytest

from iris_lightning.cli import main
from iris_lightning.runs.folders import claim_run, newest_run
from tests.conftest import fails, fit

CLAIM = """
import sys
from pathlib import Path
from iris_lightning.runs.folders import claim_run
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    folder = claim_run(Path(), "name" if i % 2 else None)
    (folder / "owner").open("x").close()  # fails if another process has the folder as well
"""
SHORT = ["--trainer.max_epochs", "1"]


def test_simultaneous_runs_get_separate_folders(folder: Path) -> None:
    claim, pipe = [sys.executable, "-c", CLAIM], subprocess.PIPE
    processes = [subprocess.Popen(claim, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.communicate("go\n", timeout=60)
    assert [process.returncode for process in processes] == [0] * 4
    assert len(list(folder.glob("lightning_logs/**/owner"))) == 80


def test_a_new_run_gets_the_highest_number(folder: Path) -> None:
    (folder / "lightning_logs" / "version_9").mkdir(parents=True)
    (folder / "lightning_logs" / "version_10").touch()
    (folder / "lightning_logs" / "version_99_old").mkdir()
    assert newest_run(folder) is None
    run = claim_run(folder)
    assert run.name == "version_11"
    assert newest_run(folder) is None, "it holds nothing yet"
    (run / "config.yaml").touch()
    assert newest_run(folder) == run


def test_runs_with_names(capsys: pytest.CaptureFixture[str]) -> None:
    fit(*SHORT)
    fit("--name", "lr_0.1", "--model.lr", "0.1", *SHORT)
    fit("--config", "lightning_logs/lr_0.1/version_1/config.yaml")
    capsys.readouterr()
    main(["test"])
    fit("--ckpt_path", "last", "--trainer.max_epochs", "2")
    out = capsys.readouterr().out
    assert "lightning_logs/lr_0.1/version_2/checkpoints/best.ckpt (epoch 0)" in out
    assert "resuming lightning_logs/lr_0.1/version_2 after" in out
    fit(*SHORT)
    runs = {str(path.parent) for path in Path("lightning_logs").rglob("config.yaml")}
    names = ["version_0", "lr_0.1/version_1", "lr_0.1/version_2", "version_3"]
    assert runs == {f"lightning_logs/{name}" for name in names}


@pytest.mark.parametrize("name", ["Version_3", "a/b", "..", ".hidden", "a b"])
def test_names_that_are_not_portable(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--name: expected" in fails(capsys, "fit", f"--name={name}")


def test_a_run_that_fails_immediately_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, "fit", "--name", "x", "--trainer.max_steps", "0")
