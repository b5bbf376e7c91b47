"""How checkpoints are written and read."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from iris_lightning.files import atomic_write
from iris_lightning.weights.export import serialize

WRITE_INTERVAL_SECONDS = 1.0


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and each file at most once per second.

    On a small table, an epoch is shorter than the time it takes to write its checkpoints. So a
    checkpoint that follows within a second stays in memory until the next one replaces it or
    training ends. A run that is killed in between repeats the lost epochs when it is resumed, with
    the same result.

    Attributes:
        before_write: Called before checkpoints are written: the `flush` of the run's logger, so
            that the curves are written first.
    """

    before_write: Callable[[], None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[Path, dict[str, Any]] = {}
        self.written_seconds: dict[Path, float] = {}  # when each file was last written

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint now, or keeps a copy of it to be written later."""
        path = Path(path)
        elapsed_seconds = time.monotonic() - self.written_seconds.get(path, float("-inf"))
        if elapsed_seconds >= WRITE_INTERVAL_SECONDS:
            self.waiting[path] = checkpoint
            self.flush()
        else:
            self.waiting[path] = _copy(checkpoint)

    def flush(self) -> None:
        """Writes all waiting checkpoints.

        `best.ckpt` comes first, because `last.ckpt` records its score.

        Raises:
            OSError: If a checkpoint cannot be written. The previous file is kept.
        """
        if self.waiting and self.before_write is not None:
            self.before_write()
        waiting, self.waiting = self.waiting, {}
        for path in sorted(waiting):  # "best" sorts before "last"
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as new:
                new.write_bytes(serialize(waiting[path]))
            self.written_seconds[path] = time.monotonic()

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint, whether it is written or still waiting."""
        self.waiting.pop(Path(path), None)
        super().remove_checkpoint(path)

    teardown = flush  # called by Lightning, also after an error


def _copy(value: Any) -> Any:
    """Copies tensors, dicts and lists; `copy.deepcopy` would take a millisecond per epoch."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
