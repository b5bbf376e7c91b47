"""Callbacks that make a run one that can be stopped at any moment, and resumed to the same end."""

from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.saving import LastCheckpoint
from iris_lightning.runs.signals import SIGNALS, Stopped, set_handlers

__all__ = ["EpochRecord", "MaxSteps", "SeedEpochs", "StopOnSignal"]


class EpochRecord(Callback):
    """Writes the metrics of an epoch into its checkpoints, so that a checkpoint says how good it is.

    Lightning steps `ReduceLROnPlateau` after the epoch's checkpoints, and may log its curves only then: a resumed run
    does both again.
    """

    def __init__(self) -> None:
        self.validated: int | None = None  # the last epoch that was
        self.resumed: dict[str, Any] = {}  # what the checkpoint says

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the epoch: the Trainer keeps the validation metrics until there are newer ones."""
        self.validated = trainer.current_epoch

    def metrics_of(self, trainer: L.Trainer, epoch: int) -> dict[str, float]:
        """Returns the latest metrics, without those of an earlier epoch."""
        progress: Any = trainer.fit_loop.epoch_progress.current
        # An epoch that is validated within has no train metrics then.
        known = {"/val": epoch == self.validated, "/train": epoch < progress.processed}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return {name: value for name, value in metrics.items() if known.get(name[name.rfind("/") :], True)}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds `metrics` to a checkpoint, and `callback_metrics`, which may be those of an earlier validation."""
        checkpoint["metrics"] = self.metrics_of(trainer, trainer.current_epoch)
        checkpoint["callback_metrics"] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint["datamodule_hyper_parameters"]["batch_size"] = cast("Any", trainer).datamodule.batch_size  # as tuned

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes what the checkpoint says; one from before the first epoch says nothing."""
        if checkpoint.get("metrics"):
            self.resumed = checkpoint

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Does what the resumed epoch lacks; `RunLogger` passes over what it may have of it (`purge_step`)."""
        if not self.resumed:
            return
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_metrics({**self.resumed["metrics"], "epoch": self.resumed["epoch"]})
        metrics = {name: torch.tensor(value) for name, value in self.resumed["callback_metrics"].items()}
        trainer.callback_metrics.update(metrics)
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor in metrics:
                pl_module.lr_scheduler_step(config.scheduler, metrics[config.monitor])


class SeedEpochs(Callback):
    """Seeds what the network draws in an epoch, as dropout does, from the seed of the run and the epoch alone."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds the epoch; 1 sets these draws apart from the order of the rows, which is drawn from the first two."""
        data: Any = getattr(trainer, "datamodule", None)
        mixed = np.random.SeedSequence([data.seed, trainer.current_epoch, 1]).generate_state(1, np.uint64)[0]
        if pl_module.device.type == "cpu":
            torch.default_generator.manual_seed(int(mixed))
        else:  # looks for devices of every kind, which takes half a millisecond
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
            last = [item.path for item in trainer.checkpoint_callbacks if isinstance(item, LastCheckpoint)]
            raise Stopped(number, last[0] if last else None)

    on_validation_batch_end = on_train_batch_end

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Gives the signals back to their earlier handlers."""
        set_handlers(self.before)
        self.before = {}
