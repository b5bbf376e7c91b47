"""The commands `fit`, `validate` and `test`."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager

from iris_lightning.cli.console import echo, echo_next_steps, format_metrics
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.errors import UserError
from iris_lightning.files import relative_path
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import add_test_metrics, best_checkpoint
from iris_lightning.runs.threads import threads
from iris_lightning.table import majority_share


def fit(args: list[str]) -> IrisCLI:
    """Trains a classifier, or resumes its training."""
    cli = IrisCLI("fit", args)
    _echo_start(cli)
    with _threads(cli), cli.folder.training(cli.trainer), as_user_error():
        path = cli.source and cli.source.path
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=path, weights_only=True)
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
    return threads(cli.num_parameters * cli.datamodule.batch_size)


def _echo_start(cli: IrisCLI) -> None:
    table = cli.datamodule.table
    rows = cli.datamodule.rows
    cli.datamodule.tensors("train")  # raises an error if a resumed run had another table
    sizes = ", ".join(f"{len(numbers)} {split}" for split, numbers in rows.items())
    network = f"{cli.num_parameters} parameters on {cli.trainer.strategy.root_device}"
    if cli.trainer.world_size > 1:
        network += f", in {cli.trainer.world_size} processes that share each batch"
    if cli.num_members > 1:  # train and val are the same rows; each network leaves out a fold
        sizes = f"{len(rows['train'])} train and val, {len(rows['test'])} test"
        network = f"{cli.num_members} networks of {network}"
    echo(f"{table.source}: {len(table.targets)} rows ({sizes}); {network}")
    if cli.run:
        done = f"{cli.checkpoint['epoch'] + 1} epochs; max_epochs is {cli.trainer.max_epochs}"
        echo(f"resuming {relative_path(cli.run)} after {done}")
        loop = cli.checkpoint["loops"]["fit_loop"]
        if not loop["epoch_loop.batch_progress"]["is_last_batch"]:
            echo("the run ended within an epoch, so it may now differ from an uninterrupted one")
        return
    echo(*table.describe())
    num_repeated = table.count_repeated_rows(rows["train"], rows["test"])
    if num_repeated:
        repeated = f"{num_repeated} of {len(rows['test'])} test rows equal a train row"
        echo(f"{table.source}: {repeated}, so the results of test may be too good")


def _echo_result(cli: IrisCLI) -> None:
    """Prints the folder of the run, its best epoch, and what to do next."""
    run = cli.folder.run
    if run is None:  # in a process other than the main one
        return
    for stopping in cli.trainer.early_stopping_callbacks:
        if stopping.stopping_reason_message:
            echo(f"stopped early: {stopping.stopping_reason_message.partition('. ')[0]}")
    echo(f"run:    {relative_path(run)}")
    best = best_checkpoint(cli.trainer)
    if best:
        echo(f"best:   epoch {best['epoch']}  {_format_result(cli, best['metrics'], 'val')}")
        if not math.isfinite(best["metrics"]["loss/val"]):
            echo("the training has diverged; try a smaller learning rate")
    if isinstance(cli.trainer.logger, RunLogger):
        echo_next_steps(run)
    if cli.datamodule.hparams["path"] is not None and not cli.config.config:
        echo("a better classifier for most tables: fit with --config accurate")


def _evaluate(cli: IrisCLI, split: str) -> IrisCLI:
    source = cli.source
    table = cli.datamodule.table
    rows = cli.datamodule.rows
    assert source is not None  # `parse_arguments` has read it
    echo(str(source))
    source.weights.check_finite(source.path)
    if not len(rows[split]):
        raise UserError(
            "the training used every row: its data.split has no test split; try crossvalidate"
        )
    if "train" in rows:  # the table of the training
        part = f"the {split} split of the training"
        if split == "val" and cli.num_members > 1:
            part = "each predicted by the network that has not seen it"
        echo(f"{table.source}: {len(rows[split])} rows, {part}")
    else:
        all_rows = f"not the checkpoint's table, so all {len(rows[split])} rows"
        echo(f"{table.source}: {all_rows}", *table.notes)
    evaluate = getattr(cli.trainer, cli.command)
    with _threads(cli), as_user_error():
        (metrics,) = evaluate(
            cli.model, cli.datamodule, ckpt_path=source.path, weights_only=True, verbose=False
        )
    echo(_format_result(cli, metrics, split))
    if split == "test" and "train" in rows:
        try:
            add_test_metrics(source.path, cli.checkpoint["epoch"], metrics)
        except (UserError, OSError) as error:
            echo(f"these metrics could not be added to TensorBoard: {error}")
    return cli


def _format_result(cli: IrisCLI, metrics: Mapping[str, float], split: str) -> str:
    """Formats the metrics of a split, and the accuracy of always predicting its largest class."""
    names = [name for name in metrics if name.endswith(f"/{split}")]
    names.sort(key=lambda name: not name.startswith("loss/"))  # the loss first
    _, targets = cli.datamodule.tensors(split)
    return f"{format_metrics(metrics, names)}  (majority class {majority_share(targets):.4f})"
