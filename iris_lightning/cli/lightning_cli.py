"""LightningCLI for `fit`, `validate`, `test` and `crossvalidate`: options, and the objects that they describe."""

import inspect
import os
import warnings
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import lightning as L
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import DoublePrecision

from iris_lightning.classifier import IrisClassifier
from iris_lightning.cli.options import (
    FOLDS,
    FROM_THE_TABLE,
    GROUPS,
    TRAINING,
    WITHOUT_EFFECT,
    check_unchanged,
    refuse_in_folds,
    refuse_without_effect,
    resolve_optimizer,
    take_from_source,
    without_objects,
)
from iris_lightning.cli.parsing import as_user_error, parse, simplified
from iris_lightning.cli.source import Source, find_source
from iris_lightning.cli.trainer import add_trainer, fit_parts, resolve_limits, trainer_parts
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError, few
from iris_lightning.files import same_file, shown
from iris_lightning.hyperparameters import to_yaml
from iris_lightning.runs.checkpoints import epochs_done, run_of
from iris_lightning.runs.fast import LeanClassifier
from iris_lightning.runs.folders import check_name, logs_of

__all__ = ["IrisCLI"]

FLAGS = {"skip_null": "skip_unset", "skip_default": "skip_default"}  # of --print_config, as `dump` calls them
SEED = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


