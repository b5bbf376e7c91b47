"""The commands `fit`, `validate` and `test`: what they say, do, and say then."""

import math
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer

from iris_lightning.cli.console import how_to_look, say, silence_noise
from iris_lightning.cli.help import help_text
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.errors import UserError
from iris_lightning.files import shown
from iris_lightning.plots import can_draw
from iris_lightning.runs.checkpoints import epochs_done, folder_of, read_checkpoint
from iris_lightning.runs.fast import threads
from iris_lightning.runs.folders import logs_of, remove_run, training_alone
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import add_evaluation
from iris_lightning.runs.saving import BestCheckpoint
from iris_lightning.runs.signals import SIGNALS, Stopped, set_handlers, stop

__all__ = ["run"]


def run(command: str, args: list[str]) -> object:
    """Runs a command with the options that a user gives."""
    silence_noise()
    if {"-h", "--help"} & {*args}:
        print(help_text(command))
        raise SystemExit(0)
    cli, before = None, set_handlers(dict.fromkeys(SIGNALS, stop))
    try:
        if command == "crossvalidate":
            from iris_lightning.cli.crossvalidation import crossvalidate  # here: the others do without polars

            return crossvalidate(args)
        cli = IrisCLI(command, args)
        if cli.config.threads and cli.trainer.world_size > 1:
            shared = "expected one process, or OMP_NUM_THREADS in the environment of several"
            raise UserError(shared, "threads")
        parameters = sum(parameter.numel() for parameter in cli.model.parameters())
        with threads(cli.config.threads, parameters * cli.datamodule.batch_size):
            (_fit if command == "fit" else _evaluate)(cli)
        return cli
    except Stopped as stopped:
        if int(os.environ.get("LOCAL_RANK", 0)) > 0:  # launched by the first process of this machine, which says it
            raise SystemExit(0) from None
        number, path, *said = stopped.args
        further = f"; {said[0]}" if said else _how_to_go_on(cli, command, path)
        print(f"stopped by {signal.Signals(number).name}{further}", file=sys.stderr)
        raise SystemExit(128 + number) from None
    finally:
        set_handlers(before)


def _how_to_go_on(cli: IrisCLI | None, command: str, path: Path | None) -> str:
    if path := path or (cli.ckpt_path if cli and cli.run else None):
        return f"; to go on: python -m iris_lightning fit --ckpt_path {shown(path)}"
    if command != "fit":
        return "; no run was begun" if command == "crossvalidate" else ""
    run = cli.folder.run if cli and cli.folder else None
    if run and (run / "checkpoints" / "last.ckpt").is_file():
        return f"; its checkpoints are in {shown(run)}"
    return "; the run keeps no checkpoints" if run and run.is_dir() else "; no run was begun"


def _fit(cli: IrisCLI) -> None:
    trainer, table, rows = cli.trainer, cli.datamodule.table, cli.datamodule.rows
    if reason := _finished(cli):
        _say(cli, f"nothing to do: {shown(cli.run or Path())} has {reason}")
        return
    if "train" not in rows:
        raise UserError(f"{table.source}: not the table that the checkpoint was trained with")
    sizes = ", ".join(f"{len(numbers)} {split}" for split, numbers in rows.items())
    parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    features = f"{len(table.feature_names)} feature{'s' if len(table.feature_names) > 1 else ''}"
    what = f"{features}, {len(table.class_names)} classes of {table.target!r}"
    where = f"{parameters} parameters on {trainer.strategy.root_device}"
    if trainer.world_size > 1:
        where += f", in {trainer.world_size} processes that share each batch"
    _say(cli, f"{table.source}: {len(table.targets)} rows ({sizes}), {what}; {where}")
    _say(cli, *(f"{table.source}: {note}" for note in table.notes))
    if cli.run:
        within = ", the last whole one" if cli.steps_done > cli.checkpoint["global_step"] else ""
        after = f"goes on after epoch {cli.epochs_done - 1}{within}" if cli.epochs_done else "starts anew"
        _say(cli, f"{shown(cli.run)} {after}")
    elif cli.source:
        _say(cli, f"starts from the {cli.source}")
    limits = cli.config.trainer
    endless = trainer.max_epochs == -1 and limits.max_steps == -1
    if endless and not any(isinstance(item, EarlyStopping | Timer) for item in vars(trainer)["callbacks"]):
        raise UserError(f"{cli.typed}would never end; expected max_steps, max_time or EarlyStopping as well")
    alone = ExitStack()
    try:
        if cli.folder:
            cli.folder.claim(trainer)
        if cli.folder and cli.folder.run and trainer.is_global_zero:
            alone.enter_context(training_alone(cli.folder.run))
            if cli.ckpt_path and read_checkpoint(cli.ckpt_path)["global_step"] != cli.checkpoint["global_step"]:
                raise UserError(f"{shown(cli.folder.run)}: another process has trained it meanwhile; try again")
        with as_user_error(cli.typed):
            trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.ckpt_path, weights_only=True)
        if not trainer.callback_metrics:
            raise UserError(f"{cli.typed}not a single step was trained")
    except BaseException as error:
        alone.close()
        claimed = cli.folder.run if cli.folder and not cli.run else None
        if claimed and (isinstance(error, UserError) or not (claimed / "config.yaml").is_file()):
            kept = not _remove_if_nothing_was_learned(claimed, trainer)
            if kept and isinstance(error, UserError):
                kept_in = f"what was trained before is kept in {shown(claimed)}"
                raise UserError(f"{error.message}\n{kept_in}", error.parameter, error.remedy) from error
        raise
    alone.close()
    _say_result(cli)


