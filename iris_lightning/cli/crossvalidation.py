"""The command `crossvalidate`: what it says, does, and says then."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import instantiate_class

from iris_lightning.cli.console import FoldProgress, how_to_look, say
from iris_lightning.cli.lightning_cli import IrisCLI
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.crossvalidation.figures import FIGURES
from iris_lightning.crossvalidation.pictures import draw_folds
from iris_lightning.crossvalidation.result import CrossValidation, Part
from iris_lightning.crossvalidation.saving import open_run, read_parts, save_part, write_results
from iris_lightning.crossvalidation.training import TRAINER, largest_stack, train_folds
from iris_lightning.errors import UserError
from iris_lightning.files import shown
from iris_lightning.plots import can_draw, own_style
from iris_lightning.runs.callbacks import StopOnSignal
from iris_lightning.runs.folders import logs_of
from iris_lightning.runs.saving import environment_of
from iris_lightning.runs.signals import Stopped
from iris_lightning.runs.tabs import picture
from iris_lightning.tables.held_out import HeldOutRows

__all__ = ["FoldsCLI", "crossvalidate"]


class FoldsCLI(IrisCLI):
    """The options of `crossvalidate`, and the stacks of folds that are trained with them."""

    progress: FoldProgress | None = None

    def trainer_parts(self) -> dict[str, Any]:
        """Returns what makes a Trainer keep and log nothing: the results are those of all stacks."""
        return {**TRAINER, "callbacks": [StopOnSignal(), *([self.progress] if self.progress else [])]}

    def train(self, result: CrossValidation) -> Iterator[Part]:
        """Trains the folds that a cross-validation lacks, and yields what each stack of them came to."""
        optimizer, lr_scheduler = (self._make(self.config_init.get(name)) for name in ("optimizer", "lr_scheduler"))
        how = optimizer, lr_scheduler, self.config.max_parallel
        with as_user_error(self.typed):
            yield from train_folds(result, self.datamodule, self.model, self.instantiate_trainer, *how)

    def _make(self, init: Any) -> Callable[[Any], Any] | None:
        return partial(instantiate_class, init=init) if init else None


def crossvalidate(args: list[str]) -> CrossValidation:
    """Trains the folds, in stacks, and writes what their held-out rows say."""
    cli = FoldsCLI("crossvalidate", args)
    config, table = cli.config, cli.datamodule.table
    result = CrossValidation(table, config.folds, config.repeats, config.fold_seed, config.seed_everything)
    rows = HeldOutRows(table, cli.datamodule.hparams)
    if config.trainer.max_epochs < 1:
        raise UserError(f"--trainer.max_epochs {config.trainer.max_epochs}: expected at least 1")
    device = cli.trainer.strategy.root_device
    most = largest_stack(config.max_parallel, cli.model, cli.datamodule)
    parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    folds = config.folds * config.repeats
    what = f"{folds} networks of {parameters} parameters on {device}, {min(most, folds)} at once"
    times = f", {config.repeats} times" if config.repeats > 1 else ""
    say(f"{table.source}: {len(table.targets)} rows in {config.folds} folds{times}; {what}")
    say(*(f"{table.source}: {note}" for note in table.notes))
    environment = environment_of(device, 1, int(config.seed_everything), table.source, table.sha256)
    try:
        with open_run(Path(config.trainer.default_root_dir or "."), cli.plain_options(), environment) as run:
            _train(cli, run, result)
            if config.baselines:
                say("training scikit-learn's classifiers on the same folds ...")
                result.add_baselines()
            write_results(run, result, rows, _draw(result) if config.figures else [])
    except Stopped as stopped:
        done = int(result.done.sum())
        kept = f"goes on: {done} of {folds} folds are done" if done else "starts anew: no stack of folds was done"
        raise Stopped(stopped.args[0], None, f"the same command {kept}") from None
    _say_result(result, run)
    return result


def _draw(result: CrossValidation) -> list[Any]:
    """Draws for TensorBoard; the results do not depend on it."""
    try:
        if not can_draw():
            raise ImportError("matplotlib is not installed")
        with own_style():
            drawn = draw_folds(result.summary(), result.fold_figures())
            return [picture(f"pictures/{name}", figure) for name, figure in drawn]
    except Exception as error:
        say(f"no pictures: {error}")
        return []


def _train(cli: FoldsCLI, run: Path, result: CrossValidation) -> None:
    for part in read_parts(run):
        result.add(part)
    folds, done = result.done.size, int(result.done.sum())
    if done:
        say(f"{shown(run)} goes on: {done} of {folds} folds are done")
    cli.progress = FoldProgress(folds, cli.config.trainer.enable_progress_bar is not False and sys.stdout.isatty())
    cli.progress.advance(done, quietly=True)
    with contextlib.closing(cli.progress.bar):
        for part in cli.train(result):
            save_part(run, part)
            result.add(part)


def _say_result(result: CrossValidation, run: Path) -> None:
    summary = result.summary()
    names = {"accuracy": "accuracy", "log_loss": "log-loss", "f1": "F1"}
    say("", f"{'':30}{''.join(f'{names[name]:20}' for name in FIGURES)}".rstrip())
    for classifier, figures in {"iris_lightning": summary, **summary.get("baselines", {})}.items():
        texts = [_with_error(figures[name]) if name in figures else "-" for name in FIGURES]
        say(f"{classifier:30}{''.join(f'{text:20}' for text in texts)}".rstrip())
        if figures.get("difference"):
            texts = [_with_error(figures["difference"][name], "+") if name in figures else "-" for name in FIGURES]
            say(f"{'  ours minus theirs':30}{''.join(f'{text:20}' for text in texts)}".rstrip())
    of = "standard error over the repeats" if len(result.done) > 1 else "standard error over the folds"
    say(f"±: {of}{'; of a difference, for other rows (corrected resampled t-test)' if result.baselines else ''}")
    say("", _most_confused(summary["classes"], summary["confusion"]))
    say(f"run:         {shown(run)}")
    say(f"predictions: {shown(run / 'predictions.csv')}")
    command, page = how_to_look(logs_of(run))
    say(f"curves:      {command}", f"open:        {page}")


def _with_error(figure: dict[str, float], sign: str = "") -> str:
    return f"{figure['mean']:{sign}.4f} ± {figure['standard_error']:.4f}"


def _most_confused(classes: list[str], confusion: list[list[int]]) -> str:
    pairs = [(count, i, j) for i, row in enumerate(confusion) for j, count in enumerate(row) if i != j]
    count, true, predicted = max(pairs, key=lambda pair: pair[0])
    if not count:
        return "no two classes were confused"
    taken = f"{classes[true]} taken for {classes[predicted]}"
    return f"most confused: {taken}, {count} of {sum(confusion[true])} times"
