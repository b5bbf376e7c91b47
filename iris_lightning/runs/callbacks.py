"""Callbacks that let a run be stopped at any time and resumed with the same result."""

import re
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from iris_lightning.batching import seeded_generator
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.signals import SIGNALS, Stopped, set_handlers


class EpochRecord(Callback):
    """Records the metrics of an epoch in its checkpoints.

    A resumed run logs them again: the logger gets them after the checkpoint is saved, so a run that
    was killed in between has no points for them.

    Attributes:
        validated_epoch: The last epoch that was validated.
        resumed: The checkpoint that the run was resumed from, or an empty dict.
    """

    def __init__(self) -> None:
        self.validated_epoch: int | None = None
        self.resumed: dict[str, Any] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remembers which epoch the Trainer's validation metrics belong to."""
        self.validated_epoch = trainer.current_epoch

    def metrics_at(self, trainer: L.Trainer, epoch: int) -> dict[str, float]:
        """Returns the latest metrics, leaving out validation metrics of an earlier epoch.

        The Trainer keeps validation metrics until the next validation.
        """
        metrics = {}
        for name, value in trainer.callback_metrics.items():
            if epoch == self.validated_epoch or not re.search("^members/|/val$", name):
                metrics[name] = float(value)
        return metrics

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds `metrics`, of this epoch, and `callback_metrics`, the latest of every metric."""
        checkpoint["callback_metrics"] = dict(trainer.callback_metrics)
        checkpoint["metrics"] = self.metrics_at(trainer, trainer.current_epoch)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the checkpoint."""
        self.resumed = checkpoint

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the metrics of the resumed epoch again."""
        if isinstance(trainer.logger, RunLogger):
            metrics = self.resumed.get("metrics", {})
            trainer.logger.log_metrics(metrics, self.resumed.get("epoch"))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Repeats the last step of `ReduceLROnPlateau` and the decision of `EarlyStopping`.

        Checkpoints have neither: the scheduler steps after they are saved, and `should_stop` is not
        part of them.
        """
        for stopping in trainer.early_stopping_callbacks:
            if stopping.stopping_reason_message:
                trainer.should_stop = True
        metrics = self.resumed.get("callback_metrics", {})
        trainer.callback_metrics.update(metrics)
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor in metrics:
                pl_module.lr_scheduler_step(config.scheduler, metrics[config.monitor])


class SeedEpochs(Callback):
    """Seeds every epoch, for dropout and the like, with a seed derived from the run's seed.

    A resumed run thus draws the same random numbers without saved generator states.
    """

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds the epoch."""
        data = cast("Any", trainer).datamodule
        # The 1 distinguishes these random numbers from those that shuffle the rows.
        seed = seeded_generator(data.seed, trainer.current_epoch, 1).initial_seed()
        torch.manual_seed(seed)


class StopOnSignal(Callback):
    """Ends training after the current step when SIGINT or SIGTERM is received.

    Lightning would exit with status 1 on SIGINT, and print a traceback on SIGTERM. The unfinished
    epoch is not saved: a resumed run repeats it from the start, with the same result.

    Attributes:
        received: Number of the signal that was received, or 0.
    """

    def __init__(self) -> None:
        self.received = 0

    def _receive(self, number: int, frame: Any) -> None:
        self.received = number

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Installs the handlers; Lightning restores the previous ones after training."""
        set_handlers(dict.fromkeys(SIGNALS, self._receive))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Raises `Stopped` in all processes after the same step if any has received a signal."""
        number = self.received
        if trainer.world_size > 1:
            received = torch.tensor(number, device=pl_module.device)
            number = int(trainer.strategy.reduce(received, reduce_op="max"))
        if number:
            raise Stopped(number)

    on_validation_batch_end = on_train_batch_end
