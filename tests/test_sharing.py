"""One process or many: the same result."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from iris_lightning.cli import main
from iris_lightning.sharing import Batches
from tests.conftest import REPOSITORY, fit, load

DDP = str(REPOSITORY / "configs" / "ddp.yaml")


def assert_close(one: Path, other: Path) -> None:
    """Asserts that two runs ended within 1e-6 of each other."""
    first, second = (load(run / "checkpoints" / "last.ckpt") for run in (one, other))
    for name, tensor in first["state_dict"].items():
        torch.testing.assert_close(tensor, second["state_dict"][name], atol=1e-6, rtol=0)
    assert first["metrics"] == pytest.approx(second["metrics"], abs=1e-6)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 5, 15, 30])
def test_batches_are_shared_out_without_padding(rows: int, processes: int) -> None:
    numbers = torch.arange(rows)
    shared = [Batches(numbers.unsqueeze(1), numbers, 4, process, processes) for process in range(processes)]
    for batch in numbers.split(4):
        shares = [batches[batch][1] for batches in shared]
        assert torch.equal(torch.cat(shares), batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_config_of_two_processes(default_run: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "iris_lightning", "fit", "--config", DDP]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 10
    assert os.listdir("lightning_logs") == ["version_0"]
    assert_close(folder / "lightning_logs" / "version_0", default_run)


def test_a_signal_stops_all_processes_after_the_same_step(folder: Path) -> None:
    command = [sys.executable, "-m", "iris_lightning", "fit", "--config", DDP, "--trainer.max_epochs", "10000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline().endswith(", in 2 processes that share each batch\n")
        assert run.stdout.readline().startswith("epoch 0 ")
        run.terminate()
        _, error = run.communicate(timeout=60)
    assert run.returncode == 143
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert error == f"stopped by SIGTERM; to go on: python -m iris_lightning fit --ckpt_path {last}\n"


def _forked(processes: int) -> list[str]:
    return ["--trainer.strategy", "ddp_fork", "--trainer.devices", str(processes), "--trainer.accelerator", "cpu"]


CASES = [
    [],
    ["--model.class_weight", "balanced", "--model.standardize", "true"],
    ["--trainer.overfit_batches", "4"],
    ["--trainer.overfit_batches", "4", "--data.noise", "0.5"],
    ["--data.noise", "0.5"],
]


@pytest.mark.filterwarnings("ignore:You requested to overfit")
@pytest.mark.parametrize("options", CASES)
def test_shares_that_differ_and_empty_ones(options: list[str], folder: Path) -> None:
    from sklearn.datasets import load_iris

    iris = load_iris()
    rows = pl.DataFrame(iris.data, iris.feature_names).with_columns(species=iris.target_names[iris.target])
    # 101 train rows in batches of 10: the last has one row, for two processes.
    rows.sample(144, seed=1).write_csv("rows.csv")
    options = [*options, "--data.path", "rows.csv"]
    one = fit(*options, "--trainer.accelerator", "cpu")
    assert len(one.datamodule.rows["train"]) == 101
    main(["fit", *options, *_forked(2)])
    assert_close(folder / "lightning_logs" / "version_0", folder / "lightning_logs" / "version_1")


@pytest.mark.parametrize(("command", "processes"), [("validate", 2), ("test", 4)])
def test_every_evaluated_row_counts_once(
    command: str, processes: int, default_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    args = [command, "--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")]
    main(args)
    alone = capfd.readouterr().out
    main([*args, *_forked(processes)])
    assert capfd.readouterr().out == alone
    assert f"accuracy/{command[:4].removesuffix('i')}" in alone


def test_two_nodes_through_torchrun(default_run: Path, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    command += ["--master_addr", "localhost", "--master_port", str(port), "--node_rank"]
    fits = [
        "-m",
        "iris_lightning",
        "fit",
        "--config",
        DDP,
        "--trainer.devices",
        "1",
        "--trainer.num_nodes",
        "2",
        "--figures=false",
    ]
    nodes = [
        subprocess.Popen([*command, rank, *fits], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in ("0", "1")
    ]
    printed = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert "best:   epoch 4" in printed[0]
    assert "epoch" not in printed[1]
    assert os.listdir("lightning_logs") == ["version_0"]
    assert_close(folder / "lightning_logs" / "version_0", default_run)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_fills_missing_values(folder: Path) -> None:
    (folder / "rows.csv").write_text("a,b,kind\n" + "1,,x\n2,3,y\n4,5,x\n" * 20)
    options = ["--data.path", "rows.csv", "--data.missing", "mean", "--model.standardize", "true"]
    states = [fit(*options, "--trainer.accelerator", where).model.state_dict() for where in ("cpu", "gpu")]
    for name in ("network.fill", "network.mean", "network.std"):
        assert torch.equal(states[0][name], states[1][name].cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_gpu_does_does_as_the_cpu(precision: str, default_run: Path) -> None:
    cli = fit("--trainer.precision", precision)
    assert cli.trainer.strategy.root_device.type == "cuda"
    cpu = load(default_run / "checkpoints" / "last.ckpt")["metrics"]
    gpu = load(Path("lightning_logs/version_0/checkpoints/last.ckpt"))["metrics"]
    assert gpu == pytest.approx(cpu, abs=1e-4 if precision == "32-true" else 0.1)
