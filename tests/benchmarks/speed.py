"""How long a start and an epoch take, beside what they cannot be faster than, and beside peers.

    pip install -e '.[test,bench]'
    python tests/benchmarks/speed.py [--quick]

All ways of a table take turns, round by round; a ratio is the median of those of the rounds, with
the least and the largest. An epoch has the lesson's 105 train rows in batches of 10, and its 30
validation rows.
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
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MetricCollection

from iris_lightning import IrisDataModule, IrisNetwork
from iris_lightning.cli import main
from iris_lightning.metrics import epoch_metrics

SKIPPED = 3  # first epochs of a training, which are not timed
QUIET: Any = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)
IMPORTS = "import iris_lightning.cli.training, sklearn.datasets, torch.utils.tensorboard"
PREDICTING = "import torch, polars, numpy, jsonargparse"

DATA = IrisDataModule()
Times = dict[str, list[float]]


class Clock(L.Callback):
    """Times the epochs but the first."""

    milliseconds = 0.0  # of an epoch of the training that was timed last

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == SKIPPED:
            self.start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        sys.modules["__main__"].Clock.milliseconds = (
            1000 * (time.perf_counter() - self.start) / (trainer.current_epoch - SKIPPED)
        )


class Shuffled:
    """The batches of an epoch, from tensors."""

    def __init__(self, split: str) -> None:
        self.features, self.targets = DATA.tensors(split)
        self.order = torch.randperm if split == "train" else torch.arange

    def __len__(self) -> int:
        return -(-len(self.targets) // 10)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.order(len(self.targets)).split(10):
            yield self.features[rows], self.targets[rows]


class Floor(L.LightningModule):
    """The lesson's network, and steps that compute the loss alone."""

    def __init__(self) -> None:
        super().__init__()
        self.network = IrisNetwork()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def floor(epochs: int) -> float:
    """Milliseconds of an epoch that Lightning takes for itself."""
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", num_sanity_val_steps=0, callbacks=[Clock()], **QUIET
    )
    trainer.fit(Floor(), Shuffled("train"), Shuffled("val"))
    return Clock.milliseconds


class Textbook(Floor):
    """Metrics of torchmetrics, logged once an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.train_metrics, self.val_metrics = epoch_metrics(3, "train"), epoch_metrics(3, "val")

    def _step(self, batch: tuple[Tensor, Tensor], metrics: MetricCollection) -> Tensor:
        logits = self.network(batch[0])
        losses = cross_entropy(logits, batch[1], reduction="none")
        metrics.update(value=losses.detach(), preds=logits.detach(), target=batch[1])
        return losses.mean()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, self.train_metrics)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, self.val_metrics)

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.train_metrics.compute())
        self.train_metrics.reset()

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute())
        self.val_metrics.reset()


def textbook(checkpoints: bool) -> Callable[[int], float]:
    """Milliseconds of an epoch with metrics, and with a best and a last checkpoint of Lightning."""

    def run(epochs: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            options = {**QUIET, "enable_checkpointing": checkpoints, "callbacks": [Clock()]}
            if checkpoints:
                best = ModelCheckpoint(folder, "best", monitor="loss/val")
                options["callbacks"] += [best, ModelCheckpoint(folder, "last")]
            trainer = L.Trainer(
                max_epochs=epochs, accelerator="cpu", num_sanity_val_steps=0, **options
            )
            trainer.fit(Textbook(), Shuffled("train"), Shuffled("val"))
        return Clock.milliseconds

    return run


def fit(epochs: int) -> float:
    """Milliseconds of an epoch of `fit`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        options = [
            "--trainer.accelerator=cpu",
            f"--trainer.default_root_dir={folder}",
            f"--trainer.max_epochs={epochs}",
            "--trainer.callbacks+=__main__.Clock",
            "--figures=false",
        ]
        main(["fit", *options])
    return Clock.milliseconds


def loop(batches: Callable[[str], Any]) -> Callable[[int], float]:
    """Milliseconds of an epoch of a loop in plain PyTorch over such batches."""

    def run(epochs: int) -> float:
        network = IrisNetwork()
        optimizer, train, val = (
            torch.optim.Adam(network.parameters()),
            batches("train"),
            batches("val"),
        )
        start = time.perf_counter()
        for _ in range(epochs):
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
        return 1000 * (time.perf_counter() - start) / epochs

    return run


class Flowers(Dataset[tuple[Tensor, Tensor]]):
    """The lesson's dataset, a row at a time."""

    def __init__(self, split: str) -> None:
        self.data, self.target = (tensor.numpy() for tensor in DATA.tensors(split))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.data[index]).to(torch.float), torch.tensor(self.target[index])


def lesson(split: str) -> DataLoader[tuple[Tensor, Tensor]]:
    """The lesson's loader, which collects rows one by one."""
    return DataLoader(Flowers(split), 10, shuffle=split == "train")