class IrisCLI(LightningCLI):
    """LightningCLI for the options of one command, in which a checkpoint never wins silently over what a user typed."""

    datamodule: IrisDataModule
    model: IrisClassifier
    trainer: L.Trainer

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        super().__init__(
            IrisClassifier,
            IrisDataModule,
            args=args,
            run=False,
            parser_kwargs={"prog": f"iris_lightning {command}", "exit_on_error": False, "allow_abbrev": False},
            save_config_callback=None,  # `RunFolder` in its place
            load_from_checkpoint_support=False,  # it would write the name of a function to call into checkpoints
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options that belong to no class; `help_text` says what they are for."""
        parser.add_argument("--seed_everything", type=SEED, default=20)
        for name in ("ckpt_path", "weights", "name"):
            parser.add_argument(f"--{name}", type=str | None, default=None)
        for name, default in {"figures": True, "threads": None, **FOLDS}.items():
            kind = int | None if default is None else type(default)
            parser.add_argument(f"--{name}", type=kind, default=default)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of model, data and Trainer; the network's inputs and outputs follow from the table."""
        for group, kind in GROUPS.items():
            parser.add_class_arguments(kind, group, skip=FROM_THE_TABLE, instantiate=False)
        add_trainer(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments, and resolves them against the checkpoint or the weights in use."""
        printed = [arg for arg in args if arg.partition("=")[0] == "--print_config"]
        args = [arg for arg in args if arg not in printed]
        names = [arg.partition("=")[0].removeprefix("--") for arg in args if arg.startswith("--")]
        refuse_without_effect(self.command, names, WITHOUT_EFFECT[self.command])
        self.config = parse(parser, args)
        self.given = parse(parser, args, defaults=False)  # what the user gave, in files or on the command line
        if self.config.seed_everything is None:  # which would draw a seed
            raise UserError("--seed_everything: expected a whole number, got null")
        check_name(self.config.name)
        if root := self.config.trainer.default_root_dir:
            if "://" in str(root):
                raise UserError(f"--trainer.default_root_dir {root}: expected a folder of this machine")
            self.config.trainer.default_root_dir = os.path.expanduser(root)
        self.source = self._find_source(names)
        self.checkpoint = self.source.checkpoint if self.source else {}
        self.steps_done = self.checkpoint.get("global_step", 0)
        self.run = self._take_from_run(parser, args) if self.command == "fit" and self.checkpoint else None
        self.ckpt_path = self.source.path if self.source and self.checkpoint else None
        self.epochs_done = epochs_done(self.checkpoint) if self.checkpoint else 0
        if self.source:
            take_from_source(self.command, self.config, self.given, self.source)
            with simplified(f"{self.source.path}: "):
                parser.validate(self.config)
        resolve_limits(self.config, self.given, resumed=self.run is not None)
        if self.command == "crossvalidate":
            refuse_in_folds(self.given, parser.get_defaults())
        if self.command in ("fit", "crossvalidate"):
            resolve_optimizer(self.config, self.given, names)
        for arg in printed:
            flags = {*arg.partition("=")[2].split(",")} - {""}
            if unknown := flags - {*FLAGS}:
                raise UserError(f"--print_config: expected {' or '.join(FLAGS)}, got {min(unknown)}")
            print(self._dump(self.config, **{FLAGS[flag]: True for flag in flags}), end="")
            raise SystemExit(0)

    def _find_source(self, names: list[str]) -> Source | None:
        """Returns the trained network in use; `names` are the options on the command line."""
        checkpoint, weights = self.given.get("ckpt_path"), self.given.get("weights")
        if "weights" not in names and (checkpoint or self.command != "fit"):
            weights = None  # in the config of a run, they are what it started from
        if weights and self.command != "fit":
            refuse_without_effect(self.command, names, TRAINING)
        if self.command == "crossvalidate" or (self.command == "fit" and checkpoint is None and weights is None):
            return None
        for name in ("callbacks", "logger"):  # in the config of a run, they are those of its training
            if self.command != "fit" and not any(item.startswith(f"trainer.{name}") for item in names):
                self.config.trainer[name] = None
        return find_source(checkpoint, weights, self.config.trainer.default_root_dir, trained=self.command != "fit")

    def _take_from_run(self, parser: LightningArgumentParser, args: list[str]) -> Path:
        """Puts the options of a run to be resumed before those that are typed now; returns the run."""
        assert self.source is not None
        run, path = run_of(self.source.path, self.checkpoint)
        if path != self.source.path:
            self.source = find_source(str(path), None, trained=False)
            self.checkpoint = self.source.checkpoint
        config = ["--config", str(run / "config.yaml")]
        before = parse(parser, config)
        self.config = parse(parser, [*config, *args])
        check_unchanged(run / "config.yaml", yaml.safe_load(self._dump(before)), self.checkpoint.get("options"))
        root = (self.given.get("trainer") or Namespace()).get("default_root_dir")
        if root and not same_file(os.path.expanduser(root), str(logs_of(run).parent)):
            raise UserError(f"--trainer.default_root_dir {root}: {shown(run)} lies elsewhere; leave it out")
        for name in ("seed_everything", "name", "optimizer", "lr_scheduler"):
            if name in self.given and self.config.get(name) != before.get(name):
                found = f"{shown(run)} has another one, and a resumed run keeps it"
                raise UserError(f"--{name}: {found}; leave it out")
        self.config.weights = None  # with which the run started
        if self.config.trainer.default_root_dir is not None:  # the run may have moved
            self.config.trainer.default_root_dir = str(logs_of(run).parent)
        return run

    def instantiate_classes(self) -> None:
        """Builds data module, model and Trainer."""
        with as_user_error(self.typed):
            self.config_init = self.parser.instantiate(self.config)
        self.datamodule = self._build("data", IrisDataModule)
        known = self.source.trained_on() if self.source and (self.ckpt_path or self.command != "fit") else {}
        self.datamodule.load_state_dict(known)  # before the table is read
        impute = self.config.data.missing == "mean"
        if self.source and (self.checkpoint or self.command != "fit"):
            trained = self.source.weights.impute
            if impute and not trained:
                raise UserError(f"--data.missing mean: {self.source.path} was trained without; expected error or drop")
            impute = trained
        of_table = self.datamodule.feature_names, self.datamodule.class_names
        self.model = self._build("model", LeanClassifier, *of_table, impute=impute)
        self.model.trained_on = known
        if self.source and not self.ckpt_path:
            try:
                self.source.weights.fill(self.model.network)
                names = self.source.weights.class_names
                if self.command == "fit" and names not in (None, self.datamodule.class_names):
                    raise ValueError(f"made for the classes {few(names)}, got {few(self.datamodule.class_names)}")
            except ValueError as error:
                raise UserError(f"{self.source.path}: {error}", "weights") from error
        with as_user_error(self.typed):
            self._add_configure_optimizers_method_to_model(None)  # LightningCLI has no public name for it
            self.trainer = self.instantiate_trainer()
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.model.double()  # before weights are loaded, which Lightning would cut to float32
        if self.trainer.world_size > self.datamodule.batch_size:
            sharing = f"{self.trainer.world_size} processes would share batches of {self.datamodule.batch_size} rows"
            raise UserError(f"--trainer.devices: {sharing}; expected no more processes than rows")

    @property
    def typed(self) -> str:
        """The options of the run that the user gave, as the start of a message about one of them."""
        options = {f"trainer.{name}": value for name, value in vars(self.given.get("trainer") or Namespace()).items()}
        options |= {name: self.given[name] for name in ("optimizer", "lr_scheduler") if name in self.given}
        texts = [name if isinstance(value, Namespace | list) else f"{name} {value}" for name, value in options.items()]
        return f"--{' --'.join(texts)}: " if texts else ""

    def _build(self, group: str, kind: type, *args: Any, **kwargs: Any) -> Any:
        for name, parameter in inspect.signature(kind).parameters.items():
            if self.config[group].get(name, 0) is None and type(None) not in get_args(parameter.annotation):
                raise UserError(f"--{group}.{name}: expected a value, got null")
        try:
            return kind(*args, **self.config[group], **kwargs)
        except ValueError as error:
            typed = self.given.get(group) or not self.source  # else a value of the source is wrong
            raise UserError(f"--{group}.{error}" if typed else f"{self.source}: {error}") from error
        except (RuntimeError, TypeError) as error:  # from torch: too large for this machine
            raise UserError(f"--{group}: {str(error).splitlines()[0][:200]}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Builds the Trainer with this project's logger and callbacks beside the user's own."""
        return super().instantiate_trainer(**kwargs, **self.trainer_parts())

    def trainer_parts(self) -> dict[str, Any]:
        """Returns what goes into the Trainer in place of a user's options of these names."""
        self.folder, parts = None, trainer_parts(self.config_init.trainer)
        if self.command == "fit":
            self.folder = fit_parts(parts, self.config_init.trainer, self.run, self.epochs_done, self.plain_options())
        return parts

    def plain_options(self) -> dict[str, Any]:
        """Returns the options of the run as its `config.yaml` holds them, with the columns that were found."""
        config = self.config.clone()
        config.data = Namespace(self.datamodule.hparams)
        for name in ("ckpt_path", "weights"):  # beside that file, either may be typed again
            if name == "ckpt_path" or config[name] is None:
                del config[name]
        options: dict[str, Any] = yaml.safe_load(self._dump(config))
        return options

    def _dump(self, config: Namespace, **flags: bool) -> str:
        """Returns options as YAML, without those of other commands, and defaults of classes that it has no word for."""
        if self.command != "crossvalidate":
            config = config.clone()
            for name in FOLDS:
                config.pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of such a default
            text = self.parser.dump(config, **{"skip_unset": False, **flags})
        return to_yaml(without_objects(yaml.safe_load(text)))
