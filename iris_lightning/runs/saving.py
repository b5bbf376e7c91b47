"""The files of a run: its checkpoints, curves, options and environment."""

import platform
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from iris_lightning.files import atomic_write, relative_path
from iris_lightning.hyperparameters import to_yaml
from iris_lightning.runs.checkpoint_io import AtomicCheckpointIO
from iris_lightning.runs.folders import claim_run, remove_run, training_alone
from iris_lightning.runs.signals import Stopped
from iris_lightning.table import Table

PACKAGES = ("iris_lightning", "lightning", "torchmetrics", "scikit-learn", "polars", "numpy")


class BestCheckpoint(ModelCheckpoint):
    """Saves `best.ckpt`, the epoch with the lowest `loss/val`.

    Lightning stores a callback's state under the name of its class, so a subclass keeps it apart
    from the state of a user's own `ModelCheckpoint`.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score, which Lightning would forget if the run was moved."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})
        if self.best_model_path:
            self.best_model_path = f"{self.dirpath}/{self.filename}.ckpt"


class LastCheckpoint(BestCheckpoint):
    """Saves `last.ckpt` after every epoch; `save_last` would save it only with `best.ckpt`."""


def checkpoint_callbacks() -> list[ModelCheckpoint]:
    """Returns the callbacks that save `best.ckpt` and `last.ckpt`."""
    best = BestCheckpoint(filename="best", monitor="loss/val", enable_version_counter=False)
    last = LastCheckpoint(
        filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    return [best, last]


class RunFolder(Callback):
    """Claims a run's folder, directs checkpoints into it, and describes the run.

    `config.yaml` is written after the first `last.ckpt`, so that a folder with a `config.yaml`
    always has a checkpoint for other commands to use.

    Args:
        root: Folder to create `lightning_logs/` in, for a new run.
        run: Folder of the run to resume. By default, a new run is started.
        options: The options of the run, for `config.yaml`.

    Attributes:
        checkpoint_io: Writes the checkpoints of the run.
    """

    def __init__(self, root: Path, run: Path | None, options: dict[str, Any]) -> None:
        self.root = root
        self.run = run
        self.options = options
        self.checkpoint_io = AtomicCheckpointIO()
        self.is_described = False

    @contextmanager
    def training(self, trainer: L.Trainer) -> Iterator[None]:
        """Locks the folder during training, so that no other process trains the run.

        If a new run fails without a checkpoint, its folder is removed.
        """
        if not trainer.is_global_zero:
            yield
            return
        self.run = self.run or claim_run(self.root, self.options["name"])
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run.absolute() / "checkpoints")
        try:
            with training_alone(self.run):
                yield
        except BaseException as error:
            last = self.run / "checkpoints" / "last.ckpt"
            if isinstance(error, Stopped) and last.exists():
                command = "python -m iris_lightning fit --ckpt_path"
                error.hint = f"to resume: {command} {shlex.quote(relative_path(last))}"
            if not any(last.parent.glob("*")):
                remove_run(self.run)
            raise

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Describes the run after its first epoch, or when it is resumed."""
        if self.run is None or self.is_described or not trainer.is_global_zero:
            return
        if Path(self.run, "checkpoints", "last.ckpt").exists():
            table = cast("Any", trainer).datamodule.table
            describe_run(self.run, self.options, trainer, table)
            self.is_described = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the waiting checkpoints, before other callbacks read them."""
        self.on_train_epoch_start(trainer, pl_module)  # for a run of a single epoch
        self.checkpoint_io.flush()


def describe_run(run: Path, options: dict[str, Any], trainer: L.Trainer, table: Table) -> None:
    """Writes `environment.yaml` and `config.yaml`, which are enough to repeat a run.

    Args:
        run: Folder of the run.
        options: Its options.
        trainer: Its Trainer.
        table: The table it was trained on.
    """
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # this project also runs without being installed
            versions[name] = version(name)
    environment = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # includes the build, such as +cpu
        **versions,
        "device": str(trainer.strategy.root_device),
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "data": {"source": table.source, "sha256": table.sha256, "columns": table.roles},
    }
    _write_yaml(run / "environment.yaml", environment)
    _write_yaml(run / "config.yaml", options)


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as new:
        new.write_text(to_yaml(content), "utf-8")
