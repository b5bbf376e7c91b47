"""Results do not depend on the number of processes."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris

from iris_lightning.cli import main
from tests.conftest import REPOSITORY, fit, load

DDP = str(REPOSITORY / "configs" / "ddp.yaml")


def assert_close(one: Path, other: Path) -> None:
    """Asserts that the results of two runs differ by at most 1e-6."""
    first, second = (load(run / "checkpoints" / "last.ckpt") for run in (one, other))
    torch.testing.assert_close(first["state_dict"], second["state_dict"], atol=1e-6, rtol=0)
    assert first["metrics"] == pytest.approx(second["metrics"], abs=1e-6)


def test_a_signal_stops_all_processes_and_one_process_can_resume(folder: Path) -> None:
    command = [sys.executable, "-m", "iris_lightning", "fit", "--config", DDP]
    command += ["--trainer.max_epochs", "10000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert "2 processes" in run.stdout.readline()
        while not run.stdout.readline().startswith("epoch 0 "):
            assert run.poll() is None
        run.terminate()
        _, error = run.communicate(timeout=120)
    assert run.returncode == 143
    last = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    assert error.startswith("stopped by SIGTERM")
    assert str(last) in error
    assert len(error.splitlines()) == 1
    assert os.listdir("lightning_logs") == ["version_0"]
    epochs = str(load(last)["epoch"] + 2)
    alone = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
    main(["fit", "--ckpt_path", str(last), "--trainer.max_epochs", epochs, *alone])
    fit("--trainer.max_epochs", epochs)
    assert_close(Path("lightning_logs/version_0"), Path("lightning_logs/version_1"))


def _forked(processes: int) -> list[str]:
    devices = ["--trainer.devices", str(processes), "--trainer.accelerator", "cpu"]
    return ["--trainer.strategy", "ddp_fork", *devices]


@pytest.mark.filterwarnings("ignore:You requested to overfit")
@pytest.mark.parametrize(
    "options",
    [
        ["--model.class_weight", "balanced", "--model.standardize", "true"],
        ["--trainer.overfit_batches", "4"],
    ],
)
def test_unequal_and_empty_shares(options: list[str]) -> None:
    iris = load_iris()
    species = pl.Series(iris.target_names[iris.target])
    rows = pl.DataFrame(iris.data, iris.feature_names).with_columns(species=species)
    # 101 train rows in batches of 10: the last has one row, for two processes.
    rows.sample(144, seed=1).write_csv("rows.csv")
    options = [*options, "--data.path", "rows.csv", "--trainer.max_epochs", "3"]
    one = fit(*options, "--trainer.accelerator", "cpu")
    assert len(one.datamodule.rows["train"]) == 101
    main(["fit", *options, *_forked(2)])
    assert_close(Path("lightning_logs/version_0"), Path("lightning_logs/version_1"))


@pytest.mark.parametrize(("command", "processes"), [("validate", 2), ("test", 4)])
def test_every_evaluated_row_counts_once(
    command: str, processes: int, default_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    args = [command, "--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")]
    main(args)
    alone = capfd.readouterr().out
    main([*args, *_forked(processes)])
    assert capfd.readouterr().out == alone
    assert "accuracy/" in alone


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_fills_missing_values(folder: Path) -> None:
    (folder / "rows.csv").write_text("a,b,kind\n" + "1,,x\n2,3,y\n4,5,x\n" * 20)
    options = ["--data.path", "rows.csv", "--data.missing", "mean", "--model.standardize", "true"]
    cpu, gpu = (fit(*options, "--trainer.accelerator", where) for where in ("cpu", "gpu"))
    for name in ("network.fill", "network.mean", "network.std"):
        assert torch.equal(cpu.model.state_dict()[name], gpu.model.state_dict()[name].cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-4), ("16-mixed", 0.1)])
def test_results_on_gpu_equal_those_on_cpu(precision: str, tolerance: float) -> None:
    fit("--trainer.accelerator", "cpu")
    cli = fit("--trainer.precision", precision)
    assert cli.trainer.strategy.root_device.type == "cuda"
    runs = (Path(f"lightning_logs/version_{number}/checkpoints/last.ckpt") for number in (0, 1))
    cpu, gpu = (load(path)["metrics"] for path in runs)
    assert gpu == pytest.approx(cpu, abs=tolerance)
