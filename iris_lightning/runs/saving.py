"""What a run writes into its folder beside checkpoints and curves."""

import platform
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from iris_lightning.files import atomic_write, remove_leftovers
from iris_lightning.hyperparameters import to_yaml
from iris_lightning.runs.checkpoint_io import AtomicCheckpointIO
from iris_lightning.runs.folders import RESULTS, claim_run
from iris_lightning.runs.logger import RunLogger

PACKAGES = ("iris_lightning", "lightning", "torchmetrics", "scikit-learn", "polars", "numpy")


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`, the lowest `loss/val`.

    A class of its own, whose state Lightning tells from that of a user's `ModelCheckpoint`.
    """

    @cached_property
    def state_key(self) -> str:
        """Lightning's, which asks for it in every hook of every step."""
        return super().state_key


class LastCheckpoint(BestCheckpoint):
    """Keeps `last.ckpt`, the latest epoch, since `save_last` is stale while `loss/val` rises."""


def checkpoint_callbacks() -> list[ModelCheckpoint]:
    """Returns what keeps `best.ckpt` and `last.ckpt`."""
    best = BestCheckpoint(filename="best", monitor="loss/val", enable_version_counter=False)
    last = LastCheckpoint(
        filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    return [best, last]


class RunFolder(Callback):
    """Claims the folder of a run, places checkpoints and curves there, and describes the run.

    `config.yaml` appears after the first `last.ckpt`: a folder that has it is one that other
    commands can use.

    Args:
        root: Where `lightning_logs/` is.
        run: The folder of a run to be resumed; by default a new one is claimed.
        options: The options of the run, as plain values.
    """

    def __init__(self, root: Path, run: Path | None, options: dict[str, Any]) -> None:
        self.root = root
        self.run = run
        self.options = options
        self.described = False

    def claim(self, trainer: L.Trainer) -> None:
        """Claims the folder, in the first process of all."""
        if not trainer.is_global_zero:
            return
        if self.run is None:
            self.run = claim_run(self.root, self.options["name"])
        checkpoints = self.run.absolute() / "checkpoints"
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(checkpoints)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.run = self.run

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Removes what a killed process left behind."""
        if self.run and trainer.is_global_zero:
            remove_leftovers(self.run, alone=True)
            remove_leftovers(self.run / "checkpoints", alone=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Describes the run after its first epoch, and when it is resumed."""
        self._describe(trainer)

    def _describe(self, trainer: L.Trainer) -> None:
        if self.run is None or self.described or not trainer.is_global_zero:
            return
        last = self.run / "checkpoints" / "last.ckpt"
        if trainer.checkpoint_callbacks and not last.exists():
            return
        table = cast("Any", trainer).datamodule.table
        environment = describe_environment(
            trainer.strategy.root_device,
            trainer.world_size,
            self.options["seed_everything"],
            table.source,
            table.sha256,
        )
        describe_run(self.run, self.options, environment)
        self.described = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves whole checkpoints to all who look at the end of the run."""
        self._describe(trainer)
        checkpoint_io = trainer.strategy.checkpoint_io
        if isinstance(checkpoint_io, AtomicCheckpointIO):
            checkpoint_io.flush()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes `results.yaml`, which says that curves and pictures are complete."""
        if self.run and trainer.is_global_zero:
            results = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
            with atomic_write(self.run / RESULTS) as new:
                new.write_text(to_yaml(results), encoding="utf-8")


def describe_environment(
    device: Any, processes: int, seed: int, source: str, sha256: str
) -> dict[str, Any]:
    """Returns what the result of a run depends on beside its options."""
    versions = {name: version(name) for name in PACKAGES}
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # which names the build as well
        **versions,
        "device": str(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "seed": int(seed),
        "data": {"source": source, "sha256": sha256},
    }


def describe_run(run: Path, options: dict[str, Any], environment: dict[str, Any]) -> None:
    """Writes `environment.yaml` and `config.yaml` of a run, from which it can be repeated."""
    for name, content in (("environment.yaml", environment), ("config.yaml", options)):
        with atomic_write(run / name) as new:
            new.write_text(to_yaml(content), encoding="utf-8")
