"""Rows per second and peak memory on a large table, relative to a bare loop.

    python tests/benchmarks/large_table.py [--rows 1000000]

The first table is of a whole `fit` of one epoch, each in a process of its own so that its peak
memory can be told (Linux); the second of training one epoch.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import polars as pl
import torch
from speed import QUIET, compare  # type: ignore[import-not-found]  # as in tables.py
from torch.nn.functional import cross_entropy

from iris_lightning import IrisClassifier, IrisDataModule, IrisNetwork
from iris_lightning.cli import main
from iris_lightning.cli.console import silence_noise

FEATURES = 4
BATCH = 8192
BYTES = FEATURES * 4 + 8  # of a row as float32 and int64


def write_table(path: str, rows: int) -> None:
    """Writes a table of random flowers."""
    random = np.random.default_rng(0)
    values = {f"feature {i}": random.normal(size=rows).round(2) for i in range(FEATURES)}
    species = np.array(["setosa", "versicolor", "virginica"])[random.integers(0, 3, rows)]
    frame = pl.DataFrame({**values, "species": species})
    if path.endswith(".csv"):
        frame.write_csv(path)
    else:
        frame.write_parquet(path)


def peak_memory() -> int:
    """Peak resident memory in bytes (`ru_maxrss` may be the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure_fit(folder: str, path: str) -> tuple[float, int]:
    """Returns seconds and peak memory of a `fit` beyond those of a first one on a small table."""
    os.chdir(folder)
    options = ["--data.batch_size", str(BATCH), "--trainer.max_epochs", "1", "--data.path"]
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", *options, "small.csv"])
        before, start = peak_memory(), time.perf_counter()
        main(["fit", *options, path])
    return time.perf_counter() - start, peak_memory() - before


def train(path: str) -> float:
    """Rows per second of one epoch through a Trainer, after reading the table."""
    data = IrisDataModule(path, batch_size=BATCH)
    rows = len(data.rows["train"])
    trainer = L.Trainer(max_epochs=1, limit_val_batches=0, **QUIET)
    start = time.perf_counter()
    trainer.fit(IrisClassifier(data.feature_names, data.class_names), data)
    return rows / (time.perf_counter() - start)


def loop(path: str) -> float:
    """Rows per second of one epoch of a plain loop over tensors."""
    features, targets = IrisDataModule(path).tensors("train")
    network = IrisNetwork()
    optimizer = torch.optim.Adam(network.parameters())
    start = time.perf_counter()
    for rows in torch.randperm(len(targets)).split(BATCH):
        optimizer.zero_grad()
        cross_entropy(network(features[rows]), targets[rows]).backward()
        optimizer.step()
    return len(targets) / (time.perf_counter() - start)


def benchmark(rows: int, folder: str) -> None:
    """Prints all figures."""
    write_table(f"{folder}/small.csv", 1000)
    print("| file | `fit`, µs per row | peak memory / table's bytes |\n| --- | --- | --- |")
    for path in (f"{folder}/table.csv", f"{folder}/table.parquet"):
        write_table(path, rows)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            seconds, memory = process.submit(measure_fit, folder, path).result()
        figures = f"{seconds / rows * 1e6:.2f} | {memory / (rows * BYTES):.2f}"
        print(f"| {Path(path).name} | {figures} |", flush=True)
    ways = {"bare loop": partial(loop, path), "iris_lightning": partial(train, path)}
    compare(f"an epoch of {rows:,} rows", "rows/s", ways)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10**6)
    number = parser.parse_args().rows
    silence_noise()
    with tempfile.TemporaryDirectory() as scratch:
        benchmark(number, scratch)
