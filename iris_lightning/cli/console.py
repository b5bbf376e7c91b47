"""What a run prints, and which remarks of libraries it does not."""

import logging
import math
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.warnings import disable_possible_user_warnings
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from tqdm import tqdm

from iris_lightning.cli.streams import discard_output
from iris_lightning.errors import join_names
from iris_lightning.files import relative_path
from iris_lightning.runs.callbacks import EpochRecord
from iris_lightning.table import Table

EPOCH_LINES = 20
LINE = ("loss/train", "loss/val", "accuracy/val")
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


@rank_zero_only
def echo(*lines: str) -> None:
    """Prints lines, above a progress bar if there is one; goes on if nobody reads them."""
    try:
        for line in lines:
            tqdm.write(line)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def echo_table(table: Table) -> None:
    """Prints which columns of a table are used, and what else a user should know of it."""
    share = majority_share(table.targets)
    echo(
        f"{len(table.feature_names)} features: {join_names(table.feature_names)}",
        f"{len(table.class_names)} classes in {table.target!r} ({table.target_reason}): "
        f"{join_names(table.class_names)}; the largest has {share:.1%} of the rows",
    )
    for note in table.notes:
        echo(f"{table.source}: {note}")


def echo_next_steps(logs: Path) -> None:
    """Prints how to look at the curves of all runs in a folder."""
    # Smoothing would hide a run of few epochs.
    page = "http://localhost:6006/?smoothing=0#custom_scalars&_smoothingWeight=0"
    echo(f"curves: tensorboard --logdir {relative_path(logs)}", f"open:   {page}")


def format_metrics(metrics: Mapping[str, float], names: Iterable[str]) -> str:
    """Returns those of the metrics that have these names."""
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)


def majority_share(targets: Tensor) -> float:
    """Returns the accuracy of always predicting the largest class."""
    return int(targets.bincount().max()) / len(targets)


class EpochLines(EpochRecord):
    """Prints a line for each of the first epochs, and later where `loss/val` improves."""

    def __init__(self) -> None:
        super().__init__()
        self.best = math.inf
        self.printed = -1  # the last epoch that was

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes which epochs a resumed run has behind it."""
        super().on_train_start(trainer, pl_module)
        self.best = self.resumed.get("metrics", {}).get("loss/val", math.inf)
        self.printed = trainer.current_epoch - 1

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports on the epoch before, whose train metrics were not known at its end."""
        self._report(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports on the last epoch."""
        self._report(trainer, is_last=True)

    def _report(self, trainer: L.Trainer, is_last: bool = False) -> None:
        epoch = trainer.current_epoch - 1
        metrics = self.metrics_at(trainer, epoch)
        loss = metrics.get("loss/val", math.inf)
        is_next = epoch < EPOCH_LINES or is_last
        if loss < self.best:
            self.best = loss
            is_next = is_next or epoch > 1.5 * self.printed
        if is_next and epoch > self.printed:
            self.printed = epoch
            echo(f"epoch {epoch}  {format_metrics(metrics, LINE)}")


class EpochBar(L.Callback):
    """Shows a progress bar over all epochs.

    Args:
        is_shown: Whether it is shown at all.
    """

    def __init__(self, is_shown: bool) -> None:
        self.is_shown = is_shown
        self.best = math.inf
        self.bar = tqdm(disable=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows the bar."""
        total = trainer.max_epochs
        self.bar = tqdm(
            total=None if total == -1 else total,
            initial=trainer.current_epoch,
            disable=not self.is_shown or trainer.progress_bar_callback is not None,
            bar_format="epoch {n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}",
            leave=False,
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Advances the bar."""
        if "loss/val" in trainer.callback_metrics:
            loss = float(trainer.callback_metrics["loss/val"])
            self.best = min(loss, self.best)
            self.bar.set_postfix_str(f"loss/val {loss:.4f}, best {self.best:.4f}", refresh=False)
        self.bar.update()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Removes the bar."""
        self.bar.close()
