"""How a run ends early, so that it can go on: Ctrl+C and SIGTERM."""

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from iris_lightning.runs.saving import LastCheckpoint

__all__ = ["StopOnSignal", "Stopped"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal has asked the run to stop.

    No `Exception`, as `KeyboardInterrupt` is none: nothing on the way but the command line may catch it.

    Attributes:
        signal: The signal's number.
        path: The checkpoint to go on from, where the run keeps one.
    """

    def __init__(self, number: int, path: Path | None) -> None:
        super().__init__(number, path)
        self.signal = number
        self.path = path


class StopOnSignal(Callback):
    """Ends training after the step in progress when a signal asks for it.

    Lightning's own way with SIGINT exits with status 1, and its way with SIGTERM prints a traceback. The epoch in
    progress is not saved: a resumed run repeats it from its start, to the same result.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def _receive(self, number: int, frame: Any) -> None:
        self.received = number

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes over the signals, after Lightning has set handlers of its own."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stops if a signal was received."""
        if self.received is not None:
            keepers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint)]
            raise Stopped(self.received, Path(str(keepers[0].dirpath), "last.ckpt") if keepers else None)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stops if a signal was received."""
        self.on_train_batch_end(trainer)

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Gives the signals back to their earlier handlers."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
