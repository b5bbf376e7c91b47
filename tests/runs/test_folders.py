"""Folders of runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from iris_lightning.cli import main
from iris_lightning.runs.folders import claim_run, newest_run
from tests.conftest import fails, fit

CLAIM = """
import sys, time
from pathlib import Path
from iris_lightning.runs.folders import claim_run
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    folder = claim_run(Path(), "name" if i % 2 else None)
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
    claimed = {int(path.parent.name.removeprefix("version_")) for path in folder.glob("lightning_logs/**/owner")}
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


def test_runs_with_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--trainer.max_epochs", "1"]
    fit(*short)
    fit("--name", "lr_0.1", "--model.lr", "0.1", *short)
    main(["crossvalidate", "--name", "folds", "--folds", "2", "--repeats", "1", *short])
    fit("--config", "lightning_logs/lr_0.1/version_1/config.yaml")
    capsys.readouterr()
    main(["test"])
    fit("--ckpt_path", "last", "--trainer.max_epochs", "2")
    out = capsys.readouterr().out
    assert out.startswith("checkpoint: lightning_logs/lr_0.1/version_3/checkpoints/best.ckpt (epoch 0)")
    assert "lightning_logs/lr_0.1/version_3 goes on after epoch 0" in out
    assert "curves: tensorboard --logdir lightning_logs\nopen:" in out
    fit(*short)
    names = ["folds/version_2", "lr_0.1/version_1", "lr_0.1/version_3", "version_0", "version_4"]
    assert sorted(str(path.parent.relative_to("lightning_logs")) for path in Path().rglob("config.yaml")) == names


def test_a_named_run_elsewhere_finds_its_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "there").mkdir()
    (folder / "there" / "table.csv").write_text("a,kind\n" + "1,x\n2,y\n" * 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("there")
        fit("--name", "mine", "--data.path", "table.csv", "--trainer.max_epochs", "1")
    main(["test", "--ckpt_path", "there/lightning_logs/mine/version_0/checkpoints/best.ckpt"])
    fit("--ckpt_path", "there/lightning_logs/mine/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "2")
    assert not (folder / "lightning_logs").exists()
    run = "there/lightning_logs/mine/version_0"
    message = fails(capsys, "fit", "--ckpt_path", f"{run}/checkpoints/last.ckpt", "--name", "other")
    assert f"--name: {run} has another one, and a resumed run keeps it" in message


@pytest.mark.parametrize(
    "name", ["Version_3", "a/b", "..", ".hidden", "a b", "x" * 101, "a.", "-", "con.x", "lightning_logs"]
)
def test_names_that_are_no_folder_on_every_system(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "crossvalidate"):
        message = fails(capsys, command, f"--name={name}")
        assert "--name: expected letters, digits and _ . = + - in it, and none that has a meaning" in message


def test_a_name_that_cannot_be_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "lightning_logs").mkdir()
    (folder / "lightning_logs" / "file").touch()
    (folder / "lightning_logs" / "link").symlink_to("nothing")
    for name in ("file", "link"):
        assert f"--name: lightning_logs/{name}: File exists; expected a folder" in fails(capsys, "fit", "--name", name)


def test_a_named_run_that_fails_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, "fit", "--name", "x", "--trainer.max_steps", "0")
    assert "has no effect in test" in fails(capsys, "test", "--name", "x")


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
