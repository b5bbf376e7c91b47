"""Cross-validation of the lesson's network beside its loop, skorch, and a loop of Trainers.

    python tests/benchmarks/folds.py

All train on the same folds of Iris, at batch size 10, on one thread; the lesson's loop, skorch and
the Trainer on one fold. Then the wall time of the whole commands, and the peak memory of 10,000
folds.
"""

import argparse
import contextlib
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from iris_lightning import IrisClassifier, IrisDataModule, IrisNetwork, cross_validate

BATCH = 10
FEATURES, TARGETS = load_iris(return_X_y=True)
FOLDS = list(
    RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0).split(FEATURES, TARGETS)
)
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

MEMORY = """
from iris_lightning.cli import main
main({})
print(open("/proc/self/status").read())
"""


class Flowers(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The lesson's dataset, a row at a time."""

    def __init__(self, rows: np.ndarray) -> None:
        self.data, self.target = FEATURES[rows], TARGETS[rows]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(self.data[index]).to(torch.float), torch.tensor(self.target[index])


def lesson(epochs: int) -> int:
    """The lesson's train and validation steps on one fold; returns folds times epochs."""
    train, held_out = FOLDS[0]
    model, loss_fn = IrisNetwork(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    train_loader = DataLoader(Flowers(train), BATCH, shuffle=True)
    val_loader = DataLoader(Flowers(held_out), BATCH)
    for _ in range(epochs):
        model.train()
        total_loss = 0.0
        for data, target in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(data), target)
            total_loss += loss.item()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            correct = 0
            for data, target in val_loader:
                logits = model(data)
                total_loss += loss_fn(logits, target).item()
                correct += logits.argmax(dim=1).eq(target).sum().item()
    return epochs


def skorch(epochs: int) -> int:
    """Skorch's classifier under scikit-learn's `cross_val_score`; returns folds times epochs."""
    from skorch import NeuralNetClassifier

    classifier = NeuralNetClassifier(
        IrisNetwork,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        batch_size=BATCH,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    cross_val_score(
        classifier, FEATURES.astype(np.float32), TARGETS, cv=FOLDS[:1], error_score="raise"
    )
    return epochs


def trainers(epochs: int) -> int:
    """A Trainer for each fold, as one would write the loop; returns folds times epochs."""
    data = IrisDataModule(batch_size=BATCH, split=(0.9, 0.05, 0.05))  # as many train rows
    L.Trainer(max_epochs=epochs, num_sanity_val_steps=0, **QUIET).fit(IrisClassifier(), data)
    return epochs


def stacked(epochs: int) -> int:
    """All hundred folds as one stacked model; returns folds times epochs."""
    cross_validate(max_epochs=epochs)
    return len(FOLDS) * epochs


def seconds_of(command: list[str], folder: str) -> float:
    """Wall time of a command, the shortest of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "iris_lightning", *command],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        times.append(time.perf_counter() - start)
    return min(times)


def benchmark(epochs: int, rounds: int) -> None:
    """Prints the time of a fold and epoch with each, by turns, the best of some rounds."""
    runs: dict[str, Callable[[int], int]] = {
        "the lesson's loop": lesson,
        "a Trainer per fold": trainers,
    }
    runs["iris_lightning, 100 folds"] = stacked
    with contextlib.suppress(ImportError):
        import skorch as _

        runs["skorch, cross_val_score"] = skorch
    best = dict.fromkeys(runs, float("inf"))
    torch.set_num_threads(1)
    for _ in range(rounds):
        for name, run in runs.items():
            run(1)
            start = time.perf_counter()
            number = run(epochs)
            best[name] = min(best[name], (time.perf_counter() - start) / number)
    print(f"| {epochs} epochs | µs per fold and epoch | relative to the lesson's loop |")
    print("| --- | --- | --- |")
    for name, seconds in best.items():
        relative = seconds / best["the lesson's loop"]
        print(f"| {name} | {seconds * 1e6:,.0f} | {relative:.3f} |")


def commands() -> None:
    """Prints the wall time of the whole commands, and the peak memory of many folds."""
    with tempfile.TemporaryDirectory() as folder:
        fit = seconds_of(["fit"], folder)
        hundred = seconds_of(["crossvalidate", "--trainer.max_epochs", "200"], folder)
        print(f"\nfit, 5 epochs: {fit:.1f} s")
        ratio = hundred / fit
        print(f"crossvalidate, 100 folds of 200 epochs: {hundred:.1f} s, {ratio:.1f} times as long")
        many = ["crossvalidate", "--repeats", "1000", "--trainer.max_epochs", "20"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", MEMORY.format(many)],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        took = time.perf_counter() - start
        peak = int(done.stdout.split("VmHWM:")[1].split()[0]) / 1e6
        print(f"10,000 folds of 20 epochs: {took:.0f} s, peak memory {peak:.2f} GB (Linux)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    benchmark(options.epochs, options.rounds)
    commands()
