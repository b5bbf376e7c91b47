"""What a run prints, and which remarks of libraries it does not."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.fabric.utilities.warnings import disable_possible_user_warnings
from tqdm import tqdm

from iris_lightning.cli.streams import discard_output
from iris_lightning.files import relative_path
from iris_lightning.runs.callbacks import EpochRecord

__all__ = ["EpochLines", "FoldProgress", "echo", "how_to_look", "silence_noise"]

# These say at level INFO what a user of the commands knows, or can do nothing about.
LOGGERS = (
    "lightning.fabric.utilities.distributed",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch.accelerators.cuda",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities.rank_zero",
)
# Warnings of the general category `UserWarning`.
WARNINGS = (
    "Checkpoint directory .* exists and is not empty",  # of a resumed run
    "`ModelCheckpoint.* could not find the monitored key",  # of a run without validation
    "Be aware that when using `ckpt_path`",  # an evaluation has none of the checkpoint callbacks
    r"`\w+.configure_optimizers` will be overridden",  # by --optimizer
    "The dirpath has changed from",  # a run found from another folder
    r"`\.fit\(ckpt_path=None\)` was called without a model",  # it was called with one
    r"\.fit\(ckpt_path=\"last\"\) is set",  # it is not
    "Glyph .* missing from font",  # in a name
    "Tight layout not applied",  # to long names
)


def silence_noise() -> None:
    """Keeps advertisements, and remarks without consequence, out of the terminal."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    disable_possible_user_warnings()
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def how_to_look(logs: Path) -> tuple[str, str]:
    """Returns the command that serves the curves of all runs in a folder, and the page to open."""
    # Smoothing would hide a run of few epochs.
    page = "http://localhost:6006/?smoothing=0#custom_scalars&_smoothingWeight=0"
    return f"tensorboard --logdir {relative_path(logs)}", page


def echo(*lines: str) -> None:
    """Prints lines, above a progress bar if there is one; goes on if nobody reads them."""
    try:
        for line in lines:
            tqdm.write(line)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


class EpochLines(EpochRecord):
    """Prints a line for each epoch that is validated."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the epoch before, whose train metrics were not known at its end."""
        epoch = trainer.current_epoch - 1
        metrics = self.metrics_at(trainer, epoch)
        is_validated = (epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        # Metrics may also be those of a resumed run, or of a callback that tries learning rates.
        is_new = epoch > self.resumed.get("epoch", -1)
        if not (trainer.is_global_zero and metrics and is_validated and is_new):
            return
        line = f"epoch {epoch}"
        for name in ("loss/train", "loss/val", "accuracy/val"):
            if name in metrics:
                line += f"  {name} {metrics[name]:.4f}"
        echo(line)

    on_train_end = on_train_epoch_start


class FoldProgress(L.Callback):
    """Shows how much of the training of all folds is done.

    Args:
        folds: Number of folds, of all stacks.
        bar: Whether there is a bar.
    """

    def __init__(self, folds: int, bar: bool) -> None:
        shape = "{l_bar}{bar}| {n:.0f}/{total:.0f} folds, {remaining} left"
        self.bar = tqdm(total=folds, disable=not bar, bar_format=shape, leave=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Advances by an epoch of the folds of a stack."""
        folds = len(cast("Any", pl_module).members)
        self.bar.update(folds / (trainer.max_epochs or 1))