def mlp(epochs: int) -> float:
    """Milliseconds of an epoch of scikit-learn's network, which has no validation."""
    features, targets = (tensor.numpy() for tensor in DATA.tensors("train"))
    network = MLPClassifier(
        (16, 8), "identity", batch_size=10, max_iter=epochs, n_iter_no_change=epochs
    )
    start = time.perf_counter()
    network.fit(features, targets)
    return 1000 * (time.perf_counter() - start) / epochs


def skorch(epochs: int) -> float:
    """Milliseconds of an epoch of skorch's classifier."""
    from skorch import NeuralNetClassifier
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    classifier = NeuralNetClassifier(
        IrisNetwork,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        batch_size=10,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=predefined_split(Dataset(*DATA.tensors("val"))),
        verbose=0,
    )
    start = time.perf_counter()
    classifier.fit(*DATA.tensors("train"))
    return 1000 * (time.perf_counter() - start) / epochs


EPOCHS: dict[str, Callable[[int], float]] = {
    "Lightning's floor": floor,
    "a textbook's module with three metrics": textbook(False),
    "a textbook's module with two checkpoints as well": textbook(True),
    "scikit-learn's MLPClassifier": mlp,
    "bare tensors": loop(Shuffled),
    "the lesson's loop": loop(lesson),
    "skorch": skorch,
    "`fit`": fit,
}
CODES = {
    "`import torch`": "import torch",
    "`import torch, sklearn.datasets`": "import torch, sklearn.datasets",
    "`import lightning`": "import lightning",
    "imports of `predict`": PREDICTING,
    "imports of `fit`": IMPORTS,
    "those without collecting garbage": f"import gc; gc.disable(); {IMPORTS}; gc.freeze()",
    "`fit`": "import sys; sys.argv[1:] = ['fit']; import iris_lightning.__main__ as program; "
    "program.run()",
}
COMMANDS = {
    "`--version`": ["--version"],
    "`--help`": ["--help"],
    "a misspelt command": ["fitt"],
    "`predict` of a row": ["predict", "row.csv", "--output", "out.csv"],
    "`export model.pth`": ["export", "model.pth"],
    "`fit --help`": ["fit", "--help"],
    "a misspelt option": ["fit", "--model.lrr", "1"],
}


STARTS = {
    "`import torch`": [
        "`import torch, sklearn.datasets`",
        "`import lightning`",
        "imports of `fit`",
        *[*COMMANDS][:3],
    ],
    "imports of `predict`": [*COMMANDS][3:5],
    "imports of `fit`": ["`fit`", *[*COMMANDS][5:]],
    "those without collecting garbage": ["`fit`"],
}


def starts(rounds: int) -> Times:
    """Seconds of whole processes."""
    seconds: Times = {}
    program = [sys.executable, "-m", "iris_lightning"]
    runs = {name: [sys.executable, "-c", code] for name, code in CODES.items()}
    for name, options in COMMANDS.items():
        runs[name] = [*program, *options]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*program, "fit"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        Path(folder, "row.csv").write_text(f"{','.join(DATA.feature_names)}\n5.1,3.5,1.4,0.2\n")
        for _ in range(rounds):
            for name, command in runs.items():
                start = time.perf_counter()
                subprocess.run(command, cwd=folder, check=False, capture_output=True)
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    return seconds


def epochs_of(ways: dict[str, Callable[[int], float]], epochs: int, rounds: int) -> Times:
    """Milliseconds of an epoch of each way."""
    times: Times = {name: [] for name in ways}
    for way in ways.values():
        way(SKIPPED + 2)
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(way(epochs))
    return times


def print_table(title: str, unit: str, times: Times, *bases: str) -> None:
    """Prints medians, and ratios to the bases."""
    headers = [f"relative to {base} (least, largest)" for base in bases]
    print(f"\n| {' | '.join([title, unit, *headers])} |")
    print("| --- | --- |" + " --- |" * len(bases))
    for name, own in times.items():
        cells = [name, f"{statistics.median(own):.3g}"]
        for base in bases:
            ratios = [one / other for one, other in zip(own, times[base], strict=True)]
            middle = statistics.median(ratios)
            cells.append(f"{middle:.2f} ({min(ratios):.2f}, {max(ratios):.2f})")
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="in a minute, and less exact")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if find_spec("skorch") is None:
        EPOCHS.pop("skorch")
    rounds = 1 if args.quick else 7
    gc.freeze()  # as a command does, for all ways alike
    torch.set_num_threads(1)
    times = epochs_of(EPOCHS, 60, rounds)
    print_table("an epoch", "ms", times, "Lightning's floor", "the lesson's loop")
    seconds = starts(rounds)
    for base, names in STARTS.items():
        chosen = {name: seconds[name] for name in (base, *names)}
        print_table("a whole process", "s", chosen, base)
