"""Callbacks that make a run one that can be stopped at any moment, and resumed to the same end."""

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from iris_lightning.runs.saving import LastCheckpoint, RunLogger

__all__ = ["SIGNALS", "EpochRecord", "MaxSteps", "SeedEpochs", "StopOnSignal", "Stopped", "set_handlers", "stop"]


class EpochRecord(Callback):
    """Writes the metrics of an epoch into its checkpoints, so that a checkpoint says how good it is.

    A run that is killed between an epoch's checkpoint and its curves lacks the latter; the resumed run logs them again.
    """

    def __init__(self) -> None:
        self.validated: int | None = None  # the last epoch that was
        self.resumed: dict[str, float] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the epoch: the Trainer keeps the validation metrics until there are newer ones."""
        self.validated = trainer.current_epoch

    def metrics_of(self, trainer: L.Trainer, epoch: int) -> dict[str, float]:
        """Returns the latest metrics, without those of an earlier epoch."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return {name: value for name, value in metrics.items() if epoch == self.validated or not name.endswith("/val")}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds `metrics` to a checkpoint."""
        checkpoint["metrics"] = self.metrics_of(trainer, trainer.current_epoch)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes the metrics of the checkpoint."""
        if isinstance(checkpoint.get("metrics"), dict) and checkpoint["metrics"]:
            self.resumed = {**checkpoint["metrics"], "epoch": checkpoint["epoch"]}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs them in the place of the run's own, which `RunLogger` passes over (`purge_step`)."""
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger) and self.resumed:
                logger.log_metrics(self.resumed)


class SeedEpochs(Callback):
    """Seeds what the network draws in an epoch, as dropout does, from the seed of the run and the epoch alone."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds the epoch; 1 sets these draws apart from the order of the rows, which is drawn from the first two."""
        data: Any = getattr(trainer, "datamodule", None)
        mixed = np.random.SeedSequence([data.seed, trainer.current_epoch, 1]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(mixed))


class MaxSteps(Callback):
    """Ends a resumed run after so many steps.

    As an option of the Trainer it would have Lightning repeat the end of the epoch that the checkpoint has behind it.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tells the loop, which has been restored by now."""
        trainer.fit_loop.epoch_loop.max_steps = self.max_steps


class Stopped(BaseException):
    """A signal has asked the command to stop: `args` are its number, and the checkpoint to go on from, if there is one.

    No `Exception`, as `KeyboardInterrupt` is none: nothing on the way but the command line may catch it.
    """


SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl+C, and what a system sends


def stop(number: int, frame: Any) -> None:
    """Handles a signal by raising `Stopped` at once."""
    raise Stopped(number, None)


def set_handlers(handlers: dict[int, Any]) -> dict[int, Any]:
    """Sets handlers of signals, and returns those before; in another thread than the main one, Python allows none."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


class StopOnSignal(Callback):
    """Ends training after the step in progress when a signal asks for it.

    Lightning's own way with SIGINT exits with status 1, and its way with SIGTERM prints a traceback. The epoch in
    progress is not saved: a resumed run repeats it from its start, to the same result.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number, which is never 0
        self.before: dict[int, Any] = {}

    def _receive(self, number: int, frame: Any) -> None:
        self.received = number

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes over the signals, after Lightning has set handlers of its own."""
        self.before = set_handlers(dict.fromkeys(SIGNALS, self._receive))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Stops if any of the processes has received a signal, all of them after the same step."""
        number = self.received
        if trainer.world_size > 1:
            number = int(trainer.strategy.reduce(torch.tensor(number, device=pl_module.device), reduce_op="max"))
        if number:
            folders = [item.dirpath for item in trainer.checkpoint_callbacks if isinstance(item, LastCheckpoint)]
            raise Stopped(number, Path(str(folders[0]), "last.ckpt") if folders else None)

    on_validation_batch_end = on_train_batch_end

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Gives the signals back to their earlier handlers."""
        set_handlers(self.before)
        self.before = {}
