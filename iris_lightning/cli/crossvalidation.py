"""The command `crossvalidate`."""

from iris_lightning.cli.console import Progress, echo, echo_next_steps
from iris_lightning.cli.lightning_cli import IrisCLI, as_list
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.ensemble.results import CrossValidation
from iris_lightning.ensemble.saving import open_run, write_curves, write_networks, write_results
from iris_lightning.ensemble.training import cross_validate
from iris_lightning.files import relative_path
from iris_lightning.runs.callbacks import EpochRecord, StopOnSignal
from iris_lightning.runs.saving import describe_run
from iris_lightning.runs.signals import Stopped


def crossvalidate(args: list[str]) -> CrossValidation:
    """Trains many folds at once, and writes the predictions and metrics of held-out rows."""
    cli = IrisCLI("crossvalidate", args)
    config = cli.config
    table = cli.datamodule.table
    networks = f"{config.repeats} repeats x {config.folds} folds"
    if config.members > 1:
        networks += f" x {config.members} members"
    networks += f" x {cli.num_parameters} parameters"
    device = cli.trainer.strategy.root_device
    echo(f"{table.source}: {len(table.targets)} rows; {networks} on {device}", *table.describe())
    if config.baselines:
        echo("then scikit-learn's classifiers on the same folds")
    record = EpochRecord()
    progress = Progress(record, config.trainer.enable_progress_bar, prints_lines=False)
    trainer_options = dict(cli.config_init.trainer)
    trainer_options["callbacks"] = [
        *as_list(trainer_options["callbacks"]),
        StopOnSignal(),
        record,
        progress,
    ]
    trainer_options["enable_progress_bar"] = False  # `Progress` shows one bar over all epochs
    with open_run(cli.root, config.name) as run:
        try:
            with as_user_error():
                result = cross_validate(
                    cli.model,
                    cli.datamodule,
                    config.folds,
                    config.repeats,
                    config.fold_seed,
                    config.seed_everything,
                    config.members,
                    config.choose,
                    config.baselines,
                    **trainer_options,
                )
        except Stopped as stopped:
            stopped.hint = "nothing was saved"
            raise
        echo("", str(result))
        if config.keep:
            write_networks(run, result, cli.model, cli.datamodule)
        write_results(run, result)  # from now on, the run is kept
        describe_run(run, cli.plain_options(), cli.trainer, table)
        write_curves(run, result, config.figures)
    echo(f"run:    {relative_path(run)}", f"rows:   {relative_path(run / 'predictions.csv')}")
    echo_next_steps(run)
    return result
