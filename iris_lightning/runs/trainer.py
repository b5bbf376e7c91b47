"""The callbacks, loggers and plugins of a run's Trainer."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder, ProgressBar

from iris_lightning.runs.callbacks import SeedEpochs, StopOnSignal
from iris_lightning.runs.checkpoint_io import AtomicCheckpointIO
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import TensorBoardReport
from iris_lightning.runs.saving import RunFolder, checkpoint_callbacks


def run_parts(
    options: Namespace,
    progress: list[Callback],
    root: Path,
    folder: RunFolder | None,
    epochs_done: int,
    figures: bool,
) -> dict[str, Any]:
    """Returns what the Trainer of a run has in place of a user's options.

    Args:
        options: Those options.
        progress: Callbacks that show the progress.
        root: Where `lightning_logs/` is.
        folder: Keeps the folder of the run; there is none in a `fast_dev_run`.
        epochs_done: What a run to be resumed has behind it.
        figures: Whether plots are drawn.
    """
    callbacks = []
    own_bar = False
    for callback in _as_list(options.callbacks):
        own_bar = own_bar or isinstance(callback, ProgressBar)
        finder = isinstance(callback, BatchSizeFinder | LearningRateFinder)
        if not (epochs_done and finder):  # a resumed run has the result already
            callbacks.append(callback)
    callbacks += [
        *progress,
        SeedEpochs(),
        StopOnSignal(),
        TensorBoardReport(figures),
    ]
    checkpoint_io = AtomicCheckpointIO()
    loggers = []
    if not isinstance(options.logger, bool):
        loggers += _as_list(options.logger)
    if options.logger is not False:
        # A killed run may have points of the epoch that is repeated, and lack some of the one
        # before.
        logger = RunLogger(root, max(0, epochs_done - 1))
        loggers.insert(0, logger)
        checkpoint_io.before_write = logger.flush
    if options.enable_checkpointing is not False and folder:
        callbacks += checkpoint_callbacks()
    if folder:
        callbacks.append(folder)
    return {
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": [*_as_list(options.plugins), checkpoint_io],
        "enable_progress_bar": own_bar,
    }


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    return [value]
