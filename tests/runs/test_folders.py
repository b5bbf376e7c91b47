"""Folders of runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from iris_lightning.runs.folders import claim_run, newest_run

CLAIM = """
import sys, time
from pathlib import Path
from iris_lightning.runs.folders import claim_run
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    folder = claim_run(Path())
    (folder / "owner").open("x").close()  # fails if another process has the folder as well
"""


def test_runs_that_start_at_once_have_folders_of_their_own(folder: Path) -> None:
    claim = [sys.executable, "-c", CLAIM]
    processes = [subprocess.Popen(claim, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.communicate("go\n", timeout=60)
    assert [process.returncode for process in processes] == [0] * 8
    claimed = {int(path.parent.name.removeprefix("version_")) for path in folder.glob("lightning_logs/*/owner")}
    assert claimed == set(range(160))


def test_a_folder_above_all_others_is_claimed(folder: Path) -> None:
    (folder / "lightning_logs" / "version_9").mkdir(parents=True)
    (folder / "lightning_logs" / "version_10").touch()
    (folder / "lightning_logs" / "version_99_old").mkdir()
    assert newest_run(folder) is None
    run = claim_run(folder)
    assert run.name == "version_11"
    assert newest_run(folder) is None, "it holds nothing yet"
    (run / "config.yaml").touch()
    assert newest_run(folder) == run


@pytest.mark.slow
def test_eight_fits_at_once(folder: Path) -> None:
    command = [sys.executable, "-m", "iris_lightning", "fit", "--trainer.max_epochs", "3", "--seed_everything"]
    fits = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True) for seed in range(8)]
    printed = [process.communicate(timeout=300)[0] for process in fits]
    runs = {line.split()[1] for text in printed for line in text.splitlines() if line.startswith("run: ")}
    assert runs == {f"lightning_logs/version_{number}" for number in range(8)}
    for seed, text in enumerate(printed):
        (run,) = (line.split()[1] for line in text.splitlines() if line.startswith("run: "))
        assert f"seed: {seed}\n" in Path(run, "environment.yaml").read_text()
        (best,) = (line for line in text.splitlines() if line.startswith("best: "))
        assert any(best.split("loss/val ")[1][:6] in line for line in text.splitlines() if line.startswith("epoch "))
