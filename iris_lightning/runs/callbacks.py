"""Callbacks with which a run can be stopped at any moment, and resumed to the same end."""

from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from iris_lightning.batching import seeded_generator
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.signals import SIGNALS, Stopped, set_handlers


class EpochRecord(Callback):
    """Adds the metrics of an epoch to its checkpoints, so that a checkpoint says how good it is.

    A resumed run logs them again: they may not have reached the curves before it was stopped.

    Attributes:
        resumed: The checkpoint that the run goes on from, or an empty dict.
    """

    def __init__(self) -> None:
        self.validated: int | None = None  # the last epoch that was
        self.resumed: dict[str, Any] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the epoch: the Trainer keeps validation metrics until there are newer ones."""
        self.validated = trainer.current_epoch

    def metrics_at(self, trainer: L.Trainer, epoch: int) -> dict[str, float]:
        """Returns the latest metrics, without the validation metrics of an earlier epoch."""
        metrics = {}
        for name, value in trainer.callback_metrics.items():
            if epoch == self.validated or not name.endswith("/val"):
                metrics[name] = float(value)
        return metrics

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds `metrics`, and `callback_metrics`, which may be those of an earlier validation."""
        callback_metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint["callback_metrics"] = callback_metrics
        checkpoint["metrics"] = self.metrics_at(trainer, trainer.current_epoch)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes what the checkpoint says."""
        self.resumed = checkpoint

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the metrics of the resumed epoch."""
        if not self.resumed.get("metrics"):
            return
        metrics = {**self.resumed["metrics"], "epoch": self.resumed["epoch"]}
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_metrics(metrics)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Steps `ReduceLROnPlateau`, as Lightning does only after an epoch's checkpoints."""
        known = self.resumed.get("callback_metrics", {})
        metrics = {name: torch.tensor(value) for name, value in known.items()}
        trainer.callback_metrics.update(metrics)
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor in metrics:
                pl_module.lr_scheduler_step(config.scheduler, metrics[config.monitor])


class SeedEpochs(Callback):
    """Seeds an epoch's random draws, such as dropout's, from the run's seed and the epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds the epoch. The 1 sets these draws apart from the order of the rows."""
        data = cast("Any", trainer).datamodule
        seed = seeded_generator(data.seed, trainer.current_epoch, 1).initial_seed()
        if pl_module.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:  # takes half a millisecond
            torch.manual_seed(seed)


class StopOnSignal(Callback):
    """Ends training after the step in progress when a signal asks for it.

    Lightning exits with status 1 on SIGINT, and prints a traceback on SIGTERM. The epoch in
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

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Stops all processes after the same step, if any of them has received a signal."""
        number = self.received
        if trainer.world_size > 1:
            received = torch.tensor(number, device=pl_module.device)
            number = int(trainer.strategy.reduce(received, reduce_op="max"))
        if number:
            raise Stopped(number)

    on_validation_batch_end = on_train_batch_end

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Gives the signals back to their earlier handlers."""
        set_handlers(self.before)
        self.before = {}
