"""The verbs, their defaults, and what is settled before one runs."""

import math
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger

from iris_lightning import __version__
from iris_lightning.checkpoints import check_config, epochs_done, find_checkpoint, read_checkpoint, run_of
from iris_lightning.classifier import IrisClassifier
from iris_lightning.console import EpochLines, silence_noise
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.options import (
    check_monitor,
    check_values,
    settle_optimizer,
    take_from_checkpoint,
    take_from_weights,
)
from iris_lightning.parser import IrisArgumentParser, fail, telling
from iris_lightning.reports import ReportingCLI
from iris_lightning.saving import BestCheckpoint, LastCheckpoint, RunConfig, RunLogger, WholeCheckpointIO
from iris_lightning.stopping import StopOnSignal, Stopped
from iris_lightning.trainer import IrisTrainer
from iris_lightning.weights import Weights, read_weights

__all__ = ["IrisCLI", "main"]

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}


class IrisCLI(ReportingCLI):
    """LightningCLI, with checkpoints found by name, mistakes told early, and what the user typed winning.

    Args:
        args: Command line arguments; `None` means those of the process.
    """

    def __init__(self, args: list[str] | None = None) -> None:
        super().__init__(
            IrisClassifier,
            IrisDataModule,
            trainer_class=IrisTrainer,
            args=args,
            seed_everything_default=20,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_class=IrisArgumentParser,
            parser_kwargs={
                "prog": "iris_lightning",
                "description": "Trains, evaluates and uses a classifier of iris flowers.",
                "version": __version__,
                "allow_abbrev": False,
                **{verb: {"allow_abbrev": False} for verb in self.subcommands()},
            },
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},  # that of the run to be resumed
            load_from_checkpoint_support=False,  # it would write the name of a function to call into checkpoints
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Returns the verbs, and the arguments of the Trainer's methods that are no options of theirs."""
        common = {"model", "datamodule", "weights_only"}
        evaluation = {*common, "dataloaders", "verbose"}
        return {
            "fit": {*common, "train_dataloaders", "val_dataloaders"},
            "validate": evaluation,
            "test": evaluation,
            "predict": {*common, "dataloaders", "return_predictions"},
            "export": common,
        }

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the seed of the run."""
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=self.seed_everything_default,
            help="Seed of the run: of the initial weights and of the order of the train rows.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Takes the network's inputs and outputs from the table."""
        for names in ("feature_names", "class_names"):
            parser.link_arguments(f"data.{names}", f"model.{names}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments: what was given, before what the run to be resumed had, before the defaults."""
        IrisArgumentParser.arguments = sys.argv[1:] if args is None else args
        given = parser.parse_args(args, defaults=False)
        verb, self.given = given.subcommand, given[given.subcommand]
        name = self.given.get("ckpt_path")
        weights = (self.given.get("model") or Namespace()).get("weights")
        self.weights: Weights | None = None if weights is None else read_weights(Path(weights))
        if name is None and verb != "fit" and weights is None:
            name = "best"
        root = (self.given.get("trainer") or Namespace()).get("default_root_dir")
        self.path = None if name is None else find_checkpoint(name, Path(root or "."))
        self.run = run_of(self.path) if self.path and verb == "fit" else None
        if self.run:
            check_config(self.run / "config.yaml")
            before = Namespace(fit=self._parser("fit").parse_path(self.run / "config.yaml", defaults=False))
            if before.fit.get("trainer.default_root_dir") is not None:  # the run may have moved
                before.fit["trainer.default_root_dir"] = str(self.run.parent.parent)
            whole = parser.parse_args(["fit"], namespace=before).fit
            self.config = parser.parse_args(args, namespace=before)
            for key in ("seed_everything", "optimizer", "lr_scheduler", "trainer.default_root_dir"):
                if self.config.fit.get(key) != whole.get(key):
                    raise UserError(f"--{key}: {self.run} has another one, and a resumed run keeps it; leave it out")
        else:
            self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Settles all options; Lightning's own version lets a checkpoint silently win over what was typed."""
        verb = self.config.subcommand
        options = self.config[verb]
        self.checkpoint = None
        if self.path:
            self.checkpoint = read_checkpoint(self.path)
            options.ckpt_path = str(self.path)
            take_from_checkpoint(verb, options, self.given, self.checkpoint, self.path)
            try:
                self.parser.validate(self.config)
            except (TypeError, KeyError) as error:
                raise UserError(f"{self.path}: its options do not fit: {error}") from error
        elif self.weights:
            take_from_weights(verb, options, self.given, self.weights)
        check_values(verb, options, {"data": IrisDataModule, "model": IrisClassifier})
        if verb == "predict" and options.output is None:
            options.output = "-"
        if verb == "fit":
            settle_optimizer(options, self.given)

    def instantiate_classes(self) -> None:
        """Builds data module, model and Trainer; a value out of range names its option."""

        def build(kind: type[Any], *args: Any, **kwargs: Any) -> Any:
            group = "data" if kind is IrisDataModule else "model"
            if self.checkpoint is not None:
                kwargs.pop("weights", None)  # with which the run started
            try:
                component = kind(*args, **kwargs)
            except ValueError as error:
                typed = str(error).partition(":")[0] in (self.given.get(group) or Namespace())
                raise UserError(f"--{group}.{error}" if typed or not self.path else f"{self.path}: {error}") from error
            except RuntimeError as error:  # from torch: too large for this machine
                raise UserError(f"--{group}: {str(error).splitlines()[0]}") from error
            if kind is IrisDataModule:  # before the table is read
                if self.checkpoint is not None:
                    component.load_state_dict(self.checkpoint["IrisDataModule"])
                elif self.weights and self.weights.feature_names:
                    names = {key: getattr(self.weights, key) for key in ("feature_names", "class_names")}
                    component.load_state_dict(names)
            return component

        kinds = (IrisDataModule, IrisClassifier)
        with telling():
            self.config_init = self.parser.instantiate(
                self.config, instantiators=[(build, kind, False) for kind in kinds]
            )
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        with telling("--optimizer or --lr_scheduler: "):
            self._add_configure_optimizers_method_to_model(self.subcommand)
        self.trainer = self.instantiate_trainer()
        if self.checkpoint is not None and self.subcommand not in ("predict", "export"):
            self._check_table(self.checkpoint["datamodule_hyper_parameters"]["path"])

    def _check_table(self, path: str | None) -> None:
        if self.datamodule.is_another_table and (self.subcommand == "fit" or self.datamodule.hparams["path"] == path):
            raise UserError(
                f"{self.datamodule.hparams['path']}: the table is not the one that {self.path} was trained with; "
                "start a new run"
            )

    def instantiate_trainer(self, **kwargs: Any) -> IrisTrainer:
        """Builds the Trainer with this project's logger and callbacks beside the user's own."""
        config = {**self._get(self.config_init, "trainer"), **kwargs}
        fits = self.subcommand == "fit"
        own: list[Callback] = []
        if config["barebones"]:
            config["log_every_n_steps"] = None
        else:
            if config["logger"] in (None, True):
                with telling("--trainer.default_root_dir: "):
                    config["logger"] = self._logger(config["default_root_dir"] or ".") if fits else False
            if config["enable_progress_bar"] is None and not any(
                isinstance(callback, ProgressBar) for callback in config["callbacks"] or []
            ):
                config["enable_progress_bar"] = sys.stdout.isatty()
            if fits:
                own += [EpochLines(), StopOnSignal()]
                config["plugins"] = [*_listed(config["plugins"]), WholeCheckpointIO()]
                if config["enable_checkpointing"] is not False:
                    own += [BestCheckpoint(), LastCheckpoint()]
        config["use_distributed_sampler"] = False  # it would repeat rows; `Batches` shares them out
        if not fits or not config["logger"]:
            self.save_config_callback = None  # there is no run folder
        typed = self.given.get("trainer") or Namespace()
        with telling(f"--trainer ({', '.join(f'{key} {value}' for key, value in typed.items())}): "):
            trainer = cast("IrisTrainer", self._instantiate_trainer(config, own))
        if trainer.world_size > 1 and self.subcommand in ("predict", "export"):
            raise UserError(f"--trainer.devices: {trainer.world_size} processes; {self.subcommand} expects one")
        if trainer.world_size > self.datamodule.batch_size:
            raise UserError(
                f"--data.batch_size {self.datamodule.batch_size}: fewer rows than the {trainer.world_size} processes "
                "that share a batch"
            )
        if fits:
            for callback in [*trainer.early_stopping_callbacks, *trainer.checkpoint_callbacks]:
                check_monitor(f"{type(callback).__name__}.monitor", getattr(callback, "monitor", None))
            if scheduler := self._get(self.config, "lr_scheduler"):
                check_monitor("--lr_scheduler.monitor", scheduler.get("init_args", Namespace()).get("monitor"))
        return trainer

    def _logger(self, root: str) -> TensorBoardLogger:
        if self.run:  # goes on in its folder
            assert self.checkpoint is not None
            return RunLogger(
                self.run.parent.parent,
                self.run.parent.name,
                self.run.name,
                default_hp_metric=False,
                purge_step=epochs_done(self.checkpoint),  # a killed run may have points of the epoch to be repeated
            )
        return RunLogger(root, default_hp_metric=False)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand != "export":
            kwargs["weights_only"] = True
        if subcommand in ("validate", "test"):
            kwargs["verbose"] = False  # after_test prints the metrics instead
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "fit" and self.checkpoint and (reason := self._finished(epochs_done(self.checkpoint))):
            self._say(f"nothing to do: {self.path} has finished {reason}")
            return
        logger = self.trainer.logger
        with telling("--trainer: "):
            new = isinstance(logger, TensorBoardLogger) and not os.path.exists(logger.log_dir)
        try:
            with telling(unless=lambda: bool(self.model.epoch_metrics)):  # it has worked for an epoch
                super()._run_subcommand(subcommand)
        except UserError:
            fresh = new and not self.model.epoch_metrics and self.trainer.is_global_zero
            if fresh and isinstance(logger, TensorBoardLogger):
                shutil.rmtree(logger.log_dir, ignore_errors=True)
                with suppress(OSError):  # it holds other runs
                    os.rmdir(logger.root_dir)
            raise

    def _finished(self, done: int) -> str | None:
        epochs = self.trainer.max_epochs or 0
        if 0 < epochs <= done:
            return f"{done} of {epochs} epochs; raise --trainer.max_epochs to go on"
        assert self.checkpoint is not None
        for callback in self.trainer.early_stopping_callbacks:
            state = self.checkpoint["callbacks"].get(callback.state_key, {})
            if state.get("stopped_epoch") or state.get("wait_count", 0) >= state.get("patience", math.inf):
                return f"{done} epochs, after which {type(callback).__name__} ended it"
        return None


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def main(args: list[str] | None = None) -> IrisCLI:
    """Runs one verb.

    Args:
        args: Command line arguments without the program's name; `None` means those of the process.

    Returns:
        The command line object, with its `trainer`, `model` and `datamodule`.

    Raises:
        SystemExit: With status 2 after a mistake of the user's, which is told on stderr; 130 or 143 after a signal.
    """
    silence_noise()
    try:
        return IrisCLI(args)
    except (Stopped, KeyboardInterrupt) as stop:
        number, path = (stop.signal, stop.path) if isinstance(stop, Stopped) else (signal.SIGINT, None)
        hint = f"; to go on: python -m iris_lightning fit --ckpt_path {os.path.relpath(path)}" if path else ""
        print(f"stopped by {signal.Signals(number).name}{hint}", file=sys.stderr)
        raise SystemExit(128 + number) from None
    except (UserError, MisconfigurationException) as error:
        fail("\n".join(" ".join(line.split()) for line in str(error).splitlines()[:2])[:600])
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
