"""The callbacks, loggers and plugins of the Trainer in `fit`."""

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder

from iris_lightning.runs.callbacks import SeedEpochs, StopOnSignal
from iris_lightning.runs.checkpoint_io import AtomicCheckpointIO
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import TensorBoardReport
from iris_lightning.runs.saving import RunFolder, checkpoint_callbacks


def run_parts(
    options: Namespace,
    progress: list[Callback],
    folder: RunFolder,
    epochs_done: int,
    figures: bool,
) -> dict[str, Any]:
    """Adds this project's callbacks, logger and plugin to the user's options of a Trainer.

    Args:
        options: The user's options.
        progress: Callbacks that print the progress.
        folder: Manages the folder of the run.
        epochs_done: Number of epochs that a resumed run has finished; 0 for a new run.
        figures: Whether to add plots to TensorBoard.

    Returns:
        Arguments of the Trainer that replace the options of the same names.
    """
    callbacks = []
    for callback in as_list(options.callbacks):
        finder = isinstance(callback, BatchSizeFinder | LearningRateFinder)
        if not (epochs_done and finder):  # a resumed run already has its result
            callbacks.append(callback)
    callbacks += [
        *progress,
        SeedEpochs(),
        StopOnSignal(),
        TensorBoardReport(figures),
        *checkpoint_callbacks(),
        folder,
    ]
    checkpoint_io = AtomicCheckpointIO()
    loggers = []
    if not isinstance(options.logger, bool):
        loggers += as_list(options.logger)
    if options.logger is not False:
        # If the run was killed, points of the last saved epoch may be missing, and there may be
        # points of the epoch after it, which is now repeated.
        logger = RunLogger(folder.root, max(0, epochs_done - 1))
        loggers.insert(0, logger)
        checkpoint_io.before_write = logger.flush
    return {
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": [*as_list(options.plugins), checkpoint_io],
        "enable_progress_bar": False,  # `Progress` shows one bar over all epochs
    }


def as_list(value: Any) -> list[Any]:
    """Returns the items of an option that takes one or several."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    return [value]
