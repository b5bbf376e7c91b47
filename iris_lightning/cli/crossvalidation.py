"""The command `crossvalidate`."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iris_lightning.cli.console import FoldProgress, echo, echo_next_steps, echo_table
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.ensemble.baselines import score_baselines
from iris_lightning.ensemble.results import CrossValidation, metric_names
from iris_lightning.ensemble.saving import open_run, write_curves, write_results
from iris_lightning.ensemble.training import TRAINER, train_folds
from iris_lightning.files import relative_path
from iris_lightning.plots import can_draw
from iris_lightning.runs.callbacks import StopOnSignal
from iris_lightning.runs.folders import logs_folder
from iris_lightning.runs.saving import describe_environment, describe_run
from iris_lightning.tables.held_out import HeldOutRows


class FoldsCLI(IrisCLI):
    """The options of `crossvalidate`, and a Trainer for each stack of folds."""

    progress: FoldProgress | None = None

    def trainer_parts(self) -> dict[str, Any]:
        """Returns what makes a Trainer keep nothing: the results are those of all stacks."""
        callbacks: list[Any] = [StopOnSignal()]
        if self.progress is not None:
            callbacks.append(self.progress)
        return {**TRAINER, "callbacks": callbacks}


def crossvalidate(args: list[str]) -> CrossValidation:
    """Trains the folds, in stacks, and writes what their held-out rows say."""
    cli = FoldsCLI("crossvalidate", args)
    config, table = cli.config, cli.datamodule.table
    seed = config.seed_everything
    result = CrossValidation(table, config.folds, config.repeats, config.fold_seed, seed)
    rows = HeldOutRows(table, cli.datamodule.hparams)
    _echo_start(cli, result)
    device = cli.trainer.strategy.root_device
    environment = describe_environment(device, 1, seed, table.source, table.sha256)
    with open_run(cli.root, config.name) as run:
        _train(cli, result)
        if config.baselines:
            echo("training scikit-learn's classifiers on the same folds ...")
            result.baselines = score_baselines(table, result.assigned, seed)
        write_results(run, result, rows)
        describe_run(run, cli.plain_options(), environment)
        write_curves(run, result, config.figures and can_draw())
    _echo_result(result, run)
    return result


def _echo_start(cli: FoldsCLI, result: CrossValidation) -> None:
    networks = f"{result.repeats} x {result.folds} networks of {cli.num_parameters} parameters"
    device = cli.trainer.strategy.root_device
    echo(f"{result.table.source}: {len(result.table.targets)} rows; {networks} on {device}")
    echo_table(result.table)


def _train(cli: FoldsCLI, result: CrossValidation) -> None:
    shows_bar = cli.config.trainer.enable_progress_bar is not False and sys.stdout.isatty()
    cli.progress = FoldProgress(result.folds * result.repeats, shows_bar)
    with contextlib.closing(cli.progress.bar), as_user_error():
        train_folds(
            result, cli.model, cli.datamodule, cli.instantiate_trainer, cli.config.max_parallel
        )


def _echo_result(result: CrossValidation, run: Path) -> None:
    summary = result.summary()
    names = metric_names(summary)
    echo("", _row("", names), _metrics_row("iris_lightning", summary, names))
    for name, baseline in summary.get("baselines", {}).items():
        echo(_metrics_row(name, baseline, names))
        if baseline["difference"]:
            echo(_metrics_row("  ours minus theirs", baseline["difference"], names, "+"))
    over = "repeats" if result.repeats > 1 else "folds"
    meaning = f"±: standard error over the {over}"
    if result.baselines:
        meaning += "; of a difference, for other rows (corrected resampled t-test)"
    echo(meaning, "", f"run:    {relative_path(run)}")
    echo(f"rows:   {relative_path(run / 'predictions.csv')}")
    echo_next_steps(logs_folder(run))


def _row(name: str, cells: list[str]) -> str:
    columns = "".join(f"{cell:20}" for cell in cells)
    return f"{name:30}{columns}".rstrip()


def _metrics_row(name: str, metrics: Mapping[str, Any], names: list[str], sign: str = "") -> str:
    cells = []
    for metric in names:
        cell = "-"
        if metric in metrics:
            mean, error = metrics[metric]["mean"], metrics[metric]["standard_error"]
            cell = f"{mean:{sign}.4f} ± {error:.4f}"
        cells.append(cell)
    return _row(name, cells)
