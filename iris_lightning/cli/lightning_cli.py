"""LightningCLI for `fit`, `validate`, `test` and `crossvalidate`."""

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import lightning as L
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, instantiate_class
from lightning.pytorch.plugins import DoublePrecision
from torch import nn

from iris_lightning.classifier import IrisClassifier
from iris_lightning.cli.options import (
    GROUPS,
    RESUMED,
    TRAINER_DEFAULTS,
    check_trainer,
    general_options,
    keep,
    known_options,
    skipped,
)
from iris_lightning.cli.parsing import as_user_error, parse, simplified
from iris_lightning.cli.source import Source, find_source
from iris_lightning.cli.trainer import fit_parts, trainer_parts
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError, join_names
from iris_lightning.runs.checkpoints import epochs_done, run_folder
from iris_lightning.runs.folders import check_name, logs_folder

__all__ = ["IrisCLI"]

SEED = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])
LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")


class IrisCLI(LightningCLI):
    """LightningCLI for one command: its parser has the options of that command alone.

    A checkpoint never wins silently over what a user typed: options that it decides do not exist.

    Attributes:
        source: The trained network in use, if there is one.
        run: The folder of the run that is resumed, if one is.
    """

    datamodule: IrisDataModule
    model: IrisClassifier
    trainer: L.Trainer

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        self.trains = command in ("fit", "crossvalidate")
        self.source: Source | None = None
        self.run: Path | None = None
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
            load_from_checkpoint_support=False,  # it would name a function to call in checkpoints
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options that belong to no class."""
        kinds = {"seed_everything": SEED, "threads": int | None, "max_parallel": int | None}
        for name, default in general_options(self.command).items():
            kind = str | None if default is None else type(default)
            parser.add_argument(f"--{name}", type=kinds.get(name, kind), default=default)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of model, data and Trainer."""
        for group, kind in GROUPS.items():
            skip = skipped(self.command, group)
            if group == "trainer":
                skip = skip | {*LIMITS}
            parser.add_class_arguments(kind, group, skip=skip, instantiate=False, sub_configs=True)
        names = {name for name in TRAINER_DEFAULTS if name not in skipped(self.command, "trainer")}
        for name in names:
            parser.set_defaults({f"trainer.{name}": TRAINER_DEFAULTS[name]})
        for name in LIMITS:
            if name not in skipped(self.command, "trainer"):
                # Lightning's annotation has float before int, so that 1 would mean all batches.
                parser.add_argument(f"--trainer.{name}", type=int | float | None, default=None)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments, and resolves them against the checkpoint in use."""
        own = {*parser.get_defaults().keys()}
        others = known_options() - own

        def drop(options: dict[str, Any]) -> dict[str, Any]:
            """Drops the options of other commands, which the config of a run has."""
            kept: dict[str, Any] = keep(options, lambda name: name not in others)
            return kept

        self.config = parse(parser, args, drop=drop)
        self.given = parse(parser, args, defaults=False, drop=drop)
        root = self.config.trainer.default_root_dir
        if root is not None:
            self.config.trainer.default_root_dir = os.path.expanduser(root)
        if self.command == "fit" and self.config.ckpt_path is not None:
            self._resume(parser, args)
        elif self.command == "fit" and self.config.weights is not None:
            self.source = find_source(None, self.config.weights)
        elif not self.trains:
            self.config.seed_everything = False  # nothing is drawn
            self.source = find_source(self.config.ckpt_path, None, self.root)
        if self.trains:
            check_name(self.config.name)
            check_trainer(self.config.trainer, self.given.get("trainer") or Namespace())
            typed = {arg.partition("=")[0] for arg in args}
            for name in ("lr", "weight_decay"):
                if self.config.optimizer and f"--model.{name}" in typed:
                    instead = f"use --optimizer.{name}"
                    raise UserError(f"--model.{name}: has no effect beside --optimizer; {instead}")

    @property
    def root(self) -> str | None:
        """Where `lightning_logs/` is."""
        root: str | None = self.config.trainer.default_root_dir
        return root

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The checkpoint in use; empty if there is none."""
        return self.source.checkpoint if self.source else {}

    @property
    def ckpt_path(self) -> Path | None:
        """The path of the checkpoint in use."""
        return self.source.path if self.source and self.source.checkpoint else None

    def _resume(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Takes every option from the run that is resumed, but for a few that may be typed."""
        for arg in args:
            name = arg.partition("=")[0].removeprefix("--")
            allowed = name in RESUMED or name.startswith("trainer.")
            if arg.startswith("--") and not allowed:
                others = "--trainer.*, --data.path and --data.num_workers"
                kept = f"a resumed run keeps its options; only {others} can be changed"
                raise UserError(f"--{name}: {kept}")
        self.source = find_source(self.config.ckpt_path, None, self.root, trained=False)
        path = self.source.path
        self.run = run_folder(path)
        if self.run is None or path.name != "last.ckpt":
            raise UserError(f"{path}: expected the last.ckpt of a run, or last", "ckpt_path")
        config = self.run / "config.yaml"
        options = yaml.safe_load(config.read_text(encoding="utf-8"))
        known = {*parser.get_defaults().keys()}
        with simplified(f"{config}: "):
            before = parser.parse_object(keep(options, known.__contains__))
        before.data.path = self.source.options(IrisDataModule).get("path")  # as seen from here
        with simplified():
            self.config = parser.parse_args(args, namespace=before)
        self.given.trainer = self.config.trainer
        self.config.weights = None  # with which the run started
        self.config.trainer.default_root_dir = str(logs_folder(self.run).parent)

    def instantiate_classes(self) -> None:
        """Builds data module, model and Trainer."""
        with as_user_error():
            self.config_init = self.parser.instantiate(self.config)
        data = dict(self.config.data)
        if self.source and self.checkpoint:
            data = {**self.source.options(IrisDataModule), **(self.given.get("data") or {})}
        self.datamodule = self._build("data", IrisDataModule, data)
        if self.checkpoint:
            self.datamodule.keep_to(self.checkpoint["trained_on"])  # before the table is read
        self.model = self._make_model()
        with as_user_error():
            self.trainer = self.instantiate_trainer()
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.model.double()  # before weights are loaded, which Lightning would cut to float32
        processes, rows = self.trainer.world_size, self.datamodule.batch_size
        if processes > rows:
            found = f"{processes} processes would share batches of {rows} rows"
            raise UserError(f"--trainer.devices: {found}; expected no more processes than rows")

    def _make_model(self) -> IrisClassifier:
        model: IrisClassifier
        if self.source and self.checkpoint:
            model = self._build("model", IrisClassifier, self.source.options(IrisClassifier))
            model.trained_on = self.checkpoint["trained_on"]
        else:
            options = {
                **self.config.model,
                "feature_names": self.datamodule.feature_names,
                "class_names": self.datamodule.class_names,
                "impute": self.config.data.missing == "mean",
            }
            model = self._build("model", IrisClassifier, options)
        if self.source and not self.checkpoint:
            _start_from(self.source, model)
        if self.trains and (self.config.optimizer or self.config.lr_scheduler):
            self._set_optimizer(model)
        return model

    def _set_optimizer(self, model: IrisClassifier) -> None:
        """Has `--optimizer` and `--lr_scheduler` take the place of what the classifier makes."""
        optimizer_init = self.config_init.get("optimizer")
        scheduler_init = self.config_init.get("lr_scheduler")
        make_own = model.make_optimizer

        def make_optimizer(parameters: Iterable[nn.Parameter]) -> Any:
            if optimizer_init:
                optimizer = instantiate_class(parameters, optimizer_init)
            else:
                optimizer = make_own(parameters)
            if not scheduler_init:
                return optimizer
            scheduler = instantiate_class(optimizer, scheduler_init)
            return LightningCLI.configure_optimizers(model, optimizer, scheduler)

        vars(model)["make_optimizer"] = make_optimizer

    def _build(self, group: str, kind: type, options: Mapping[str, Any]) -> Any:
        origin = f"{self.source}: " if self.source and self.checkpoint else f"--{group}."
        try:
            return kind(**options)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise UserError(f"{origin}{str(error).splitlines()[0][:200]}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Builds the Trainer with this project's logger and callbacks beside the user's own."""
        return super().instantiate_trainer(**kwargs, **self.trainer_parts())

    def trainer_parts(self) -> dict[str, Any]:
        """Returns what goes into the Trainer in place of a user's options of these names."""
        self.folder = None
        parts = trainer_parts(self.config_init.trainer)
        if self.command == "fit":
            done = epochs_done(self.checkpoint) if self.run else 0
            options = self.plain_options()
            self.folder = fit_parts(parts, self.config_init.trainer, self.run, done, options)
        return parts

    def plain_options(self) -> dict[str, Any]:
        """Returns the options for `config.yaml`, with the columns that were found in the table."""
        config = self.config.clone()
        config.data = Namespace(self.datamodule.hparams)
        config.pop("config", None)
        config.pop("ckpt_path", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of defaults that jsonargparse has no words for
            text = self.parser.dump(config, skip_unset=False, skip_validation=True)
        options: dict[str, Any] = yaml.safe_load(text)
        return options


def _start_from(source: Source, model: IrisClassifier) -> None:
    """Gives a new classifier weights of the same network and the same classes."""
    weights = source.weights
    ours = cast("Any", model.network).options
    for name, value in weights.options.items():
        if value != ours[name]:
            raise UserError(f"{source.path}: made with {name} {value}, got {ours[name]}", "weights")
    names = weights.class_names
    if names is not None and list(names) != model.hparams["class_names"]:
        raise UserError(f"{source.path}: made for the classes {join_names(names)}", "weights")
    weights.load_into(model.network)
