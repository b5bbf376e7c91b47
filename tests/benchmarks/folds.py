"""A cross-validation relative to the same number of trainings, one after another.

python tests/benchmarks/folds.py
"""

import logging
import time
import warnings

import lightning as L
import torch
from speed import QUIET, compare, process  # type: ignore[import-not-found]  # as in tables.py

from iris_lightning import IrisClassifier, IrisDataModule, cross_validate

EPOCHS = 200


def train_alone() -> float:
    """Microseconds of an epoch of a Trainer on as many rows as a fold has."""
    data = IrisDataModule(split=(0.9, 0.05, 0.05))
    trainer = L.Trainer(max_epochs=EPOCHS, accelerator="cpu", **QUIET)
    start = time.perf_counter()
    trainer.fit(IrisClassifier(), data)
    return 1e6 * (time.perf_counter() - start) / EPOCHS


def train_folds() -> float:
    """Microseconds of an epoch of one of a hundred folds, which are trained as one stack."""
    start = time.perf_counter()
    cross_validate(folds=10, repeats=10, max_epochs=EPOCHS)
    return 1e6 * (time.perf_counter() - start) / (100 * EPOCHS)


def crossvalidate() -> float:
    """Seconds of the command."""
    options = ("--folds", "10", "--repeats", "10", "--trainer.max_epochs", str(EPOCHS))
    seconds: float = process("-m", "iris_lightning", "crossvalidate", *options)
    return seconds


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ways = {"a Trainer for each fold": train_alone, "`cross_validate`": train_folds}
    compare("an epoch of a fold", "µs", ways)
    commands = {
        "`fit`, 5 epochs": lambda: process("-m", "iris_lightning", "fit"),
        f"`crossvalidate`, 100 folds, {EPOCHS} epochs": crossvalidate,
    }
    compare("a whole process", "s", commands)
