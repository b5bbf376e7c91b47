"""What a run says in the terminal, and what it does not say."""

import logging
import warnings
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

__all__ = ["EpochLines", "silence_noise"]

# Lightning's remarks that a user of these commands can do nothing with. All else it logs is shown.
REMARKS = (
    "💡 Tip:",
    "Seed set to",
    "[rank: ",
    "Initializing distributed",
    "-----",  # "Starting with 2 processes", between rulers
    "GPU available:",
    "TPU available:",
    "You are using a CUDA device",
    "LOCAL_RANK:",
    "`Trainer.fit` stopped: `max_epochs=",
    "Restor",
    "Loaded model weights",
)
WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # of Lightning, about its own use of torch
    r".*does not have many workers",  # of no use: the batches are slices of tensors
    r"Checkpoint directory .* exists and is not empty",  # that of the run that goes on
    r"Be aware that when using `ckpt_path`",  # the checkpoint callbacks have no part in an evaluation
    r"It is recommended to use .*sync_dist=True",  # the metrics are of all processes already
    r"`IrisClassifier.configure_optimizers` will be overridden",  # what --optimizer is for
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


class EpochLines(Callback):
    """Prints one line per epoch, above the progress bar where there is one."""

    NAMES = ("loss/train", "loss/val", "accuracy/val")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the line of the epoch before: at its end, the callbacks' turn came before its train metrics."""
        if trainer.current_epoch > self.first_epoch:
            self._print(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes where this run starts."""
        self.first_epoch = trainer.current_epoch

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the line of the last epoch."""
        if trainer.current_epoch > self.first_epoch:
            self._print(trainer, pl_module)

    def _print(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = cast("dict[str, float]", pl_module.epoch_metrics)
        if trainer.is_global_zero:
            values = "  ".join(f"{name} {metrics[name]:.4f}" for name in self.NAMES if name in metrics)
            tqdm.write(f"epoch {trainer.current_epoch - 1}  {values}")
