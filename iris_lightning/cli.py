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
from iris_lightning.checkpoints import BestCheckpoint, LastCheckpoint, find_checkpoint, read_checkpoint, run_of
from iris_lightning.classifier import IrisClassifier
from iris_lightning.console import EpochLines, silence_noise
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError, closest
from iris_lightning.parser import IrisArgumentParser, fail

__all__ = ["IrisCLI", "main"]

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # it would repeat rows to make shares equal
}
# What may differ from the checkpoint that a verb uses: what no result depends on, and which table is evaluated.
EVALUATION = {"num_workers", "batch_size", "path", "target", "missing", "decimal_comma"}
FREE = {"fit": {"num_workers"}, "validate": EVALUATION, "test": EVALUATION}


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
        """Takes the network's inputs and outputs from the table."""
        for names in ("feature_names", "class_names"):
            parser.link_arguments(f"data.{names}", f"model.{names}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str] | None) -> None:  # type: ignore[override]
        """Parses the arguments: what was given, before what the run to be resumed had, before the defaults."""
        given = parser.parse_args(args, defaults=False)
        verb, self.given = given.subcommand, given[given.subcommand]
        name = self.given.get("ckpt_path") or (None if verb == "fit" else "best")
        root = (self.given.get("trainer") or Namespace()).get("default_root_dir")
        self.path = find_checkpoint(name, Path(root or ".")) if name else None
        self.run = run_of(self.path) if self.path and verb == "fit" else None
        before = self._parser(verb).parse_path(self.run / "config.yaml", defaults=False) if self.run else Namespace()
        self.config = parser.parse_args(args, namespace=Namespace({verb: before}))
        options = self.config[verb]
        for key in ("seed_everything", "optimizer", "lr_scheduler"):
            if self.run and options.get(key) != before.get(key):
                raise UserError(f"--{key}: {self.run} has another one, and a resumed run has to keep it; leave it out")
        if not 0 <= options.seed_everything < 2**32:
            raise UserError(
                f"--seed_everything: expected a whole number from 0 to {2**32 - 1}, got {options.seed_everything}"
            )

    def _parse_ckpt_path(self) -> None:
        """Takes the options that belong to a checkpoint from it.

        Lightning's own version lets the checkpoint silently win over what was typed.
        """
        self.checkpoint = read_checkpoint(self.path) if self.path else None
        if self.checkpoint is None:
            return
        verb = self.config.subcommand
        options = self.config[verb]
        options.ckpt_path = str(self.path)
        for group, source in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
            given = self.given.get(group) or Namespace()
            for key, value in self.checkpoint[source].items():
                if key not in options[group]:
                    continue
                if key not in given:
                    options[group][key] = value
                elif key not in FREE[verb] and _plain(given[key]) != _plain(value):
                    raise UserError(
                        f"--{group}.{key} {_plain(given[key])}: {self.path} was trained with {_plain(value)}, "
                        f"and {verb} has to keep that; leave the option out"
                    )
        try:
            self.parser.validate(self.config)
        except (TypeError, KeyError) as error:
            raise UserError(f"{self.path}: its options do not fit: {error}") from error

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
                component = kind(*args, **kwargs)
            except ValueError as error:
                raise UserError(f"--{'data' if kind is IrisDataModule else 'model'}.{error}") from error
            if kind is IrisDataModule and self.checkpoint is not None:
                component.load_state_dict(self.checkpoint["IrisDataModule"])  # before the table is read
            return component

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
            self._check_table(self.checkpoint["datamodule_hyper_parameters"]["path"])

    def _check_shapes(self, theirs: dict[str, torch.Tensor]) -> None:
        ours = self.model.state_dict()
        for name in sorted(ours.keys() | theirs.keys()):
            shapes = [tuple(state[name].shape) if name in state else "nothing" for state in (theirs, ours)]
            if shapes[0] != shapes[1]:
                raise UserError(f"{self.path}: holds another network: {name} is {shapes[0]} there and {shapes[1]} here")

    def _check_table(self, path: str | None) -> None:
        if self.datamodule.is_another_table and (self.subcommand == "fit" or self.datamodule.hparams["path"] == path):
            raise UserError(
                f"{self.datamodule.hparams['path']}: the table is not the one that {self.path} was trained with; "
                "start a new run"
            )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Builds the Trainer with this project's logger and callbacks beside the user's own."""
        config = {**self._get(self.config_init, "trainer"), **kwargs}
        fits = self.subcommand == "fit"
        own: list[Callback] = []
        if config["barebones"]:
            config["log_every_n_steps"] = None
        else:
            if config["logger"] in (None, True):
                config["logger"] = self._logger(config["default_root_dir"] or ".") if fits else False
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

    def _logger(self, root: str) -> TensorBoardLogger:
        if self.run:  # goes on in its folder
            return TensorBoardLogger(
                self.run.parent.parent, self.run.parent.name, self.run.name, default_hp_metric=False
            )
        return TensorBoardLogger(root, default_hp_metric=False)

    def _check_monitor(self, option: str, name: str | None) -> None:
        """Refuses a metric that nothing logs, before the first epoch is spent."""
        known = [metric for metric in self.model.metrics if not metric.endswith("/test")]
        if name is not None and name not in known:
            raise UserError(f"{option}: expected one of {', '.join(known)}, got {name!r}{closest(name, known)}")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        verbose = {} if subcommand == "fit" else {"verbose": False}  # after_test prints the metrics instead
        return {**super()._prepare_subcommand_kwargs(subcommand), **verbose, "weights_only": True}

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "fit" and self.checkpoint and self.checkpoint["epoch"] + 1 >= (self.trainer.max_epochs or 1):
            self._say(
                f"nothing to do: {self.path} has finished {self.checkpoint['epoch'] + 1} of {self.trainer.max_epochs} "
                "epochs; raise --trainer.max_epochs to go on"
            )
            return
        try:
            super()._run_subcommand(subcommand)
        except (MisconfigurationException, TypeError, ValueError) as error:
            # Options that Lightning checks only when it runs. Anything else is a bug of ours.
            frames = list(traceback.walk_tb(error.__traceback__))
            if not str(frames[-1][0].f_globals["__name__"]).startswith("lightning.") or self.trainer.global_step:
                raise
            if isinstance(self.trainer.logger, TensorBoardLogger) and not self.run:
                shutil.rmtree(self.trainer.logger.log_dir, ignore_errors=True)
                with suppress(OSError):  # it holds other runs
                    os.rmdir(self.trainer.logger.root_dir)
            raise UserError(str(error)) from error

    def before_fit(self) -> None:
        """Says what is trained, on what."""
        table = self.datamodule.table
        shares = ", ".join(f"{len(rows)} {part}" for part, rows in self.datamodule.rows.items())
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self._say(
            f"{table.source}: {len(table.targets)} rows ({shares}), {len(table.feature_names)} features, "
            f"{len(table.class_names)} classes of {table.target!r}; "
            f"{parameters} parameters on {self.trainer.strategy.root_device}"
        )
        for note in table.notes:
            self._say(f"{table.source}: {note}")

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
        self._say(f"checkpoint: {self.path} (epoch {self.checkpoint['epoch']})")
        table = self.datamodule.table
        if self.datamodule.is_another_table:
            self._say(f"{table.source}: not the table of the checkpoint, so all of its {len(table.targets)} rows")

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
