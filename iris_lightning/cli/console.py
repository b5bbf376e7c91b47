"""What a run says in the terminal, and what it does not say."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import lightning as L
from tqdm import tqdm

from iris_lightning.files import shown
from iris_lightning.runs.callbacks import EpochRecord

__all__ = ["EpochLines", "FoldProgress", "how_to_look", "say", "silence_noise"]

# Lightning's remarks that a user of these commands can do nothing with. All else it logs is shown.
REMARKS = (
    *("💡 Tip:", "Seed set to", "GPU available:", "TPU available:", "You are using a CUDA device", "LOCAL_RANK:"),
    *("Using bfloat16 Automatic Mixed", "Using 16bit Automatic Mixed"),
    *("[rank: ", "Initializing distributed", "-----"),  # "Starting with 2 processes", between rulers
    *("`Trainer.fit` stopped:", "Running in `fast_dev_run`", "Restor", "Loaded model weights", "`Trainer(limit_"),
    *("`Trainer(overfit_batches", "`Trainer(val_check_interval", "`weights_only` was not set"),
)
WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # of Lightning, about its own use of torch
    r".*does not have many workers",  # none are needed
    r"Checkpoint directory .* exists and is not empty",  # that of the run that goes on
    r"Be aware that when using `ckpt_path`",  # the checkpoint callbacks have no part in an evaluation
    r"`LeanClassifier.configure_optimizers` will be overridden",  # what --optimizer is for
    r"The number of training batches .* is smaller than the logging interval",  # metrics are logged once an epoch
    r"The dirpath has changed from",  # of a user's own ModelCheckpoint, in a run's folder that is found again
    r"`\.fit\(ckpt_path=None\)` was called without a model",  # it was called with one
    r"\.fit\(ckpt_path=\"last\"\) is set",  # it is not
    r"Glyph .* missing from font",  # of a name in a picture
    r"Tight layout not applied",  # of long ones
)


def _is_worth_showing(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(REMARKS)


def silence_noise() -> None:
    """Keeps advertisements and remarks without consequence out of the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_is_worth_showing)
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def how_to_look(logs: Path) -> tuple[str, str]:
    """Returns the command that serves the curves of all runs in a folder, and the page to open then."""
    # Smoothing would hide a run of few epochs.
    page = "http://localhost:6006/?smoothing=0#custom_scalars&_smoothingWeight=0"
    return f"tensorboard --logdir {shown(logs)}", page


def say(*lines: str) -> None:
    """Prints lines, above a progress bar where there is one. If nobody reads on, as behind `head`, the work goes on."""
    try:
        for line in lines:
            tqdm.write(line)
        sys.stdout.flush()
    except BrokenPipeError:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


class EpochLines(EpochRecord):
    """Prints a line for each epoch, of those at which a validation is due (`check_val_every_n_epoch`)."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the line of the epoch before: at its end, callbacks are called before its train metrics are known."""
        epoch = trainer.current_epoch - 1
        metrics = self.metrics_of(trainer, epoch)
        # Before the first epoch, there may be metrics of a resumed run, or of a callback that tries learning rates.
        due = (epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        if trainer.is_global_zero and metrics and due and epoch > self.resumed.get("epoch", -1):
            names = [name for name in ("loss/train", "loss/val", "accuracy/val") if name in metrics]
            say(f"epoch {epoch}  {'  '.join(f'{name} {metrics[name]:.4f}' for name in names)}")

    on_train_end = on_train_epoch_start


class FoldProgress(L.Callback):
    """Shows how much of the training of all folds is done: a bar in a terminal, else a line at each tenth.

    Args:
        folds: Number of folds, of all stacks.
        bar: Whether there is a bar.
    """

    def __init__(self, folds: int, bar: bool) -> None:
        shape = "{l_bar}{bar}| {n:.0f}/{total:.0f} folds, {remaining} left"
        self.bar = tqdm(total=folds, disable=not bar, bar_format=shape, leave=False)
        self.folds = folds
        self.done = 0.0

    def advance(self, folds: float, quietly: bool = False) -> None:
        """Notes that so many more folds, or parts of some, are done."""
        self.bar.update(folds)
        before, self.done = self.done, self.done + folds
        tenths = int(10 * self.done / self.folds + 1e-6)
        if self.bar.disable and tenths > int(10 * before / self.folds + 1e-6) and not quietly:
            say(f"{10 * tenths} % of the training is done")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Advances by an epoch of the folds of a stack."""
        folds = len(cast("Any", pl_module).network.vectors)
        self.advance(folds / (trainer.max_epochs or 1))
