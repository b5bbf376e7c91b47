"""LightningCLI for `fit`, `validate` and `test`: options, and the objects that they describe."""

import inspect
import sys
import warnings
from pathlib import Path
from typing import Any, get_args

import lightning as L
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from iris_lightning.classifier import IrisClassifier
from iris_lightning.cli.console import EpochLines
from iris_lightning.cli.options import FIT_ONLY, FROM_THE_TABLE, GROUPS, resolve_optimizer, take_from_source
from iris_lightning.cli.parsing import as_user_error, parse, simplified
from iris_lightning.cli.source import Source, find_source
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.runs.callbacks import MaxSteps, SeedEpochs, StopOnSignal
from iris_lightning.runs.checkpoints import epochs_done, run_of
from iris_lightning.runs.saving import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint, RunFolder, RunLogger

__all__ = ["IrisCLI"]

SEED = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])
TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}
LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
WITHOUT_EFFECT = (  # on this model and data, or nothing that works beside them
    *("barebones", "limit_predict_batches", "model_registry"),
    *("reload_dataloaders_every_n_epochs", "sync_batchnorm", "use_distributed_sampler"),
)


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
        parser.add_argument("--ckpt_path", type=str | None, default=None)
        parser.add_argument("--weights", type=str | None, default=None)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of model, data and Trainer; the network's inputs and outputs follow from the table."""
        for group, kind in reversed(GROUPS.items()):
            parser.add_class_arguments(kind, group, skip=FROM_THE_TABLE, instantiate=False)
        skipped = {*LIMITS, *WITHOUT_EFFECT}
        parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, sub_configs=True, skip=skipped)
        for name in LIMITS:  # Lightning's annotation has float before int, so that 1 would mean all batches
            parser.add_argument(f"--trainer.{name}", type=int | float | None, default=None)
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments, and resolves them against the checkpoint or the weights in use."""
        self.config = parse(parser, args)
        self.given = parse(parser, args, defaults=False)  # what the user gave, in files or on the command line
        if self.config.seed_everything is None:  # which would draw a seed
            raise UserError("--seed_everything: expected a whole number, got null")
        root = self.config.trainer.default_root_dir
        if root and "://" in str(root):
            raise UserError(f"--trainer.default_root_dir {root}: expected a folder of this machine")
        self.source = self._find_source([arg.partition("=")[0] for arg in args])
        self.checkpoint = self.source.checkpoint if self.source else {}
        self.ckpt_path = self.source.path if self.source and self.checkpoint else None
        self.epochs_done = epochs_done(self.checkpoint) if self.checkpoint else 0
        self.run = run_of(self.ckpt_path, self.checkpoint) if self.command == "fit" and self.ckpt_path else None
        if self.run:
            self._take_from_run(parser, args, self.run)
        limits = self.given.get("trainer") or Namespace()
        if "max_epochs" not in limits and {limits.get("max_steps"), limits.get("max_time")} - {None, -1}:
            self.config.trainer.max_epochs = -1  # the default has no part in what was asked for
        if self.source:
            take_from_source(self.command, self.config, self.given, self.source)
            with simplified(f"{self.source.path}: "):
                parser.validate(self.config)
        if self.command == "fit":
            resolve_optimizer(self.config, self.given)

    def _find_source(self, typed: list[str]) -> Source | None:
        """Returns the trained network in use; `typed` are the options on the command line, without their values."""
        if self.command != "fit" and (
            without_effect := [name for name in typed if name.removeprefix("--") in FIT_ONLY]
        ):
            raise UserError(f"{without_effect[0]}: has no effect in {self.command}; leave it out")
        checkpoint, weights = self.given.get("ckpt_path"), self.given.get("weights")
        if "--weights" not in typed and (checkpoint or self.command != "fit"):
            weights = None  # in the config of a run, they are what it started from
        if self.command == "fit" and checkpoint is None and weights is None:
            return None
        return find_source(checkpoint, weights, self.config.trainer.default_root_dir)

    def _take_from_run(self, parser: LightningArgumentParser, args: list[str], run: Path) -> None:
        """Puts the options of a run to be resumed before those that are typed now."""
        config = ["--config", str(run / "config.yaml")]
        before = parse(parser, config)
        self.config = parse(parser, [*config, *args])
        for name in ("seed_everything", "optimizer", "lr_scheduler", "trainer.default_root_dir"):
            if name in self.given and self.config.get(name) != before.get(name):
                raise UserError(f"--{name}: {run} has another one, and a resumed run keeps it; leave it out")
        self.config.weights = None  # with which the run started
        if self.config.trainer.default_root_dir is not None:  # the run may have moved
            self.config.trainer.default_root_dir = str(run.parent.parent)

    def instantiate_classes(self) -> None:
        """Builds data module, model and Trainer."""
        with as_user_error(self.typed):
            self.config_init = self.parser.instantiate(self.config)
        self.datamodule = self._build("data")
        known = self.source.trained_on() if self.source and (self.ckpt_path or self.command != "fit") else {}
        self.datamodule.load_state_dict(known)  # before the table is read
        impute = self.config.data.missing == "mean"
        if self.source and (self.checkpoint or self.command != "fit"):
            trained = self.source.weights.impute
            if impute and not trained:
                raise UserError(f"--data.missing mean: {self.source.path} was trained without; expected error or drop")
            impute = trained
        self.model = self._build("model", self.datamodule.feature_names, self.datamodule.class_names, impute=impute)
        self.model.trained_on = known
        if self.source and not self.ckpt_path:
            try:
                self.source.weights.fill(self.model.network)
            except ValueError as error:
                raise UserError(f"{self.source.path}: {error}", "weights") from error
        with as_user_error(self.typed):
            self._add_configure_optimizers_method_to_model(None)  # LightningCLI has no public name for it
        with as_user_error(self.typed):
            self.trainer = self.instantiate_trainer()

    @property
    def typed(self) -> str:
        """The options of the run that the user gave, as the start of a message about one of them."""
        options = {f"trainer.{name}": value for name, value in vars(self.given.get("trainer") or Namespace()).items()}
        options |= {name: self.given[name] for name in ("optimizer", "lr_scheduler") if name in self.given}
        texts = [name if isinstance(value, Namespace | list) else f"{name} {value}" for name, value in options.items()]
        return f"--{' --'.join(texts)}: " if texts else ""

    def _build(self, group: str, *args: Any, **kwargs: Any) -> Any:
        for name, parameter in inspect.signature(GROUPS[group]).parameters.items():
            if self.config[group].get(name, 0) is None and type(None) not in get_args(parameter.annotation):
                raise UserError(f"--{group}.{name}: expected a value, got null")
        try:
            return GROUPS[group](*args, **self.config[group], **kwargs)
        except ValueError as error:
            typed = self.given.get(group) or not self.source  # else a value of the source is wrong
            raise UserError(f"--{group}.{error}" if typed else f"{self.source}: {error}") from error
        except (RuntimeError, TypeError) as error:  # from torch: too large for this machine
            raise UserError(f"--{group}: {str(error).splitlines()[0][:200]}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Builds the Trainer with this project's logger and callbacks beside the user's own."""
        options: Namespace = self.config_init.trainer
        callbacks = _as_list(options.callbacks)
        if options.enable_progress_bar is None and not any(isinstance(item, ProgressBar) for item in callbacks):
            kwargs["enable_progress_bar"] = sys.stdout.isatty()
        loggers = _as_list(options.logger if not isinstance(options.logger, bool) else None)
        self.folder = None
        if self.command == "fit":
            root = self.run.parent.parent if self.run else Path(options.default_root_dir or ".")
            callbacks += [EpochLines(), SeedEpochs(), StopOnSignal()]
            if self.run and options.max_steps != -1:
                callbacks.append(MaxSteps(options.max_steps))
                kwargs["max_steps"] = -1
            kwargs["plugins"] = [*_as_list(options.plugins), AtomicCheckpointIO()]
            if options.enable_checkpointing is not False and not options.fast_dev_run:
                callbacks += [BestCheckpoint(), LastCheckpoint()]
            if not options.fast_dev_run:
                self.folder = RunFolder(root, self.run, self._plain_options())
                callbacks.insert(0, self.folder)  # before what is logged
            if options.logger is not False:
                # A killed run may have points of the epoch to be repeated, and lack some of the one before it.
                loggers.insert(0, RunLogger(root, max(0, self.epochs_done - 1) if self.run else None))
        kwargs["logger"] = loggers or False
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def _plain_options(self) -> dict[str, Any]:
        """Returns the options of the run as its `config.yaml` holds them, with the columns that were found."""
        config = self.config.clone()
        config.data = Namespace(self.datamodule.hparams)
        for name in ("ckpt_path", "weights"):  # beside that file, either may be typed again
            if name == "ckpt_path" or config[name] is None:
                del config[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a default that YAML does not know; it is left out
            options: dict[str, Any] = _without_objects(yaml.safe_load(self.parser.dump(config, skip_none=False)))
        return options


def _without_objects(options: Any) -> Any:
    if isinstance(options, dict):
        items = [(key, _without_objects(value)) for key, value in options.items()]
        return {key: value for key, value in items if not str(value).startswith("Unable to serialize instance")}
    return [_without_objects(value) for value in options] if isinstance(options, list) else options


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
