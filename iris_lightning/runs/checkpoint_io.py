"""How checkpoints are written and read."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write
from iris_lightning.runs.checkpoints import relocate

INTERVAL = 1.0  # seconds between writes


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and at most once a second.

    An epoch of a small table takes less time than writing its checkpoints. Later ones of a file
    wait in memory until a second has passed since the last write, or the training ends. A killed
    run repeats that second, to the same result.

    Args:
        before_write: What has to be on disk before a checkpoint is, such as the curves.
    """

    def __init__(self, before_write: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.before_write = before_write
        self.waiting: dict[Path, dict[str, Any]] = {}
        self.written = float("-inf")  # when, in seconds

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint if it is the first of its file or a second has passed."""
        due = time.monotonic() - self.written >= INTERVAL
        if due or not Path(path).exists():
            self.waiting[Path(path)] = checkpoint
            self.flush()
        else:
            self.waiting[Path(path)] = _copy(checkpoint)

    def flush(self) -> None:
        """Writes the checkpoints that wait, `best.ckpt` before the `last.ckpt` that mentions it.

        Raises:
            UserError: If one cannot be written; the one before it is kept.
        """
        if self.waiting:
            self.before_write()
        waiting, self.waiting = self.waiting, {}
        for path in sorted(waiting):
            self._write(waiting[path], path)
            self.written = time.monotonic()

    def _write(self, checkpoint: dict[str, Any], path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as new:
                torch.save(checkpoint, new)
        except (OSError, RuntimeError) as error:  # RuntimeError: of torch's zip writer
            kept = "; the one before is kept" if path.is_file() else ""
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: cannot be written: {reason}{kept}") from error

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads a checkpoint, whose run may have been moved."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, *args, **kwargs)
        return relocate(checkpoint, Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint, or forgets one that waits."""
        self.waiting.pop(Path(path), None)
        if Path(path).exists():
            super().remove_checkpoint(path)

    def teardown(self) -> None:
        """Writes the checkpoints that wait."""
        self.flush()


def _copy(value: Any) -> Any:
    """Copies what training changes; `copy.deepcopy` would take a millisecond."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
