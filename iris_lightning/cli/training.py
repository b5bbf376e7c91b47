"""The commands `fit`, `validate` and `test`: what they say, do, and say then."""

import math
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger

from iris_lightning.cli.console import silence_noise
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.errors import UserError
from iris_lightning.runs.checkpoints import epochs_done, read_checkpoint
from iris_lightning.runs.saving import BestCheckpoint
from iris_lightning.runs.stopping import Stopped

__all__ = ["run"]


def run(command: str, args: list[str]) -> IrisCLI:
    """Runs a command with the options that a user gives."""
    silence_noise()
    try:
        cli = IrisCLI(command, args)
        (_fit if command == "fit" else _evaluate)(cli)
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
    except Stopped as stop:
        go_on = f"python -m iris_lightning fit --ckpt_path {os.path.relpath(stop.path)}" if stop.path else ""
        hint = f"; to go on: {go_on}" if go_on else ""
        print(f"stopped by {signal.Signals(stop.signal).name}{hint}", file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
    return cli


def _fit(cli: IrisCLI) -> None:
    checkpoint = cli.source.checkpoint if cli.source else None
    done = epochs_done(checkpoint) if checkpoint else 0
    if cli.source and checkpoint and (reason := _finished(cli, done, checkpoint)):
        _say(cli, f"nothing to do: {cli.source.path} has finished {reason}")
        return
    table, rows = cli.datamodule.table, cli.datamodule.rows
    if "train" not in rows:
        raise UserError(f"{table.source}: not the table that {cli.source} was trained with; start a new run")
    sizes = ", ".join(f"{len(numbers)} {split}" for split, numbers in rows.items())
    parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    _say(
        cli,
        f"{table.source}: {len(table.targets)} rows ({sizes}), {len(table.feature_names)} features, "
        f"{len(table.class_names)} classes of {table.target!r}; "
        f"{parameters} parameters on {cli.trainer.strategy.root_device}",
        *(f"{table.source}: {note}" for note in table.notes),
    )
    if _never_ends(cli):
        raise UserError(
            "--trainer.max_epochs -1: nothing else ends the run; expected max_steps, max_time or EarlyStopping"
        )
    with _without_new_folder(cli, done):
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=_checkpoint_path(cli), weights_only=True)
        if not cli.trainer.global_step:
            raise UserError(f"{cli.typed('trainer')}not a single step was trained")
    _say_result(cli)


def _evaluate(cli: IrisCLI) -> None:
    table = cli.datamodule.table
    _say(cli, str(cli.source))
    if "train" not in cli.datamodule.rows:
        _say(cli, f"{table.source}: not the table of the checkpoint, so all of its {len(table.targets)} rows")
    evaluate = getattr(cli.trainer, cli.command)
    with as_user_error(cli.typed("trainer")):
        found = evaluate(cli.model, cli.datamodule, ckpt_path=_checkpoint_path(cli), weights_only=True, verbose=False)
    if not found or not found[0]:
        raise UserError(f"{cli.typed('trainer')}not a single row was evaluated")
    _say(cli, "  ".join(f"{name} {value:.4f}" for name, value in found[0].items()))


def _say(cli: IrisCLI, *lines: str) -> None:
    if cli.trainer.is_global_zero:
        print(*lines, sep="\n")


def _checkpoint_path(cli: IrisCLI) -> Path | None:
    return cli.source.path if cli.source and cli.source.checkpoint else None


def _finished(cli: IrisCLI, done: int, checkpoint: dict[str, Any]) -> str | None:
    """Returns why a run has nothing left to do, if it has."""
    epochs = cli.trainer.max_epochs or 0
    if 0 < epochs <= done:
        return f"{done} of {epochs} epochs; raise --trainer.max_epochs to go on"
    for callback in cli.trainer.early_stopping_callbacks:
        state = checkpoint["callbacks"].get(callback.state_key, {})
        if state.get("stopped_epoch") or state.get("wait_count", 0) >= state.get("patience", math.inf):
            return f"{done} epochs, after which {type(callback).__name__} ended it"
    return None


def _never_ends(cli: IrisCLI) -> bool:
    trainer = cli.trainer
    endless = trainer.max_epochs == -1 and trainer.max_steps == -1 and cli.config.trainer.max_time is None
    return endless and not trainer.early_stopping_callbacks  # `fast_dev_run` sets both


@contextmanager
def _without_new_folder(cli: IrisCLI, done: int) -> Iterator[None]:
    """Removes the folder of a run that failed before its first epoch was done."""
    logger, trainer = cli.trainer.logger, cli.trainer
    with as_user_error("--trainer.logger: "):
        new = isinstance(logger, TensorBoardLogger) and not os.path.exists(logger.log_dir)
    try:
        with as_user_error(
            cli.typed("trainer"), lambda: trainer.current_epoch > done
        ):  # then the options have proven good
            yield
    except UserError:
        if new and trainer.current_epoch <= done and trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
            shutil.rmtree(logger.log_dir, ignore_errors=True)
            with suppress(OSError):  # it holds other runs
                os.rmdir(logger.root_dir)
        raise


def _say_result(cli: IrisCLI) -> None:
    """Says where the run is, how good its best epoch was, and what to do next."""
    trainer = cli.trainer
    if trainer.log_dir and trainer.logger:
        _say(cli, f"run:    {os.path.relpath(trainer.log_dir)}")
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint) and os.path.isfile(callback.best_model_path):
            best = read_checkpoint(Path(callback.best_model_path))
            metrics = ", ".join(f"{name} {best['metrics'][name]:.4f}" for name in ("loss/val", "accuracy/val"))
            _say(cli, f"best:   epoch {best['epoch']}, {metrics} ({os.path.relpath(callback.best_model_path)})")
    if isinstance(trainer.logger, TensorBoardLogger):
        _say(cli, f"curves: tensorboard --logdir {os.path.relpath(trainer.logger.root_dir)}")
