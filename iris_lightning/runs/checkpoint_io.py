"""How checkpoints are written: whole or not at all, and the run's own at most once a second."""

import copy
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write

__all__ = ["AtomicCheckpointIO", "hold", "write_held"]

SECONDS = 1.0  # after a checkpoint was written, until it is again
# What of a checkpoint is made anew for each, or does not change.
UNCHANGING = {"loops", "hyper_parameters", "datamodule_hyper_parameters", "options", "trained_on", "IrisDataModule"}
UNCHANGING |= {"metrics", "callback_metrics"}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there, so that a killed run leaves the one before.

    It writes the run's own, `best.ckpt` and `last.ckpt`, once a second, and holds later ones in memory until then: a
    write takes half as long as an epoch of a small table. A killed run repeats that second, to the same result.
    `RunFolder` says which these are, and writes what is held at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], object] | None = None  # what has to be done before a checkpoint is written
        self.own: set[Path] = set()
        self.held: dict[Path, dict[str, Any]] = {}
        self.written: dict[Path, float] = {}  # when, in seconds
        self.original: dict[str, Any] | None = None  # the checkpoint that was held latest, and
        self.snapshot: dict[str, Any] = {}  # what is held of it

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint, or holds it."""
        path = Path(path)
        if path not in self.own:
            self._write(checkpoint, path)
        elif time.monotonic() - self.written.get(path, -math.inf) < SECONDS:
            if checkpoint is not self.original:  # the last one may be the best
                changing = {key: _snapshot(value) for key, value in checkpoint.items() if key not in UNCHANGING}
                self.original, self.snapshot = checkpoint, {**checkpoint, **changing}
            self.held[path] = self.snapshot
        else:
            self.held[path] = checkpoint
            self.write_held(path)

    def write_held(self, most: Path | None = None) -> None:
        """Writes what is held, up to this path: the best first, since the last one says that there is such a best."""
        for path in sorted(self.held):
            if most is None or path <= most:
                self._write(self.held[path], path)
                del self.held[path]
                self.written[path] = time.monotonic()
        if not self.held:
            self.original, self.snapshot = None, {}  # which may be large

    def _write(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Writes a checkpoint; a UserError says why it cannot be written, and the one before is as it was."""
        try:
            if self.before:
                self.before()
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as new:
                torch.save(checkpoint, new)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch's, of its zip writer
            kept = "; the one before is kept" if path.is_file() else ""
            raise UserError(f"{path}: cannot be written: {str(error).splitlines()[0]}{kept}") from error


def hold(trainer: L.Trainer, folder: Path) -> None:
    """Has the run's checkpoints in this folder held, unless a logger, such as that of W&B, reads each one saved."""
    no_reader = {Logger.after_save_checkpoint, TensorBoardLogger.after_save_checkpoint}
    readers = [item for item in trainer.loggers if type(item).after_save_checkpoint not in no_reader]
    if isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO) and not readers:
        trainer.strategy.checkpoint_io.own = {folder / "best.ckpt", folder / "last.ckpt"}


def write_held(trainer: L.Trainer) -> None:
    """Writes the checkpoints that are held, for those who read their files."""
    if isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO):
        trainer.strategy.checkpoint_io.write_held()


def _snapshot(value: Any) -> Any:
    """Copies a checkpoint, in a fifth of the time that `copy.deepcopy` takes for tensors, dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if type(value) in (dict, OrderedDict):
        return {key: _snapshot(item) for key, item in value.items()}
    if type(value) is list:
        return [_snapshot(item) for item in value]
    return value if isinstance(value, str | int | float | None) else copy.deepcopy(value)
