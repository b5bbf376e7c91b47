"""Rows per second and peak memory on large tables, beside a bare loop and skorch.

    python tests/benchmarks/large_table.py

The first table is of a whole `fit` of one epoch, each in a process of its own so that its peak
memory can be told; the second of training one epoch at batch size 8192, run by turns, each the best
of three.
"""

import argparse
import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from iris_lightning import IrisClassifier, IrisDataModule, IrisNetwork
from iris_lightning.cli import main
from iris_lightning.cli.console import silence_noise

FEATURES = 4
BATCH = 8192
BYTES = FEATURES * 4 + 8  # of a row as float32 and int64


def write_table(path: Path, rows: int) -> None:
    """Writes a table of random flowers."""
    random = np.random.default_rng(0)
    values = {f"feature {i}": random.normal(size=rows).round(2) for i in range(FEATURES)}
    species = np.array(["setosa", "versicolor", "virginica"])[random.integers(0, 3, rows)]
    frame = pl.DataFrame({**values, "species": species})
    (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(path)


def measure_run(path: str, warm_up: str, rows: int) -> dict[str, float]:
    """Trains on a table; returns seconds and peak memory beyond imports and a first run."""
    arguments = ["--data.batch_size", str(BATCH), "--trainer.max_epochs", "1"]
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "--trainer.max_epochs", "1"])  # imports all that a run imports
        main(["fit", "--data.path", warm_up, *arguments])  # starts what reads a table
        before = peak_memory()
        start = time.perf_counter()
        cli = main(["fit", "--data.path", path, *arguments])
    seconds = time.perf_counter() - start
    assert cli.trainer.global_step == math.ceil(0.7 * rows / BATCH)
    return {"seconds": seconds, "memory": (peak_memory() - before) / (rows * BYTES)}


def peak_memory() -> int:
    """Peak resident memory in bytes (Linux; `ru_maxrss` may be the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def fit_lightning(module: IrisDataModule) -> Callable[[], None]:
    """One epoch through a Trainer, without files."""

    def run() -> None:
        import lightning as L

        trainer = L.Trainer(
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
        )
        trainer.fit(IrisClassifier(module.feature_names, module.class_names), module)

    return run


def fit_bare(features: Tensor, targets: Tensor) -> Callable[[], None]:
    """One epoch of the plain loop over the tensors of the train split."""

    def run() -> None:
        network, loss_fn = IrisNetwork(), nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(network.parameters())
        for rows in torch.randperm(len(targets)).split(BATCH):
            optimizer.zero_grad()
            loss_fn(network(features[rows]), targets[rows]).backward()
            optimizer.step()

    return run


def fit_row_by_row(features: Tensor, targets: Tensor) -> Callable[[], None]:
    """One epoch of the lesson's loop, whose DataLoader collects rows one by one."""

    def run() -> None:
        network, loss_fn = IrisNetwork(), nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(network.parameters())
        for batch, target in DataLoader(TensorDataset(features, targets), BATCH, shuffle=True):
            optimizer.zero_grad()
            loss_fn(network(batch), target).backward()
            optimizer.step()

    return run


def fit_skorch(features: Tensor, targets: Tensor) -> Callable[[], None] | None:
    """One epoch of skorch's classifier, if it is installed (`pip install skorch`)."""
    try:
        from skorch import NeuralNetClassifier
    except ImportError:
        return None

    def run() -> None:
        NeuralNetClassifier(
            IrisNetwork,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            batch_size=BATCH,
            max_epochs=1,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).fit(features, targets)

    return run


def best_of(runs: dict[str, Callable[[], None]], rounds: int = 3) -> dict[str, float]:
    """Seconds of each run, by turns."""
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def benchmark(sizes: list[int]) -> None:
    """Prints all figures."""
    with tempfile.TemporaryDirectory() as folder:
        warm_up = Path(folder, "warm_up.csv")
        write_table(warm_up, 1000)
        print(
            f"{torch.get_num_threads()} threads\n\n"
            "| rows | file | fit, us per row | peak memory / table's bytes |"
        )
        print("| --- | --- | --- | --- |")
        for rows in sizes:
            for suffix in (".csv", ".parquet"):
                path = Path(folder, f"table{suffix}")
                write_table(path, rows)
                command = [
                    sys.executable,
                    __file__,
                    "--run",
                    str(path),
                    str(warm_up),
                    "--rows",
                    str(rows),
                ]
                result = subprocess.run(
                    command, cwd=folder, check=True, capture_output=True, text=True
                )
                figures = json.loads(result.stdout.splitlines()[-1])
                print(
                    f"| {rows:.0e} | {suffix} | {figures['seconds'] / rows * 1e6:.2f} "
                    f"| {figures['memory']:.2f} |",
                    flush=True,
                )
        print(
            "\n| rows | what trains an epoch | rows/s | relative to the bare loop |\n"
            "| --- | --- | --- | --- |"
        )
        for rows in sizes:
            path = Path(folder, "table.parquet")
            write_table(path, rows)
            module = IrisDataModule(path=str(path), batch_size=BATCH)
            module.setup("fit")
            train = module.tensors("train")
            runs = {"bare loop": fit_bare(*train), "iris_lightning": fit_lightning(module)}
            if rows <= 10**6:
                runs["the lesson's row-by-row DataLoader"] = fit_row_by_row(*train)
                if peer := fit_skorch(*train):
                    runs["skorch"] = peer
            seconds = best_of(runs)
            for name, taken in seconds.items():
                speed = len(train[1]) / taken
                print(
                    f"| {rows:.0e} | {name} | {speed:,.0f} | {seconds['bare loop'] / taken:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--threads", type=int, help="intra-op threads of torch")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.run:
        print(json.dumps(measure_run(options.run[0], options.run[1], options.rows)))
    else:
        silence_noise()
        benchmark([int(size) for size in options.sizes])
