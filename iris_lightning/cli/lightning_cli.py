"""LightningCLI for `fit`, `validate` and `test`: options, and the objects that they describe."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from iris_lightning.classifier import IrisClassifier
from iris_lightning.cli.console import EpochLines
from iris_lightning.cli.options import (
    GROUPS,
    check_values,
    resolve_optimizer,
    take_from_checkpoint,
    take_from_weights,
)
from iris_lightning.cli.parsing import as_user_error, parse
from iris_lightning.cli.source import Source, find_source
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.runs.checkpoints import epochs_done, run_of
from iris_lightning.runs.saving import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint, RunConfig, RunLogger
from iris_lightning.runs.seeding import SeedEpochs
from iris_lightning.runs.stopping import StopOnSignal

__all__ = ["IrisCLI"]

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}


class IrisCLI(LightningCLI):
    """LightningCLI without commands of its own, in which a checkpoint never silently wins over what the user typed.

    Args:
        command: What the options are for: `fit`, `validate` or `test`.
        args: The arguments after the command.

    Attributes:
        given: The options that the user gave, in files or on the command line.
        source: The trained network in use, if there is one.
        run: The folder of the run that is resumed, if one is.
    """

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
            seed_everything_default=20,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={"prog": f"iris_lightning {command}", "exit_on_error": False, "allow_abbrev": False},
            save_config_callback=RunConfig if command == "fit" else None,
            save_config_kwargs={"overwrite": True},  # that of the run to be resumed
            load_from_checkpoint_support=False,  # it would write the name of a function to call into checkpoints
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options that belong to no class."""
        seed = "Seed of the run: of the initial weights and of the order of the train rows."
        parser.add_argument("--seed_everything", type=int, default=self.seed_everything_default, help=seed)
        checkpoint = "Checkpoint: best or last of the newest run, or a file. "
        checkpoint += "The run goes on from it." if self.command == "fit" else "By default best."
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=checkpoint)
        weights = "Weights to start from: .pth or .safetensors, of export or of the lesson."
        parser.add_argument("--weights", type=str | None, default=None, help=weights)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of model, data and Trainer; the network's inputs and outputs follow from the table."""
        parser.add_lightning_class_args(L.Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        for group, kind in GROUPS.items():
            parser.add_class_arguments(kind, group, skip={"feature_names", "class_names"}, instantiate=False)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments, and resolves them against the checkpoint or the weights in use."""
        self.config = parse(parser, args)
        self.given = parse(parser, args, defaults=False)
        ckpt_path, weights = self.given.get("ckpt_path"), self.given.get("weights")
        self.source: Source | None = None
        self.run: Path | None = None
        if self.command != "fit" or ckpt_path is not None or weights is not None:
            self.source = find_source(ckpt_path, weights, self.config.trainer.default_root_dir)
        if self.source and self.source.checkpoint:
            if self.command == "fit":
                self.run = run_of(self.source.path, self.source.checkpoint)
                self._take_from_run(parser, args, self.run)
            take_from_checkpoint(self.command, self.config, self.given, self.source.checkpoint, self.source.path)
        elif self.source:
            take_from_weights(self.command, self.config, self.given, self.source.weights)
        check_values(self.config)
        if self.command == "fit":
            resolve_optimizer(self.config, self.given)

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
        with as_user_error():
            self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self._build("data")
        known: dict[str, Any] = {}
        if self.source and self.source.checkpoint:
            known = self.source.checkpoint["IrisDataModule"]
        elif self.source and self.source.weights.feature_names and self.command != "fit":
            known = {name: getattr(self.source.weights, name) for name in ("feature_names", "class_names")}
        self.datamodule.load_state_dict(known)  # before the table is read
        self.model = self._build("model", self.datamodule.feature_names, self.datamodule.class_names)
        self.model.trained_on = known
        if self.source and not self.source.checkpoint:
            try:
                self.source.weights.fill(self.model.network)
            except ValueError as error:
                raise UserError(f"{self.source.path}: {error}", "weights") from error
        with as_user_error("--optimizer or --lr_scheduler: "):
            self._add_configure_optimizers_method_to_model(None)  # LightningCLI has no public name for it
        self.trainer = self.instantiate_trainer()

    def _build(self, group: str, *args: Any) -> Any:
        try:
            return GROUPS[group](*args, **self.config[group])
        except ValueError as error:
            unknown = self.source and not self.given.get(group)  # to the user, who typed no such option
            raise UserError(
                f"{self.source.path}: {error}" if self.source and unknown else f"--{group}.{error}"
            ) from error
        except RuntimeError as error:  # from torch: too large for this machine
            raise UserError(f"--{group}: {str(error).splitlines()[0]}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Builds the Trainer with this project's logger and callbacks beside the user's own."""
        options: Namespace = self.config_init.trainer
        own: list[Callback] = []
        if options.barebones:
            kwargs["log_every_n_steps"] = None
        else:
            callbacks = _as_list(options.callbacks)
            if options.enable_progress_bar is None and not any(isinstance(item, ProgressBar) for item in callbacks):
                kwargs["enable_progress_bar"] = sys.stdout.isatty()
            if options.logger in (None, True):
                with as_user_error("--trainer.default_root_dir: "):
                    kwargs["logger"] = self._logger(options.default_root_dir or ".") if self.command == "fit" else False
            if self.command == "fit":
                own += [EpochLines(), SeedEpochs(), StopOnSignal()]
                kwargs["plugins"] = [*_as_list(options.plugins), AtomicCheckpointIO()]
                if options.enable_checkpointing is not False and not options.fast_dev_run:
                    own += [BestCheckpoint(), LastCheckpoint()]
            kwargs["callbacks"] = [*callbacks, *own]
        if not kwargs.get("logger", options.logger):
            self.save_config_callback = None  # there is no run folder
        with as_user_error(self.typed("trainer")):
            return super().instantiate_trainer(**kwargs)

    def typed(self, group: str) -> str:
        """Returns the options of a group that the user gave, as the start of a message."""
        options = [f"--{group}.{name} {value}" for name, value in (self.given.get(group) or Namespace()).items()]
        return f"{' '.join(options)}: " if options else ""

    def _logger(self, root: str) -> RunLogger:
        if not self.run:
            return RunLogger(root, default_hp_metric=False)
        assert self.source
        assert self.source.checkpoint
        # A killed run may have points of the epoch to be repeated, and lack some of the one before: `EpochRecord`.
        first = max(0, epochs_done(self.source.checkpoint) - 1)
        place = self.run.parent.parent, self.run.parent.name, self.run.name
        return RunLogger(*place, default_hp_metric=False, purge_step=first)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
