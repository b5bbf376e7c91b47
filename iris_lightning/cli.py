"""The verbs, their defaults, and what is settled before one runs."""

import json
import math
import os
import shutil
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from iris_lightning import __version__
from iris_lightning.checkpoints import BestCheckpoint, LastCheckpoint, find_checkpoint, read_checkpoint
from iris_lightning.classifier import IrisClassifier
from iris_lightning.console import EpochLines, silence_noise
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.parser import IrisArgumentParser, closest, fail

__all__ = ["IrisCLI", "main"]

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # it would repeat rows to make shares equal
}
# What may differ from the checkpoint that a verb uses, since no result depends on it.
FREE = {"fit": {"num_workers"}, "validate": {"num_workers", "batch_size"}, "test": {"num_workers", "batch_size"}}


class IrisCLI(LightningCLI):
    """LightningCLI, with checkpoints found by name, mistakes told early, and what the user typed winning.

    Args:
        args: Command line arguments; `None` means those of the process.
    """

    def __init__(self, args: list[str] | None = None) -> None:
        super().__init__(
            IrisClassifier,
            IrisDataModule,
            args=args,
            seed_everything_default=20,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_class=IrisArgumentParser,
            parser_kwargs={
                "prog": "iris_lightning",
                "description": "Trains and evaluates a classifier of iris flowers.",
                "version": __version__,
                "allow_abbrev": False,
                **{verb: {"allow_abbrev": False} for verb in self.subcommands()},
            },
            save_config_kwargs={"overwrite": True},  # without a logger, every run has the same folder
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
        """Takes the network's sizes from the table."""
        parser.link_arguments("data.num_features", "model.in_features", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str] | None) -> None:  # type: ignore[override]
        """Parses the arguments, and keeps apart what was given from what is a default."""
        self.config = parser.parse_args(args)
        self.given = parser.parse_args(args, defaults=False)[self.config.subcommand]
        seed = self.config[self.config.subcommand].seed_everything
        if not 0 <= seed < 2**32:
            raise UserError(f"--seed_everything: expected a whole number from 0 to {2**32 - 1}, got {seed}")

    def _parse_ckpt_path(self) -> None:
        """Finds the checkpoint to use and takes the options that belong to it from it.

        Lightning's own version lets the checkpoint silently win over what was typed.
        """
        verb = self.config.subcommand
        options = self.config[verb]
        self.checkpoint: dict[str, Any] | None = None
        name = options.ckpt_path or (None if verb == "fit" else "best")
        if name is None:
            return
        path = find_checkpoint(name, Path(options.trainer.default_root_dir or "."))
        self.checkpoint = read_checkpoint(path)
        options.ckpt_path = str(path)
        for group in ("model", "data"):
            source = self.checkpoint["hyper_parameters" if group == "model" else "datamodule_hyper_parameters"]
            given = self.given.get(group) or Namespace()
            known = options[group]
            for key, value in source.items():
                if key not in known:
                    continue
                if key in given and key not in FREE[verb] and _plain(given[key]) != _plain(value):
                    raise UserError(
                        f"--{group}.{key} {_plain(given[key])}: {path} was trained with {_plain(value)}, "
                        f"and {verb} has to keep that; leave the option out"
                    )
                if key not in given:
                    known[key] = value
        try:
            self.parser.validate(self.config)
        except (TypeError, KeyError) as error:
            raise UserError(f"{path}: its options do not fit: {error}") from error

    def before_instantiate_classes(self) -> None:
        """Refuses what the Trainer would take for something else than the user means."""
        options = self.config[self.subcommand]
        epochs = options.trainer.max_epochs
        if epochs is not None and epochs < 1:
            raise UserError(f"--trainer.max_epochs: expected at least 1 epoch, got {epochs}")
        if self.subcommand == "fit":
            self._settle_optimizer(options)

    def _settle_optimizer(self, options: Namespace) -> None:
        """Makes `--optimizer`, `--lr_scheduler` and the model's own optimizer options agree.

        LightningCLI ignores a scheduler without an optimizer, and the model's options beside an optimizer.
        """
        if options.lr_scheduler and not options.optimizer:
            adam = Namespace(lr=options.model.lr, weight_decay=options.model.weight_decay)
            options.optimizer = Namespace(class_path="torch.optim.Adam", init_args=adam)
        if not options.optimizer:
            return
        for key, default in (("lr", 1e-3), ("weight_decay", 0.0)):
            used, typed = options.optimizer.init_args.get(key), options.model[key]
            if typed not in (used, default):
                raise UserError(f"--model.{key} {typed}: has no effect beside --optimizer; use --optimizer.{key}")
            if key == "lr" and used is not None and not 0 < used < math.inf:
                raise UserError(f"--optimizer.lr: expected a finite number above 0, got {used}")
            if used is not None:
                options.model[key] = used  # what the checkpoint will say

    def instantiate_classes(self) -> None:
        """Builds data module, model and Trainer; a value out of range names its option."""

        def build(kind: type[Any], *args: Any, **kwargs: Any) -> Any:
            try:
                return kind(*args, **kwargs)
            except UserError:
                raise
            except ValueError as error:
                raise UserError(f"--{'data' if kind is IrisDataModule else 'model'}.{error}") from error

        kinds = (IrisDataModule, IrisClassifier)
        self.config_init = self.parser.instantiate(self.config, instantiators=[(build, kind, False) for kind in kinds])
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        try:
            self._add_configure_optimizers_method_to_model(self.subcommand)
        except (TypeError, ValueError) as error:
            raise UserError(f"--optimizer or --lr_scheduler: {error}") from error
        self.trainer = self.instantiate_trainer()
        if self.checkpoint is not None:
            self._check_shapes(self.checkpoint["state_dict"])

    def _check_shapes(self, theirs: dict[str, torch.Tensor]) -> None:
        ours = self.model.state_dict()
        for name in sorted(ours.keys() | theirs.keys()):
            shapes = [tuple(state[name].shape) if name in state else "nothing" for state in (theirs, ours)]
            if shapes[0] != shapes[1]:
                path = self.config[self.subcommand].ckpt_path
                raise UserError(f"{path}: holds another network: {name} is {shapes[0]} there and {shapes[1]} here")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Builds the Trainer with this project's logger and callbacks beside the user's own."""
        config = {**self._get(self.config_init, "trainer"), **kwargs}
        fits = self.subcommand == "fit"
        own: list[Callback] = []
        if config["barebones"]:
            config["log_every_n_steps"] = None
        else:
            if config["logger"] in (None, True):
                root = config["default_root_dir"] or "."
                config["logger"] = TensorBoardLogger(root, default_hp_metric=False) if fits else False
            if config["enable_progress_bar"] is None:
                config["enable_progress_bar"] = sys.stdout.isatty()
            if fits:
                own.append(EpochLines())
                if config["enable_checkpointing"] is not False:
                    own += [BestCheckpoint(), LastCheckpoint()]
        if not fits:
            self.save_config_callback = None
        try:
            trainer: L.Trainer = self._instantiate_trainer(config, own)
        except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
            given = self.given.get("trainer") or Namespace()
            named = [key for key in given.keys() if key in str(error)] or list(given.keys())  # noqa: SIM118
            raise UserError(f"{', '.join(f'--trainer.{key} {given[key]}' for key in named)}: {error}") from error
        for callback in [*trainer.early_stopping_callbacks, *trainer.checkpoint_callbacks]:
            self._check_monitor(f"{type(callback).__name__}.monitor", getattr(callback, "monitor", None))
        if fits and (scheduler := self._get(self.config, "lr_scheduler")):
            self._check_monitor("--lr_scheduler.monitor", scheduler.get("init_args", Namespace()).get("monitor"))
        return trainer

    def _check_monitor(self, option: str, name: str | None) -> None:
        """Refuses a metric that nothing logs, before the first epoch is spent."""
        known = [metric for metric in self.model.metrics if not metric.endswith("/test")]
        if name is not None and name not in known:
            raise UserError(f"{option}: expected one of {', '.join(known)}, got {name!r}{closest(name, known)}")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        verbose = {} if subcommand == "fit" else {"verbose": False}  # after_test prints the metrics instead
        return {**super()._prepare_subcommand_kwargs(subcommand), **verbose, "weights_only": True}

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except (MisconfigurationException, TypeError, ValueError) as error:
            # Options that Lightning checks only when it runs. Anything else is a bug of ours.
            frames = list(traceback.walk_tb(error.__traceback__))
            if not str(frames[-1][0].f_globals["__name__"]).startswith("lightning.") or self.trainer.global_step:
                raise
            if isinstance(self.trainer.logger, TensorBoardLogger):
                shutil.rmtree(self.trainer.logger.log_dir, ignore_errors=True)
                with suppress(OSError):  # it holds other runs
                    os.rmdir(self.trainer.logger.root_dir)
            raise UserError(str(error)) from error

    def before_fit(self) -> None:
        """Says what is trained, on what."""
        data = self.datamodule
        shares = ", ".join(f"{len(rows)} {part}" for part, rows in data.rows.items())
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self._say(
            f"Iris: {len(data.table.targets)} rows ({shares}), {data.num_features} features, "
            f"{data.num_classes} classes; {parameters} parameters on {self.trainer.strategy.root_device}"
        )

    def after_fit(self) -> None:
        """Says where the run is, how good its best epoch was, and what to do next."""
        if self.trainer.log_dir and self.trainer.logger:
            self._say(f"run:    {os.path.relpath(self.trainer.log_dir)}")
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint) and callback.best_model_path:
                best = read_checkpoint(Path(callback.best_model_path))
                metrics = ", ".join(f"{name} {best['metrics'][name]:.4f}" for name in ("loss/val", "accuracy/val"))
                self._say(f"best:   epoch {best['epoch']}, {metrics} ({os.path.relpath(callback.best_model_path)})")
        if isinstance(self.trainer.logger, TensorBoardLogger):
            self._say(f"curves: tensorboard --logdir {os.path.relpath(self.trainer.logger.root_dir)}")

    def before_validate(self) -> None:
        """Says which checkpoint is evaluated."""
        assert self.checkpoint is not None
        self._say(f"checkpoint: {self.config[self.subcommand].ckpt_path} (epoch {self.checkpoint['epoch']})")

    def after_validate(self) -> None:
        """Says how good the checkpoint is."""
        self._say("  ".join(f"{name} {value:.4f}" for name, value in self.trainer.callback_metrics.items()))

    before_test = before_validate
    after_test = after_validate

    def _say(self, text: str) -> None:
        if self.trainer.is_global_zero:
            print(text)


def _plain(value: Any) -> Any:
    """Returns a value as YAML would hold it, so that a tuple equals the list that was typed."""
    return json.loads(json.dumps(value))


def main(args: list[str] | None = None) -> IrisCLI:
    """Runs one verb.

    Args:
        args: Command line arguments without the program's name; `None` means those of the process.

    Returns:
        The command line object, with its `trainer`, `model` and `datamodule`.

    Raises:
        SystemExit: With status 2 after a mistake of the user's, which is told on stderr.
    """
    silence_noise()
    try:
        return IrisCLI(args)
    except (UserError, MisconfigurationException) as error:
        fail(" ".join(str(error).split()))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
