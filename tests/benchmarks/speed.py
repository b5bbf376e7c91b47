"""How long an epoch and a whole `fit` take, relative to what they cannot be faster than.

    python tests/benchmarks/speed.py [--quick]

An epoch has the lesson's 105 train rows in batches of 10, and its 30 validation rows.
"""

import argparse
import contextlib
import gc
import io
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

from iris_lightning import IrisDataModule, IrisNetwork
from iris_lightning.cli import main
from iris_lightning.metrics import epoch_metrics

EPOCHS = 60
SKIPPED = 3  # first epochs of a training, which are not timed
QUIET: Any = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
IMPORTS = "import iris_lightning.cli.training, sklearn.datasets, torch.utils.tensorboard"

Batch = tuple[Tensor, Tensor]
Measure = Callable[[], float]


def compare(title: str, unit: str, ways: dict[str, Measure], rounds: int = 3) -> None:
    """Measures all ways by turns, and prints medians, and ratios to the first way.

    A ratio is the median of those of the rounds, with the least and the largest.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            found[name].append(measure())
    base = next(iter(ways))
    print(f"\n| {title} | {unit} | relative to {base} (least, largest) |\n| --- | --- | --- |")
    for name, values in found.items():
        ratios = [one / other for one, other in zip(values, found[base], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        print(f"| {name} | {statistics.median(values):,.3g} | {spread} |", flush=True)


def process(*command: str) -> float:
    """Returns the seconds of a Python process, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - start


class Clock(L.Callback):
    """Times the epochs but the first."""

    milliseconds = 0.0  # of an epoch of the training that was timed last

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == SKIPPED:
            self.start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        seconds = time.perf_counter() - self.start
        Clock.milliseconds = 1000 * seconds / (EPOCHS - SKIPPED)


class Floor(L.LightningModule):
    """The lesson's network, and steps that compute the loss alone."""

    def __init__(self) -> None:
        super().__init__()
        self.network = IrisNetwork()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Textbook(Floor):
    """Metrics of torchmetrics, logged once an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.train_metrics, self.val_metrics = epoch_metrics(3, "train"), epoch_metrics(3, "val")

    def _step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        logits = self.network(batch[0])
        losses = cross_entropy(logits, batch[1], reduction="none")
        metrics.update(value=losses.detach(), preds=logits.detach(), target=batch[1])
        return losses.mean()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._step(batch, self.train_metrics)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, self.val_metrics)

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.train_metrics.compute())
        self.train_metrics.reset()

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute())
        self.val_metrics.reset()


class Batches(list[Batch]):
    """The batches of a split; Lightning takes a plain list for several loaders."""

    def __init__(self, split: str) -> None:
        features, targets = IrisDataModule().tensors(split)
        super().__init__(zip(features.split(10), targets.split(10), strict=True))


class WritesNothing(TorchCheckpointIO):
    """Leaves out the writing of checkpoints, but not their making."""

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        pass


def train(module: L.LightningModule, *callbacks: L.Callback, plugins: Any = None) -> float:
    """Milliseconds of an epoch of a module under Lightning's Trainer."""
    options = {**QUIET, "enable_checkpointing": bool(callbacks), "num_sanity_val_steps": 0}
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[*callbacks, Clock()],
        plugins=plugins,
        **options,
    )
    trainer.fit(module, Batches("train"), Batches("val"))
    return Clock.milliseconds


def train_with_checkpoints(plugins: Any = None) -> float:
    """Milliseconds of an epoch with metrics, and with a best and a last checkpoint of Lightning."""
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, "best", monitor="loss/val")
        return train(Textbook(), best, ModelCheckpoint(folder, "last"), plugins=plugins)


def fit() -> float:
    """Milliseconds of an epoch of `fit`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        options = [
            "--trainer.accelerator=cpu",
            f"--trainer.default_root_dir={folder}",
            f"--trainer.max_epochs={EPOCHS}",
            "--trainer.callbacks+=__main__.Clock",
            "--figures=false",
        ]
        main(["fit", *options])
    return Clock.milliseconds


def loop() -> float:
    """Milliseconds of an epoch of the lesson's loop, whose loaders collect rows one by one."""
    data, network = IrisDataModule(), IrisNetwork()
    optimizer = torch.optim.Adam(network.parameters())
    train = DataLoader(TensorDataset(*data.tensors("train")), 10, shuffle=True)
    val = DataLoader(TensorDataset(*data.tensors("val")), 10)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        network.train()
        for features, targets in train:
            optimizer.zero_grad()
            cross_entropy(network(features), targets).backward()
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            for features, targets in val:
                logits = network(features)
                cross_entropy(logits, targets).item()
                logits.argmax(dim=1).eq(targets).sum().item()
    return 1000 * (time.perf_counter() - start) / EPOCHS


WAYS: dict[str, Measure] = {
    "Lightning's floor": lambda: train(Floor()),
    "a textbook's module with three metrics": lambda: train(Textbook()),
    "and two checkpoints that write nothing": lambda: train_with_checkpoints(WritesNothing()),
    "and two checkpoints": train_with_checkpoints,
    "`fit`": fit,
    "the lesson's loop": loop,
}
PROCESSES: dict[str, Measure] = {
    "imports of `fit`": lambda: process("-c", IMPORTS),
    "`fit`": lambda: process("-m", "iris_lightning", "fit"),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in a minute, and less exact")
    rounds = 1 if parser.parse_args().quick else 7
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    gc.freeze()  # as a command does, for all ways alike
    torch.set_num_threads(1)
    compare("an epoch", "ms", WAYS, rounds)
    compare("a whole process", "s", PROCESSES, rounds)