def _remove_if_nothing_was_learned(run: Path, trainer: L.Trainer) -> bool:
    last, epochs = run / "checkpoints" / "last.ckpt", trainer.current_epoch
    if trainer.strategy.launcher is not None and last.is_file():  # launched processes count their own epochs
        epochs = epochs_done(read_checkpoint(last))
    if epochs == 0:
        remove_run(run)
    return epochs == 0


def _evaluate(cli: IrisCLI) -> None:
    table = cli.datamodule.table
    if cli.source and not all(tensor.isfinite().all() for tensor in cli.source.weights.state.values()):
        raise UserError(f"{cli.source.path}: the network's weights are not finite: its training has diverged")
    _say(cli, str(cli.source))
    if "train" not in cli.datamodule.rows:
        _say(cli, f"{table.source}: not the table of the checkpoint, so all of its {len(table.targets)} rows")
    elif not cli.checkpoint:
        split = cli.datamodule.rows[{"validate": "val"}.get(cli.command, cli.command)]
        unknown = "the file does not say which rows it was trained on"
        _say(cli, f"{table.source}: {len(split)} of {len(table.targets)} rows, by --data.split_seed; {unknown}")
    evaluate = getattr(cli.trainer, cli.command)
    with as_user_error(cli.typed):
        found = evaluate(cli.model, cli.datamodule, ckpt_path=cli.ckpt_path, weights_only=True, verbose=False)
    if not found or not found[0]:
        raise UserError(f"{cli.typed}not a single row was evaluated")
    _say(cli, "  ".join(f"{name} {value:.4f}" for name, value in found[0].items()))
    _add_to_run(cli, found[0])


def _add_to_run(cli: IrisCLI, found: Mapping[str, float]) -> None:
    """Adds the metrics of a checkpoint to the curves of its run, if they are of a whole split of its table."""
    path, split = cli.ckpt_path, "val" if cli.command == "validate" else "test"
    run = folder_of(path) if path and "train" in cli.datamodule.rows else None
    limit = cli.config.trainer[f"limit_{split}_batches"]
    whole = limit is None or (limit == 1 and isinstance(limit, float))
    if not (path and run and whole and cli.trainer.is_global_zero) or cli.config.trainer.fast_dev_run:
        return
    # What the curve has already at this epoch; and TensorBoard may drop points that come after one of an earlier epoch.
    new = {name: value for name, value in found.items() if name not in cli.checkpoint["metrics"]}
    if new and (split == "test" or path.name == "last.ckpt"):
        try:
            with training_alone(run):  # TensorBoard would not go back to the curves of a run that is being trained
                best = path.with_name("best.ckpt")
                is_best = best.is_file() and read_checkpoint(best)["epoch"] == cli.checkpoint["epoch"]
                add_evaluation(run, new, cli.checkpoint["epoch"], is_best)
        except (UserError, OSError):
            _say(cli, f"{shown(run)} is in use, or cannot be written to: its curves do not get these figures")


def _say(cli: IrisCLI, *lines: str) -> None:
    if cli.trainer.is_global_zero:
        say(*lines)


def _finished(cli: IrisCLI) -> str | None:
    """Returns what a run to be resumed has behind it, if it has nothing left to do."""
    done, epochs = cli.epochs_done, cli.trainer.max_epochs or 0
    if 0 < epochs <= done:
        return f"trained {done} epochs, and max_epochs is {epochs}; raise --trainer.max_epochs to go on"
    steps, max_steps = cli.steps_done, cli.config.trainer.max_steps
    if 0 < max_steps <= steps:
        return f"trained {steps} steps, and max_steps is {max_steps}; raise --trainer.max_steps to go on"
    for callback in cli.trainer.early_stopping_callbacks:
        state = cli.checkpoint.get("callbacks", {}).get(callback.state_key, {})
        if state.get("stopped_epoch") or state.get("wait_count", 0) >= state.get("patience", math.inf):
            return f"trained {done} epochs, after which {type(callback).__name__} ended it"
    return None


def _say_result(cli: IrisCLI) -> None:
    """Says where the run is, how good its best epoch was, and what to do next."""
    trainer = cli.trainer
    for stopping in trainer.early_stopping_callbacks:
        if stopping.stopping_reason_message:
            reason = stopping.stopping_reason_message.removesuffix(" Signaling Trainer to stop.")
            _say(cli, f"ended by {type(stopping).__name__}: {reason}")
    steps, limits = trainer.global_step, cli.config.trainer
    if trainer.current_epoch == trainer.max_epochs and steps < limits.max_steps and not limits.fast_dev_run:
        _say(cli, f"ended by max_epochs {trainer.max_epochs} after {steps} steps; max_steps is {limits.max_steps}")
    if cli.folder is None:
        _say(cli, "nothing was kept: fast_dev_run")
        return
    run = cli.folder.run
    if run is None:  # in another process than the first
        return
    _say(cli, f"run:    {shown(run)}")
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint) and os.path.isfile(callback.best_model_path):
            best = read_checkpoint(Path(callback.best_model_path))
            metrics = ", ".join(f"{name} {best['metrics'][name]:.4f}" for name in ("loss/val", "accuracy/val"))
            _say(cli, f"best:   epoch {best['epoch']}, {metrics} ({shown(Path(callback.best_model_path))})")
            if not all(map(math.isfinite, best["metrics"].values())):
                _say(cli, "the loss is not a finite number: the training has diverged; try a smaller learning rate")
    if isinstance(trainer.logger, RunLogger):
        command, page = how_to_look(logs_of(run))
        _say(cli, f"curves: {command}", f"open:   {page}")
        if cli.config.figures and not can_draw():
            _say(cli, "no pictures: matplotlib is not installed")
