"""The metrics of an epoch, and their curves."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

__all__ = ["EpochMetrics", "kahan_sum", "plot_against_epoch"]


class EpochMetrics(Metric):
    """Loss, accuracy and macro F1 of an epoch, from sums over its batches and over all processes.

    `loss` is the mean over the rows, `accuracy` the correct predictions over all rows, and `macro_f1` the mean over the
    classes that occur of `2 correct / (true + predicted)`, which a frequent class cannot dominate. The last two are
    torchmetrics' `MulticlassAccuracy(average="micro")` and `MulticlassF1Score(average="macro")`, from one confusion
    matrix for both.
    """

    full_state_update = False
    total_loss: Tensor
    excess: Tensor
    confusion: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("total_loss", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("excess", torch.tensor(0.0), dist_reduce_fx="sum")  # by which rounding has made it too large
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch: its mean loss, logits of shape `(rows, num_classes)`, and int64 targets of shape `(rows,)`."""
        if not len(targets):  # this process has no row of the batch, and no loss
            return
        # Not in place: a state that `reset` made in inference mode could not be changed outside of it.
        self.total_loss, self.excess = kahan_sum(self.total_loss, self.excess, loss * len(targets))
        self.count(logits, targets)

    def count(self, logits: Tensor, targets: Tensor) -> None:
        """Adds the predictions of one or more batches."""
        predictions = logits.max(dim=1).indices  # those of `argmax`, found three times as fast
        matrix = multiclass_confusion_matrix(predictions, targets, self.num_classes, validate_args=False)
        self.confusion = self.confusion + matrix

    def compute(self) -> dict[str, Tensor]:
        """Returns `loss`, `accuracy` and `macro_f1` of all batches since the last `reset`."""
        correct = self.confusion.diagonal()
        occurrences = self.confusion.sum(dim=0) + self.confusion.sum(dim=1)
        f1 = 2 * correct / occurrences.clamp(min=1)
        rows = self.confusion.sum()
        return {
            "loss": self.total_loss / rows,
            "accuracy": correct.sum() / rows,
            "macro_f1": f1[occurrences > 0].mean(),
        }


def kahan_sum(total: Tensor, excess: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Adds a value to a total that is too large by `excess`; returns both anew.

    A float32 sum of millions of rows takes no further ones, and not all devices have float64 (Kahan, 1965).
    """
    added = value - excess
    new = total + added
    return new, (new - total) - added


def plot_against_epoch(trainer: Any) -> None:
    """Makes the epoch the x axis of TensorBoard's curves, where Lightning has the step; other loggers keep both.

    Learning rates have it where they are logged once an epoch. Metrics of a user's own, whose names do not end in a
    split, keep the step.
    """
    # To log a metric called `step`, as Lightning proposes, would change these as well, and the names of checkpoints.
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            before: Any = logger.log_metrics
            own = before.args[0] if isinstance(before, partial) else before  # of an earlier Trainer
            vars(logger)["log_metrics"] = partial(_log_metrics, own, trainer)


def _log_metrics(log_metrics: Any, trainer: Any, metrics: Mapping[str, float], step: int | None = None) -> None:
    progress = trainer.fit_loop.epoch_progress.current
    # `LearningRateMonitor` does not say the epoch, which begins then if it follows a scheduler.
    begins = progress.ready > progress.started and trainer.lr_scheduler_configs
    epoch = metrics.get("epoch", progress.ready - 1 if begins else None)
    rates = {name for name in metrics if name == "lr" or name.startswith("lr-")}
    own = {
        name: value for name, value in metrics.items() if name.endswith(("/train", "/val", "/test")) or name in rates
    }
    others = {name: value for name, value in metrics.items() if name != "epoch" and name not in own}
    for values, x in ((own, step if epoch is None else int(epoch)), (others, step)):
        if values:
            log_metrics(values, x)
