"""The commands `fit`, `validate` and `test`."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from iris_lightning.cli.console import (
    echo,
    echo_next_steps,
    format_metrics,
)
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.errors import UserError
from iris_lightning.files import relative_path
from iris_lightning.runs.checkpoints import epochs_done
from iris_lightning.runs.folders import logs_folder
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import add_evaluation, best_checkpoint
from iris_lightning.runs.threads import threads
from iris_lightning.table import majority_share


def fit(args: list[str]) -> IrisCLI:
    """Trains a classifier, or resumes its training."""
    cli = IrisCLI("fit", args)
    _echo_start(cli)
    folder = nullcontext() if cli.folder is None else cli.folder.training(cli.trainer)
    with _threads(cli), folder, as_user_error():
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.ckpt_path, weights_only=True)
        if not cli.trainer.callback_metrics and not cli.run:
            raise UserError("no training steps were run")
    _echo_result(cli)
    return cli


def validate(args: list[str]) -> IrisCLI:
    """Evaluates a checkpoint on the validation split."""
    return _evaluate(IrisCLI("validate", args), "val")


def test(args: list[str]) -> IrisCLI:
    """Evaluates a checkpoint on the test split."""
    return _evaluate(IrisCLI("test", args), "test")


def _threads(cli: IrisCLI) -> AbstractContextManager[None]:
    return threads(
        cli.config.threads, cli.num_parameters * cli.num_members * cli.datamodule.batch_size
    )


def _echo_start(cli: IrisCLI) -> None:
    table, rows = cli.datamodule.table, cli.datamodule.rows
    if "train" not in rows:
        raise UserError(f"{table.source}: not the table that the checkpoint was trained with")
    sizes = ", ".join(f"{len(numbers)} {split}" for split, numbers in rows.items())
    if cli.num_members > 1:  # both splits have the same rows: one fold per network
        sizes = f"{len(rows['train'])} train and val, {len(rows['test'])} test"
    where = str(cli.trainer.strategy.root_device)
    if cli.trainer.world_size > 1:
        where += f", in {cli.trainer.world_size} processes that share each batch"
    network = f"{cli.num_parameters} parameters on {where}"
    if cli.num_members > 1:
        network = f"{cli.num_members} networks of {network}"
    echo(f"{table.source}: {len(table.targets)} rows ({sizes}); {network}")
    if cli.run:
        echo(f"resuming {relative_path(cli.run)} after {epochs_done(cli.checkpoint)} epochs")
        loop = cli.checkpoint["loops"]["fit_loop"]
        if not loop["epoch_loop.batch_progress"]["is_last_batch"]:
            echo("it was stopped within an epoch: an uninterrupted run may give other results")
        return
    echo(*table.describe())
    num_repeated = cli.datamodule.count_repeated_rows()
    if num_repeated:
        echo(f"{num_repeated} of {len(rows['test'])} test rows equal a train row")
    if cli.source:
        echo(f"starting from {cli.source}")


def _echo_result(cli: IrisCLI) -> None:
    """Prints the folder of the run, its best epoch, and what to do next."""
    for stopping in cli.trainer.early_stopping_callbacks:
        message = stopping.stopping_reason_message
        if message:
            echo(f"stopped by {type(stopping).__name__}: {message}")
    if cli.run and cli.trainer.global_step == cli.checkpoint["global_step"]:
        ended = f"the run ended after {epochs_done(cli.checkpoint)} epochs"
        echo(f"nothing to do: {ended}; to train longer, raise --trainer.max_epochs")
    run = cli.folder.run if cli.folder else None
    if run is None:
        echo("nothing was saved, because of fast_dev_run")
        return
    echo(f"run:    {relative_path(run)}")
    best = best_checkpoint(cli.trainer)
    if best:
        echo(f"best:   epoch {best['epoch']}  {_format_result(cli, best['metrics'], 'val')}")
        if not all(map(math.isfinite, best["metrics"].values())):
            diverged = "the loss is not a finite number: the training has diverged"
            echo(f"{diverged}; try a smaller learning rate")
    if cli.datamodule.hparams["path"] is not None and not cli.config.config:
        echo("a better classifier for most tables: fit with --config accurate")
    if isinstance(cli.trainer.logger, RunLogger):
        echo_next_steps(logs_folder(run))


def _evaluate(cli: IrisCLI, split: str) -> IrisCLI:
    table = cli.datamodule.table
    on_own_table = "train" in cli.datamodule.rows
    echo(str(cli.source))
    if cli.source:
        cli.source.weights.check_finite(cli.source.path)
    num_rows = len(cli.datamodule.rows[split])
    if not num_rows:
        raise UserError("the training used every row: its data.split has no test split")
    if on_own_table:
        echo(f"{table.source}: {num_rows} rows, the {split} split of the training")
    else:
        echo(f"{table.source}: not the checkpoint's table, so all {num_rows} rows", *table.notes)
    evaluate = getattr(cli.trainer, cli.command)
    with _threads(cli), as_user_error():
        found = evaluate(
            cli.model, cli.datamodule, ckpt_path=cli.ckpt_path, weights_only=True, verbose=False
        )
    if not found or not found[0]:
        raise UserError("no rows were evaluated")
    echo(_format_result(cli, found[0], split))
    is_whole = on_own_table and cli.config.trainer[f"limit_{split}_batches"] is None
    if cli.ckpt_path and is_whole:
        try:
            add_evaluation(cli.ckpt_path, cli.checkpoint, found[0])
        except (UserError, OSError) as error:
            echo(f"these metrics could not be added to the curves of the run: {error}")
    return cli


def _format_result(cli: IrisCLI, metrics: Mapping[str, float], split: str) -> str:
    """Formats the metrics of a split, and the accuracy of always predicting its largest class."""
    names = [name for name in metrics if name.endswith(f"/{split}")]
    names.sort(key=lambda name: not name.startswith("loss/"))
    _, targets = cli.datamodule.tensors(split)
    return f"{format_metrics(metrics, names)}  (majority class {majority_share(targets):.4f})"
