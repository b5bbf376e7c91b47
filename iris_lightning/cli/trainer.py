"""The Trainer of a command: its options, and what goes into it beside a user's own."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser

from iris_lightning.cli.console import EpochLines
from iris_lightning.errors import UserError
from iris_lightning.runs.callbacks import MaxSteps, SeedEpochs, StopOnSignal
from iris_lightning.runs.checkpoint_io import AtomicCheckpointIO
from iris_lightning.runs.fast import LeanPrecision, LeanStrategy, NoProfiler
from iris_lightning.runs.folders import logs_of
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import TensorBoardReport
from iris_lightning.runs.saving import BestCheckpoint, LastCheckpoint, RunFolder

__all__ = ["TRAINER_DEFAULTS", "add_trainer", "fit_parts", "resolve_limits", "trainer_parts"]

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}
LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
HIDDEN = (  # without effect on this model and data, or nothing that works beside them
    *("barebones", "limit_predict_batches", "model_registry"),
    *("reload_dataloaders_every_n_epochs", "sync_batchnorm", "use_distributed_sampler"),
)
ACCELERATORS = (CUDAAccelerator, MPSAccelerator, XLAAccelerator)  # one of which Lightning prefers to the CPU
AT_LEAST = {
    -1: ("max_epochs", "max_steps", "num_sanity_val_steps"),
    0: ("min_epochs", "min_steps", "log_every_n_steps", "gradient_clip_val"),
    1: ("accumulate_grad_batches", "check_val_every_n_epoch"),
}


def add_trainer(parser: LightningArgumentParser) -> None:
    """Adds the options of the Trainer."""
    parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, sub_configs=True, skip={*LIMITS, *HIDDEN})
    for name in LIMITS:  # Lightning's annotation has float before int, so that 1 would mean all batches
        parser.add_argument(f"--trainer.{name}", type=int | float | None, default=None)
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})


def resolve_limits(options: Namespace, given: Namespace, resumed: bool) -> None:
    """Settles how long to train, and refuses numbers that Lightning ignores, or fails with in words of its own.

    The default has no part in what was asked for, nor have the limits of a run that is resumed.
    """
    trainer, typed = options.trainer, given.get("trainer") or Namespace()
    lengths = [typed.get(name) for name in ("max_steps", "max_time")]
    if "max_epochs" not in typed and any(length not in (None, -1) for length in lengths):
        trainer.max_epochs = -1
    if resumed and "max_epochs" in typed:
        trainer.max_steps, trainer.max_time = typed.get("max_steps", -1), typed.get("max_time")
    for bound, name in ((bound, name) for bound, names in AT_LEAST.items() for name in names):
        value = trainer.get(name)
        if (value is None and name == "max_epochs") or (value is not None and value < bound):
            found = "null" if value is None else value
            raise UserError(f"--trainer.{name} {found}: expected a number of at least {bound}")
    if trainer.val_check_interval == 0:
        raise UserError("--trainer.val_check_interval 0: expected a number above 0")
    if trainer.gradient_clip_algorithm and trainer.gradient_clip_val is None:
        raise UserError("--trainer.gradient_clip_algorithm: has no effect without --trainer.gradient_clip_val")
    for unit in ("epochs", "steps"):
        fewest, most = trainer.get(f"min_{unit}") or 0, trainer.get(f"max_{unit}")
        if -1 != most < fewest:
            raise UserError(f"--trainer.min_{unit} {fewest}: more than --trainer.max_{unit}, which is {most}")


def trainer_parts(options: Namespace) -> dict[str, Any]:
    """Returns a user's own callbacks and loggers as lists, and whether there is a progress bar."""
    parts: dict[str, Any] = {"callbacks": _as_list(options.callbacks)}
    parts["logger"] = [] if isinstance(options.logger, bool) else _as_list(options.logger)
    if options.enable_progress_bar is None and not any(isinstance(item, ProgressBar) for item in parts["callbacks"]):
        parts["enable_progress_bar"] = sys.stdout.isatty()
    return parts


def fit_parts(
    parts: dict[str, Any], options: Namespace, run: Path | None, epochs_done: int, plain_options: dict[str, Any]
) -> RunFolder | None:
    """Adds to these parts what a `fit` has beside them, for a new run or one to be resumed, and returns its folder."""
    root = logs_of(run).parent if run else Path(options.default_root_dir or ".")
    own = [item for item in parts["callbacks"] if not (run and isinstance(item, BatchSizeFinder | LearningRateFinder))]
    _check_names(own)  # without those of which a resumed run has the result
    callbacks = [*own, EpochLines(), SeedEpochs(), StopOnSignal(), TensorBoardReport(plain_options["figures"])]
    if run and options.max_steps != -1:
        callbacks.append(MaxSteps(options.max_steps))
        parts["max_steps"] = -1
    if options.enable_checkpointing is not False and not options.fast_dev_run:
        interval = options.val_check_interval  # 1 is a batch, 1.0 an epoch
        within_epochs = interval is not None and not (isinstance(interval, float) and interval == 1)
        best = BestCheckpoint(within_epochs)
        callbacks += [best, LastCheckpoint(best)]
    folder = None if options.fast_dev_run else RunFolder(root, run, plain_options)
    parts["callbacks"] = [*([folder] if folder else []), *callbacks]  # the folder before what is logged
    checkpoint_io = AtomicCheckpointIO()
    if options.logger is not False:
        # A killed run may have points of the epoch to be repeated, and lack some of the one before it.
        curves = RunLogger(root, max(0, epochs_done - 1))
        parts["logger"].insert(0, curves)
        checkpoint_io.before = curves.flush
    parts["plugins"] = [*_as_list(options.plugins), checkpoint_io]
    _spare_time(parts, options)
    return folder


def _spare_time(parts: dict[str, Any], options: Namespace) -> None:
    """Adds what spares time in place of Lightning's defaults, but not of what a user has chosen."""
    parts["profiler"] = options.profiler or NoProfiler()
    one_device = str(options.devices) == "1" and options.num_nodes == 1 and options.strategy == "auto"
    if one_device and options.precision is None and not options.plugins:
        parts["plugins"].append(LeanPrecision())
        no_other = options.accelerator == "auto" and not any(kind.is_available() for kind in ACCELERATORS)
        if no_other or options.accelerator == "cpu":
            parts.update(accelerator="cpu", strategy=LeanStrategy("cpu"))


def _check_names(callbacks: list[Any]) -> None:
    """Refuses a user's own checkpoints whose files would take the place of the run's."""
    for item in callbacks:
        if isinstance(item, ModelCheckpoint) and item.dirpath is None:
            name = "last" if item.save_last else item.filename
            if name in ("best", "last", "whole_epoch"):
                taken = f"--trainer.callbacks: the run itself keeps {name}.ckpt"
                raise UserError(f"{taken}; expected ModelCheckpoint with another filename or dirpath")


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
