"""How checkpoints are written: whole or not at all, and the run's own at most once a second."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write

__all__ = ["AtomicCheckpointIO", "write_held"]

SECONDS = 1.0  # between two writes of the same checkpoint, at least
CHANGING = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks")  # of a checkpoint, as training goes on


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there, so that a killed run leaves the one before.

    It writes the run's own, `best.ckpt` and `last.ckpt`, once a second, and holds later ones in memory until then: a
    write takes half as long as an epoch of a small table. A killed run repeats that second, to the same result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], object] = lambda: None  # what has to be done before a checkpoint is written
        self.held: dict[Path, dict[str, Any]] = {}
        self.written: dict[Path, float] = {}  # when, in seconds
        self.latest: tuple[Any, Any] = None, None  # a checkpoint that was held, and what is held of it

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint, or holds it."""
        path = Path(path)
        if path.name not in ("best.ckpt", "last.ckpt"):
            self._write(checkpoint, path)
        elif time.monotonic() - self.written.get(path, -math.inf) < SECONDS:
            if checkpoint is not self.latest[0]:  # the last one may be the best
                changing = {key: _snapshot(checkpoint.get(key)) for key in CHANGING}
                self.latest = checkpoint, {**checkpoint, **changing}
            self.held[path] = self.latest[1]
        else:
            self.held[path] = checkpoint
            self.write_held(path)

    def write_held(self, most: Path | None = None) -> None:
        """Writes what is held, up to this path: the best first, since the last one says that there is such a best."""
        for path in sorted(self.held):
            if most is None or path <= most:
                self._write(self.held.pop(path), path)
                self.written[path] = time.monotonic()

    def teardown(self) -> None:
        """Writes what is held."""
        self.write_held()

    def _write(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Writes a checkpoint; a UserError says why it cannot be written, and the one before is as it was."""
        try:
            self.before()
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as new:
                torch.save(checkpoint, new)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch's, of its zip writer
            kept = "; the one before is kept" if path.is_file() else ""
            raise UserError(f"{path}: cannot be written: {str(error).splitlines()[0]}{kept}") from error


def write_held(trainer: L.Trainer) -> None:
    """Writes the checkpoints that are held, for those who read their files."""
    if isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO):
        trainer.strategy.checkpoint_io.write_held()


def _snapshot(value: Any) -> Any:
    """Copies the tensors, dicts and lists of a checkpoint, in a fifth of the time that `copy.deepcopy` takes."""
    if isinstance(value, dict):
        return {key: _snapshot(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_snapshot(item) for item in value]
    return value.clone() if isinstance(value, torch.Tensor) else value
