"""The commands `fit`, `validate` and `test`: what they print, and what they do."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer

from iris_lightning.cli.console import echo, how_to_look, silence_noise
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.errors import UserError
from iris_lightning.files import relative_path
from iris_lightning.runs.checkpoints import epochs_done, read_checkpoint, run_folder
from iris_lightning.runs.folders import RESULTS, logs_folder, remove_run, training_alone
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import add_evaluation
from iris_lightning.runs.signals import Stopped
from iris_lightning.runs.threads import threads
from iris_lightning.weights.reading import read_torch

__all__ = ["run"]


def run(command: str, args: list[str]) -> object:
    """Runs a command with the options that a user gives."""
    silence_noise()
    if command == "crossvalidate":
        # Imported here: the other commands do without polars.
        from iris_lightning.cli.crossvalidation import crossvalidate

        return crossvalidate(args)
    cli = IrisCLI(command, args)
    if cli.config.threads and cli.trainer.world_size > 1:
        expected = "expected one process, or OMP_NUM_THREADS in the environment of several"
        raise UserError(expected, "threads")
    parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    with threads(cli.config.threads, parameters * cli.datamodule.batch_size):
        if command == "fit":
            _fit(cli)
        else:
            _evaluate(cli)
    return cli


def _fit(cli: IrisCLI) -> None:
    reason = _finished(cli)
    if reason and _is_complete(cli):
        _echo(cli, f"nothing to do: {relative_path(cli.run or Path())} has {reason}")
        return
    _echo_start(cli)
    if reason:
        _echo(cli, "its results are incomplete, and are written again")
    _check_end(cli)
    try:
        with ExitStack() as alone:
            if cli.folder:
                cli.folder.claim(cli.trainer)
            if cli.folder and cli.folder.run:
                alone.enter_context(training_alone(cli.folder.run))
                _check_unchanged(cli)
            with as_user_error():
                cli.trainer.fit(
                    cli.model, cli.datamodule, ckpt_path=cli.ckpt_path, weights_only=True
                )
        if not reason and not cli.trainer.callback_metrics:
            raise UserError("no training steps were run")
    except BaseException as error:
        _clean_up(cli, error)
        raise
    _echo_result(cli)


def _echo_start(cli: IrisCLI) -> None:
    table, rows = cli.datamodule.table, cli.datamodule.rows
    if "train" not in rows:
        raise UserError(f"{table.source}: not the table that the checkpoint was trained with")
    sizes = ", ".join(f"{len(numbers)} {split}" for split, numbers in rows.items())
    plural = "s" if len(table.feature_names) > 1 else ""
    features = f"{len(table.feature_names)} feature{plural}"
    classes = f"{len(table.class_names)} classes of {table.target!r}"
    parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    where = f"{parameters} parameters on {cli.trainer.strategy.root_device}"
    if cli.trainer.world_size > 1:
        where += f", in {cli.trainer.world_size} processes that share each batch"
    _echo(
        cli, f"{table.source}: {len(table.targets)} rows ({sizes}), {features}, {classes}; {where}"
    )
    for note in table.notes:
        _echo(cli, f"{table.source}: {note}")
    if cli.run:
        done = epochs_done(cli.checkpoint)
        after = f"goes on after epoch {done - 1}" if done else "starts anew"
        _echo(cli, f"{relative_path(cli.run)} {after}")
        loop = cli.checkpoint["loops"]["fit_loop"]
        if not loop["epoch_loop.batch_progress"]["is_last_batch"]:
            _echo(cli, "it was ended within an epoch: the result may differ from that of one run")
    elif cli.source:
        _echo(cli, f"starts from the {cli.source}")


def _check_end(cli: IrisCLI) -> None:
    """Refuses a training that nothing would end."""
    endless = cli.trainer.max_epochs == -1 and cli.config.trainer.max_steps == -1
    callbacks: list[Any] = vars(cli.trainer)["callbacks"]
    if endless and not any(isinstance(item, EarlyStopping | Timer) for item in callbacks):
        expected = "expected max_steps, max_time or EarlyStopping as well"
        raise UserError(f"--trainer.max_epochs -1: would never end; {expected}")


def _check_unchanged(cli: IrisCLI) -> None:
    """Refuses to go on from a checkpoint that another process has replaced meanwhile."""
    if cli.run and cli.ckpt_path:
        latest = read_checkpoint(cli.ckpt_path)["global_step"]
        if latest != cli.checkpoint["global_step"]:
            raise UserError(
                f"{relative_path(cli.run)}: another process has trained it meanwhile; try again"
            )


def _clean_up(cli: IrisCLI, error: BaseException) -> None:
    """Removes the folder of a new run without checkpoints, or says what is kept or how to go on."""
    run = cli.folder.run if cli.folder else None
    if run is None:
        return
    last = run / "checkpoints" / "last.ckpt"
    described = (run / "config.yaml").is_file()
    if not described:
        remove_run(run)
    if isinstance(error, Stopped):
        error.remedy = "before training started"
        if described and last.is_file():
            error.remedy = (
                f"to go on: python -m iris_lightning fit --ckpt_path {relative_path(last)}"
            )
        elif described:
            error.remedy = "the run keeps no checkpoints"
    elif isinstance(error, UserError) and described and not cli.run:
        error.message += f"\nwhat was trained before is kept in {relative_path(run)}"


def _finished(cli: IrisCLI) -> str | None:
    """Returns what a run to be resumed has behind it, if it has nothing left to do."""
    if not cli.run:
        return None
    done, max_epochs = epochs_done(cli.checkpoint), cli.trainer.max_epochs or 0
    if 0 < max_epochs <= done:
        further = "raise --trainer.max_epochs to go on"
        return f"trained {done} epochs, and max_epochs is {max_epochs}; {further}"
    steps, max_steps = cli.checkpoint["global_step"], cli.trainer.max_steps
    if 0 < max_steps <= steps:
        further = "raise --trainer.max_steps to go on"
        return f"trained {steps} steps, and max_steps is {max_steps}; {further}"
    for callback in cli.trainer.early_stopping_callbacks:
        state = cli.checkpoint["callbacks"].get(callback.state_key, {})
        if state.get("wait_count", 0) >= state.get("patience", math.inf):
            return f"trained {done} epochs, after which {type(callback).__name__} ended it"
    return None


def _is_complete(cli: IrisCLI) -> bool:
    """Whether the results of the run that is resumed are those of its last epoch."""
    results = (cli.run or Path()) / RESULTS
    if not results.is_file():
        return False
    found = yaml.safe_load(results.read_text(encoding="utf-8"))
    return bool(found["steps"] == cli.checkpoint["global_step"])


def _echo_result(cli: IrisCLI) -> None:
    """Says where the run is, how good its best epoch was, and what to do next."""
    for stopping in cli.trainer.early_stopping_callbacks:
        message = stopping.stopping_reason_message
        if message:
            reason = message.removesuffix(" Signaling Trainer to stop.")
            _echo(cli, f"ended by {type(stopping).__name__}: {reason}")
    if cli.folder is None:
        _echo(cli, "nothing was kept: fast_dev_run")
        return
    run = cli.folder.run
    if run is None:  # in another process than the first
        return
    _echo(cli, f"run:    {relative_path(run)}")
    for callback in cli.trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor == "loss/val":
            _echo_best(cli, Path(callback.best_model_path))
    if isinstance(cli.trainer.logger, RunLogger):
        command, page = how_to_look(logs_folder(run))
        _echo(cli, f"curves: {command}")
        _echo(cli, f"open:   {page}")


def _echo_best(cli: IrisCLI, path: Path) -> None:
    if not path.is_file():
        return
    best = read_torch(path, "a checkpoint")  # with any network, also one that commands refuse
    figures = []
    for name in ("loss/val", "accuracy/val"):
        if name in best["metrics"]:
            figures.append(f"{name} {best['metrics'][name]:.4f}")
    _echo(cli, f"best:   epoch {best['epoch']}, {', '.join(figures)} ({relative_path(path)})")
    if not all(map(math.isfinite, best["metrics"].values())):
        diverged = "the loss is not a finite number: the training has diverged"
        _echo(cli, f"{diverged}; try a smaller learning rate")


def _evaluate(cli: IrisCLI) -> None:
    table = cli.datamodule.table
    _echo(cli, str(cli.source))
    if cli.source:
        cli.source.weights.check_finite(cli.source.path)
    if "train" not in cli.datamodule.rows:
        every = f"so all of its {len(table.targets)} rows"
        _echo(cli, f"{table.source}: not the table of the checkpoint, {every}")
    evaluate = getattr(cli.trainer, cli.command)
    with as_user_error():
        found = evaluate(
            cli.model, cli.datamodule, ckpt_path=cli.ckpt_path, weights_only=True, verbose=False
        )
    if not found or not found[0]:
        raise UserError("no rows were evaluated")
    _echo(cli, "  ".join(f"{name} {value:.4f}" for name, value in found[0].items()))
    _add_to_run(cli, found[0])


def _add_to_run(cli: IrisCLI, found: Mapping[str, float]) -> None:
    """Adds the metrics of a checkpoint to the curves of its run, if they are of a whole split."""
    path, split = cli.ckpt_path, "val" if cli.command == "validate" else "test"
    run = run_folder(path) if path and "train" in cli.datamodule.rows else None
    limited = cli.config.trainer.get(f"limit_{split}_batches") is not None
    if not path or not run or limited or not cli.trainer.is_global_zero:
        return
    if cli.config.trainer.fast_dev_run:
        return
    new = {}
    for name, value in found.items():
        if name not in cli.checkpoint["metrics"]:  # else the curve has it already
            new[name] = value
    # TensorBoard may drop points that come after one of an earlier epoch.
    if not new or (split == "val" and path.name != "last.ckpt"):
        return
    epoch = cli.checkpoint["epoch"]
    best = path.with_name("best.ckpt")
    try:
        with training_alone(
            run
        ):  # TensorBoard would not go back to the curves of a run in training
            is_best = best.is_file() and read_checkpoint(best)["epoch"] == epoch
            add_evaluation(run, new, epoch, is_best)
    except (UserError, OSError):
        unwritable = "is in use, or cannot be written to: its curves do not get these metrics"
        _echo(cli, f"{relative_path(run)} {unwritable}")


def _echo(cli: IrisCLI, line: str) -> None:
    if cli.trainer.is_global_zero:
        echo(line)
