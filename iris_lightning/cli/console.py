"""What a run says in the terminal, and what it does not say."""

import logging
import os
import sys
import warnings

import lightning as L
from tqdm import tqdm

from iris_lightning.runs.callbacks import EpochRecord

__all__ = ["EpochLines", "say", "silence_noise"]

# Lightning's remarks that a user of these commands can do nothing with. All else it logs is shown.
REMARKS = (
    *("💡 Tip:", "Seed set to", "GPU available:", "TPU available:", "You are using a CUDA device", "LOCAL_RANK:"),
    *("[rank: ", "Initializing distributed", "-----"),  # "Starting with 2 processes", between rulers
    *("`Trainer.fit` stopped:", "Running in `fast_dev_run`", "Restor", "Loaded model weights", "`Trainer(limit_"),
    *("`Trainer(overfit_batches", "`Trainer(val_check_interval", "`weights_only` was not set"),
)
WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # of Lightning, about its own use of torch
    r".*does not have many workers",  # none are needed
    r"Checkpoint directory .* exists and is not empty",  # that of the run that goes on
    r"Be aware that when using `ckpt_path`",  # the checkpoint callbacks have no part in an evaluation
    r"`IrisClassifier.configure_optimizers` will be overridden",  # what --optimizer is for
    r"The number of training batches .* is smaller than the logging interval",  # metrics are logged once an epoch
    r"The dirpath has changed from",  # of a user's own ModelCheckpoint, in a run's folder that is found again
    r"`\.fit\(ckpt_path=None\)` was called without a model",  # it was called with one
    r"\.fit\(ckpt_path=\"last\"\) is set",  # it is not
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
    """Prints one line per epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the line of the epoch before: at its end, callbacks are called before its train metrics are known."""
        epoch = trainer.current_epoch - 1
        metrics = self.metrics_of(trainer, epoch)
        # Before the first epoch, there may be metrics of a resumed run, or of a callback that tries learning rates.
        if trainer.is_global_zero and metrics and epoch > self.resumed.get("epoch", -1):
            names = [name for name in ("loss/train", "loss/val", "accuracy/val") if name in metrics]
            say(f"epoch {epoch}  {'  '.join(f'{name} {metrics[name]:.4f}' for name in names)}")

    on_train_end = on_train_epoch_start
