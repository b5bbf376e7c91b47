"""What TensorBoard's pictures, HParams and the rest cost: a default `fit` with and without them, and an epoch.

    python tests/benchmarks/report.py

A `fit` is timed as a whole process; "no report" is one without the callback that writes all but the curves. An epoch is
timed within one process, on one thread, with curves and checkpoints. Each round has all of them in turn.
"""

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from iris_lightning import IrisClassifier, IrisDataModule, TensorBoardReport

WITHOUT = "import lightning as L, iris_lightning.cli.trainer as t; t.TensorBoardReport = lambda figures: L.Callback(); "
START = "import gc, sys; gc.disable(); sys.argv[1:] = ['fit']; {}from iris_lightning.__main__ import run; run()"
PROCESSES = {
    "fit": START.format(""),
    "fit --figures false": START.format("sys.argv.append('--figures=false'); "),
    "no report": START.format(WITHOUT),
}


class Clock(L.Callback):
    """Times the epochs but the first."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = (time.perf_counter() - self.start) / (trainer.current_epoch - 1)


def wall(code: str) -> float:
    """Seconds of a process in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def epoch(report: bool, epochs: int) -> float:
    """Seconds of an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        clock, checkpoint = Clock(), ModelCheckpoint(folder, monitor="loss/val")
        callbacks = [clock, checkpoint, *([TensorBoardReport()] if report else [])]
        trainer = L.Trainer(
            max_epochs=epochs,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(IrisClassifier(), IrisDataModule())
        return clock.seconds


def table(title: str, unit: str, rounds: list[dict[str, float]]) -> None:
    """Prints medians, and medians and ranges of the ratios to the last column, round by round."""
    print(f"\n| {title} | {unit} | relative to the last | range |\n| --- | --- | --- | --- |")
    for name in rounds[0]:
        ratios = [values[name] / [*values.values()][-1] for values in rounds]
        median = statistics.median(values[name] for values in rounds)
        print(f"| {name} | {median:.3g} | {statistics.median(ratios):.3f} | {min(ratios):.3f} to {max(ratios):.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    wall(PROCESSES["fit"])  # so that all files have been read once
    table(
        "whole process", "seconds", [{name: wall(code) for name, code in PROCESSES.items()} for _ in range(args.rounds)]
    )
    torch.set_num_threads(1)
    ways = {"with the report": True, "without": False}
    table(
        "an epoch",
        "ms",
        [{name: 1000 * epoch(way, args.epochs) for name, way in ways.items()} for _ in range(args.rounds)],
    )
