"""TensorBoard's curves against the epoch."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["plot_against_epoch"]


def plot_against_epoch(loggers: Iterable[Any]) -> None:
    """Makes the epoch the x axis of TensorBoard's curves, where Lightning has the step.

    Other loggers keep both. To log a metric called `step` would change theirs as well, and the names of checkpoints.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger) and not isinstance(logger.log_metrics, partial):
            vars(logger)["log_metrics"] = partial(_log_metrics, logger.log_metrics)


def _log_metrics(log_metrics: Any, metrics: Mapping[str, float], step: int | None = None) -> None:
    values = dict(metrics)
    epoch = values.pop("epoch", step)
    log_metrics(values, None if epoch is None else int(epoch))
