"""The `LightningCLI` of the commands `fit`, `validate`, `test` and `crossvalidate`."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, instantiate_class
from lightning.pytorch.plugins import DoublePrecision
from torch import nn

from iris_lightning.classifier import IrisClassifier
from iris_lightning.cli.console import Progress, silence_noise
from iris_lightning.cli.options import (
    BATCH_LIMITS,
    COMMANDS,
    GROUPS,
    TRAINER_DEFAULTS,
    known_options,
    skipped,
)
from iris_lightning.cli.parsing import as_user_error, parse
from iris_lightning.data import IrisDataModule
from iris_lightning.ensemble.classifier import EnsembleClassifier, check_trainer
from iris_lightning.ensemble.data import EnsembleDataModule
from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import option_names
from iris_lightning.runs.callbacks import EpochRecord, SeedEpochs, StopOnSignal
from iris_lightning.runs.checkpoints import Source, find_source, recorded_options, run_folder
from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.report import TensorBoardReport
from iris_lightning.runs.saving import RunFolder, checkpoint_callbacks

ENSEMBLES: dict[str, type] = {"model": EnsembleClassifier, "data": EnsembleDataModule}
EPOCHS = 5  # as in the lesson; Lightning's default would be 1000
# Options that can be changed when a run is resumed.
CHANGEABLE = ("--trainer.", "--ckpt_path", "--data.path", "--data.num_workers")


class IrisCLI(LightningCLI):
    """A `LightningCLI` whose parser has only the options of one command.

    Options recorded in a checkpoint or a resumed run are used as defaults.

    Args:
        command: The command.
        args: Its arguments.

    Attributes:
        source: The checkpoint in use, or `None`.
        checkpoint: Content of the checkpoint in use, or an empty dict.
        num_members: Size of the ensemble; 1 in `crossvalidate`, where `model` is a template.
        run: Folder of the run to resume, or `None`.
        folder: The callback that manages the run's folder, in `fit`.
    """

    datamodule: IrisDataModule
    model: IrisClassifier
    trainer: L.Trainer
    folder: RunFolder
    num_members: int

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        self.trains = command in ("fit", "crossvalidate")
        self.source: Source | None = None
        self.checkpoint: dict[str, Any] = {}
        self.run: Path | None = None
        silence_noise()
        with as_user_error():
            super().__init__(
                IrisClassifier,
                IrisDataModule,
                args=args,
                run=False,
                auto_configure_optimizers=self.trains,
                parser_kwargs={
                    "prog": f"iris_lightning {command}",
                    "exit_on_error": False,
                    "allow_abbrev": False,
                },
                save_config_callback=None,  # `RunFolder` writes it
                load_from_checkpoint_support=False,  # it would add `_instantiator` to checkpoints
            )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options that do not belong to a class."""
        for function in COMMANDS[self.command]:
            parser.add_function_arguments(function)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of the model, the data and the Trainer."""
        for group, kind in GROUPS.items():
            skip = skipped(self.command, group).union(BATCH_LIMITS)
            parser.add_class_arguments(kind, group, skip=skip, instantiate=False, sub_configs=True)
        if self.command == "fit":
            for name in BATCH_LIMITS:
                # Lightning's annotation may have float first: 1 would become 1.0, all batches.
                purpose = "Number or fraction of batches."
                parser.add_argument(f"--trainer.{name}", type=int | float | None, help=purpose)
        for name in TRAINER_DEFAULTS.keys() - skipped(self.command, "trainer"):
            parser.set_defaults({f"trainer.{name}": TRAINER_DEFAULTS[name]})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments, with the options of the checkpoint or the run as defaults."""
        self.config = config = parse(parser, args, known_options())
        resumes = self.command == "fit" and config.ckpt_path is not None
        if resumes or not self.trains:
            source = find_source(config.ckpt_path, root=self.root)
            self.source = source
            self.checkpoint = source.checkpoint
            recorded = {"data": recorded_options(source.checkpoint, IrisDataModule)}
            if resumes:
                recorded = self._resumed_options(source, args)
            self.config = parse(parser, args, known_options(), recorded)
        if self.trains:
            self._complete_training(args)
        else:
            self.config.seed_everything = False  # no random numbers are drawn

    def _complete_training(self, args: list[str]) -> None:
        """Sets the default number of epochs, and refuses options of Adam if it is replaced."""
        trainer = self.config.trainer
        # `crossvalidate` has neither `max_time` nor `max_steps`.
        limits = (trainer.max_epochs, trainer.get("max_time"), trainer.get("max_steps", -1))
        if limits == (None, None, -1):
            trainer.max_epochs = EPOCHS
        for arg in args:
            if self.config.optimizer and arg.startswith(("--model.lr", "--model.weight_decay")):
                raise UserError(f"{arg}: is an option of Adam, which --optimizer replaces")

    @property
    def root(self) -> Path:
        """Folder that contains `lightning_logs/`."""
        return Path(os.path.expanduser(self.config.trainer.default_root_dir or "."))

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the network, or of a member of the ensemble."""
        parameters = sum(parameter.numel() for parameter in self.model.network.parameters())
        return parameters // self.num_members

    def _resumed_options(self, source: Source, args: list[str]) -> dict[str, Any]:
        """Sets `run` and returns its options; refuses arguments that would change them."""
        for arg in args:
            if arg.startswith(("--", "-c")) and not arg.startswith(CHANGEABLE):
                changeable = "--trainer.*, --data.path and --data.num_workers"
                kept = f"a resumed run keeps its options; only {changeable} can be changed"
                raise UserError(f"{arg.partition('=')[0]}: {kept}")
        self.run = run_folder(source.path, "last")
        if self.run is None:
            expected = "expected 'last', or the last.ckpt of a run"
            raise UserError(f"{source.path}: {expected}", "ckpt_path")
        config = (self.run / "config.yaml").read_text("utf-8")
        options: dict[str, Any] = yaml.safe_load(config)
        # Unlike the config, the checkpoint has the batch size that a `BatchSizeFinder` found.
        options["data"] |= recorded_options(source.checkpoint, IrisDataModule)
        return options

    def instantiate_classes(self) -> None:
        """Creates the data module, the model and the Trainer."""
        self.config_init = self.parser.instantiate(self.config)
        trained_on = self.checkpoint.get("trained_on", {})
        self.num_members = trained_on.get("members", 1)
        if self.command == "fit":
            self.num_members = int(self.config.members)  # a plain int, for checkpoints
        # Recorded options that the command does not have, such as the split, are not in the config.
        options = recorded_options(self.checkpoint, IrisDataModule) | dict(self.config.data)
        self.datamodule = self._build("data", options)
        self.datamodule.keep_to(trained_on)  # tells which columns of the table to read
        options = recorded_options(self.checkpoint, IrisClassifier)
        if not self.checkpoint:
            options = {**self.config.model, **self.datamodule.classifier_options()}
        self.model = self._build("model", options)
        if self.config.get("optimizer") or self.config.get("lr_scheduler"):
            self._set_optimizer()
        self.trainer = self.instantiate_trainer(**self._trainer_overrides())
        if self.num_members > 1 and self.trains:
            check_trainer(self.trainer)  # before it launches processes
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.model.double()  # so that the weights that Lightning loads keep their precision

    def _build(self, group: str, options: dict[str, Any]) -> Any:
        """Creates the data module or the classifier; errors say where its options come from."""
        kind = GROUPS[group]
        if self.num_members > 1:
            kind = ENSEMBLES[group]
            options["members"] = self.num_members
        origin = f"--{group}."
        if group == "model" and self.checkpoint:
            origin = f"{self.source}: "
        try:
            return kind(**options)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise UserError(f"{origin}{str(error).splitlines()[0]}") from error

    def _set_optimizer(self) -> None:
        """Replaces the classifier's optimizer and scheduler with those of the command line."""
        model = self.model
        make: Callable[..., Any] = model.make_optimizer
        if self.config.optimizer:
            make = partial(instantiate_class, init=self.config_init.optimizer)
        scheduler_init = self.config_init.lr_scheduler

        def make_optimizer(parameters: Iterable[nn.Parameter]) -> Any:
            optimizer = make(parameters)
            if not scheduler_init:
                return optimizer
            scheduler = instantiate_class(optimizer, scheduler_init)
            return LightningCLI.configure_optimizers(model, optimizer, scheduler)

        model.make_optimizer = make_optimizer  # type: ignore[method-assign]  # like an override

    def _trainer_overrides(self) -> dict[str, Any]:
        """Returns the Trainer's arguments that replace the user's options.

        In `fit`, they hold the user's callbacks, loggers and plugins as well.
        """
        if self.command != "fit":
            return {"callbacks": [], "logger": False, "enable_progress_bar": False}
        options = self.config_init.trainer
        self.folder = folder = RunFolder(self.root, self.run, self.plain_options())
        callbacks: list[Callback] = []
        for callback in as_list(options.callbacks):
            is_finder = isinstance(callback, BatchSizeFinder | LearningRateFinder)
            if not (is_finder and self.run):  # a resumed run already has its result
                callbacks.append(callback)
        record = EpochRecord()
        callbacks += [
            record,
            Progress(record, options.enable_progress_bar),
            SeedEpochs(),
            StopOnSignal(),
            TensorBoardReport(self.config.figures),
            *checkpoint_callbacks(),
            folder,
        ]
        loggers = []
        if options.logger is not False:
            # Discards the curves from the saved epoch on: `EpochRecord` logs that epoch again, and
            # training repeats later ones.
            logger = RunLogger(folder, purge_step=self.checkpoint.get("epoch", 0))
            folder.checkpoint_io.before_write = logger.flush
            loggers.append(logger)
        if not isinstance(options.logger, bool):
            loggers += as_list(options.logger)
        return {
            "callbacks": callbacks,
            "logger": loggers,
            "plugins": [*as_list(options.plugins), folder.checkpoint_io],
            "enable_progress_bar": False,  # `Progress` shows one bar over all epochs
        }

    def plain_options(self) -> dict[str, Any]:
        """Returns the options for `config.yaml`, with the columns found in the table."""
        options: dict[str, Any] = self.config.as_dict()
        data = self.datamodule.hparams
        options["data"] = {name: data[name] for name in option_names(IrisDataModule)}
        for name in ("config", "ckpt_path"):
            options.pop(name, None)
        return options


def as_list(value: Any) -> list[Any]:
    """Returns the items of an option that takes one or several."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    return [value]
