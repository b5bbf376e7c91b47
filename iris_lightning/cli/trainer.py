"""The Trainer of a command: what goes into it beside a user's own."""

import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
    ProgressBar,
)

from iris_lightning.cli.console import EpochLines
from iris_lightning.errors import UserError
from iris_lightning.runs.callbacks import SeedEpochs, StopOnSignal
from iris_lightning.runs.checkpoint_io import AtomicCheckpointIO
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import TensorBoardReport
from iris_lightning.runs.saving import RunFolder, checkpoint_callbacks

__all__ = ["fit_parts", "trainer_parts"]


def trainer_parts(options: Namespace) -> dict[str, Any]:
    """Returns a user's own callbacks and loggers as lists, and whether there is a progress bar."""
    callbacks = _as_list(options.get("callbacks"))
    loggers = _as_list(options.get("logger"))
    parts: dict[str, Any] = {"callbacks": callbacks, "logger": loggers}
    if isinstance(options.get("logger"), bool):
        parts["logger"] = []
    own_bar = any(isinstance(item, ProgressBar) for item in callbacks)
    if options.enable_progress_bar is None and not own_bar:
        parts["enable_progress_bar"] = sys.stdout.isatty()
    return parts


def fit_parts(
    parts: dict[str, Any],
    options: Namespace,
    run: Path | None,
    epochs_done: int,
    plain_options: dict[str, Any],
) -> RunFolder | None:
    """Adds to these parts what a `fit` has beside them, and returns its folder.

    Args:
        parts: Options of the Trainer, which are changed.
        options: Those that the user has given.
        run: The folder of a run to be resumed.
        epochs_done: What that run has behind it.
        plain_options: All options, as `config.yaml` holds them.
    """
    callbacks = []
    for item in parts["callbacks"]:
        finder = isinstance(item, BatchSizeFinder | LearningRateFinder)
        if not (run and finder):  # a resumed run has the result already
            callbacks.append(item)
    _check_names(callbacks)
    callbacks += [
        EpochLines(),
        SeedEpochs(),
        StopOnSignal(),
        TensorBoardReport(plain_options["figures"]),
    ]
    checkpoint_io = AtomicCheckpointIO()
    parts["plugins"] = [*_as_list(options.plugins), checkpoint_io]
    root = Path(options.default_root_dir or ".")
    if options.logger is not False:
        # A killed run may have points of the epoch that is repeated, and lack some of the one
        # before.
        logger = RunLogger(root, max(0, epochs_done - 1))
        parts["logger"].insert(0, logger)
        checkpoint_io.before_write = logger.flush
    if options.enable_checkpointing is not False and not options.fast_dev_run:
        callbacks += checkpoint_callbacks()
    folder = None
    if not options.fast_dev_run:
        folder = RunFolder(root, run, plain_options)
        callbacks.append(folder)
    parts["callbacks"] = callbacks
    return folder


def _check_names(callbacks: list[Any]) -> None:
    """Refuses a user's own checkpoints whose files would take the place of the run's."""
    for item in callbacks:
        if isinstance(item, ModelCheckpoint) and item.dirpath is None:
            name = "last" if item.save_last else item.filename
            if name in ("best", "last"):
                taken = f"--trainer.callbacks: the run itself keeps {name}.ckpt"
                raise UserError(f"{taken}; expected another filename or dirpath")


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    return [value]
