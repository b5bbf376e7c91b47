"""What the verbs say before and after they work."""

import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from iris_lightning.checkpoints import read_checkpoint
from iris_lightning.saving import BestCheckpoint
from iris_lightning.trainer import IrisTrainer

__all__ = ["ReportingCLI"]


class ReportingCLI(LightningCLI):
    """LightningCLI whose verbs say what they work on, what came of it, and what to do next.

    Attributes:
        path: The checkpoint in use, if there is one.
        checkpoint: What it holds.
    """

    trainer: IrisTrainer
    path: Path | None
    checkpoint: dict[str, Any] | None

    def before_fit(self) -> None:
        """Says what is trained, on what."""
        table = self.datamodule.table
        shares = ", ".join(f"{len(rows)} {part}" for part, rows in self.datamodule.rows.items())
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self._say(
            f"{table.source}: {len(table.targets)} rows ({shares}), {len(table.feature_names)} features, "
            f"{len(table.class_names)} classes of {table.target!r}; "
            f"{parameters} parameters on {self.trainer.strategy.root_device}"
        )
        for note in table.notes:
            self._say(f"{table.source}: {note}")

    def after_fit(self) -> None:
        """Says where the run is, how good its best epoch was, and what to do next."""
        if self.trainer.log_dir and self.trainer.logger:
            self._say(f"run:    {os.path.relpath(self.trainer.log_dir)}")
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint) and os.path.isfile(callback.best_model_path):
                best = read_checkpoint(Path(callback.best_model_path))
                metrics = ", ".join(f"{name} {best['metrics'][name]:.4f}" for name in ("loss/val", "accuracy/val"))
                self._say(f"best:   epoch {best['epoch']}, {metrics} ({os.path.relpath(callback.best_model_path)})")
        if isinstance(self.trainer.logger, TensorBoardLogger):
            self._say(f"curves: tensorboard --logdir {os.path.relpath(self.trainer.logger.root_dir)}")

    def before_validate(self) -> None:
        """Says which checkpoint is evaluated."""
        self._say_source()
        table = self.datamodule.table
        if self.datamodule.is_another_table:
            self._say(f"{table.source}: not the table of the checkpoint, so all of its {len(table.targets)} rows")

    def after_validate(self) -> None:
        """Says how good the checkpoint is."""
        self._say("  ".join(f"{name} {value:.4f}" for name, value in self.trainer.callback_metrics.items()))

    before_test = before_validate
    after_test = after_validate

    def after_predict(self) -> None:
        """Says which network was used and what came of it."""
        self._say_source()
        self._say(self.trainer.result)

    after_export = after_predict

    def _say_source(self) -> None:
        if self.checkpoint is not None:
            self._say(f"checkpoint: {self.path} (epoch {self.checkpoint['epoch']})")
        else:
            self._say(f"weights: {self.model.weights}")

    def _say(self, text: str) -> None:
        if self.trainer.is_global_zero:
            # Where predictions go to standard output, nothing else does.
            print(text, file=sys.stderr if self._get(self.config, "output") == "-" else sys.stdout)
