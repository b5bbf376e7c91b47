"""Printing during a run, and silencing messages of libraries."""

import logging
import math
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.warnings import disable_possible_user_warnings
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from iris_lightning.cli.streams import discard_output
from iris_lightning.files import relative_path
from iris_lightning.runs.callbacks import EpochRecord
from iris_lightning.runs.folders import logs_folder
from iris_lightning.table import TableWarning

EPOCH_LINES = 20
LINE_METRICS = ("loss/train", "loss/val", "accuracy/val")
# Loggers whose INFO messages say what users know already, or cannot change.
LOGGERS = (
    "lightning.fabric.utilities",
    "lightning.pytorch.accelerators.cuda",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities",
)
# Warnings to ignore, by message, since their category is `UserWarning`.
WARNINGS = (
    "Checkpoint directory .* exists and is not empty",  # in a resumed run
    "`ModelCheckpoint.* could not find the monitored key",  # in a run without validation
    "Be aware that when using `ckpt_path`",  # evaluation needs no checkpoint callbacks
    "The dirpath has changed from",  # in a checkpoint saved by a script
    r"`\.fit\(ckpt_path=None\)` was called without a model",  # not true
    r"\.fit\(ckpt_path=\"last\"\) is set",  # not true
    "The ``compute`` method of metric .* was called before",  # in a process without rows
    "Glyph .* missing from font",  # in the name of a class
)


def silence_noise() -> None:
    """Silences advertisements, and messages that do not matter to users of the commands."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    disable_possible_user_warnings()
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
    warnings.filterwarnings("ignore", category=TableWarning)  # already printed
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)


@rank_zero_only
def echo(*lines: str) -> None:
    """Prints lines, above the progress bar if there is one. A closed pipe does not end the run."""
    try:
        tqdm.write("\n".join(lines))
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def echo_next_steps(run: Path) -> None:
    """Prints how to view the curves of a run, beside those of all other runs."""
    # Smoothing would flatten the curves of a run with few epochs.
    page = "http://localhost:6006/?smoothing=0#custom_scalars&_smoothingWeight=0"
    folder = shlex.quote(relative_path(logs_folder(run)))
    echo(f"curves: tensorboard --logdir {folder}", f"open:   {page}")


def format_metrics(metrics: Mapping[str, float], names: Iterable[str]) -> str:
    """Formats the metrics with these names, leaving out names without a metric."""
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)


class Progress(L.Callback):
    """Shows a progress bar over all epochs, in a terminal, and prints lines about them.

    It prints the first epochs, then some of those that improve `loss/val`, fewer and fewer, and
    always the last epoch.

    Args:
        record: Knows the metrics of each epoch.
        shows_bar: Whether to show the bar.
        prints_lines: Whether to print the lines.
    """

    def __init__(self, record: EpochRecord, shows_bar: bool, prints_lines: bool = True) -> None:
        self.record = record
        self.shows_bar = shows_bar
        self.prints_lines = prints_lines
        self.bar = tqdm(disable=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows the bar, and notes which epochs a resumed run has behind it."""
        self.best = math.inf  # loss/val
        self.last_printed = trainer.current_epoch - 1
        if self.shows_bar and trainer.is_global_zero:
            total = trainer.max_epochs
            if total == -1:
                total = None
            self.bar = tqdm(
                total=total,
                initial=trainer.current_epoch,
                disable=None,  # so that it is shown in a terminal only
                bar_format="epoch {n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}",
                leave=False,
                file=sys.stdout,
            )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports on the previous epoch, whose train metrics were not known at its end."""
        self._report(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports on the last epoch."""
        self._report(trainer, is_last=True)

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Removes the bar."""
        self.bar.close()

    def _report(self, trainer: L.Trainer, is_last: bool = False) -> None:
        epoch = trainer.current_epoch - 1
        if epoch <= self.last_printed:
            return
        metrics = self.record.metrics_at(trainer, epoch)
        loss = metrics.get("loss/val", math.inf)
        improves = loss < self.best
        self.best = min(self.best, loss)
        if loss < math.inf:
            self.bar.set_postfix_str(f"loss/val {loss:.4f}, best {self.best:.4f}", refresh=False)
        self.bar.update()
        is_notable = improves and epoch > 1.5 * self.last_printed  # at most 15 up to epoch 10,000
        is_listed = epoch < EPOCH_LINES or is_notable or is_last
        if self.prints_lines and is_listed:
            self.last_printed = epoch
            echo(f"epoch {epoch}  {format_metrics(metrics, LINE_METRICS)}")
