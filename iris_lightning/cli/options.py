"""How options are resolved against the trained network that a command uses, and against each other."""

import inspect
import math
import os

from jsonargparse import Namespace

from iris_lightning.classifier import IrisClassifier
from iris_lightning.cli.source import Source
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError

__all__ = ["FIT_ONLY", "FROM_THE_TABLE", "GROUPS", "OVERRIDABLE", "resolve_optimizer", "take_from_source"]

GROUPS: dict[str, type] = {"data": IrisDataModule, "model": IrisClassifier}
FROM_THE_TABLE = {"feature_names", "class_names", "impute"}  # parameters of the classifier that are no options
FIT_ONLY = {  # options without a part in an evaluation
    *("seed_everything", "optimizer", "lr_scheduler", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time"),
    *("trainer.min_epochs", "trainer.min_steps", "trainer.limit_train_batches", "trainer.overfit_batches"),
    *("trainer.check_val_every_n_epoch", "trainer.val_check_interval", "trainer.num_sanity_val_steps"),
    *("trainer.log_every_n_steps", "trainer.enable_checkpointing", "trainer.accumulate_grad_batches"),
    *("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.enable_autolog_hparams"),
}
# What may differ from the checkpoint that a command uses: what no result depends on, and which table is evaluated.
EVALUATION = {"num_workers", "batch_size", "path", "target", "missing", "decimal_comma", "separator", "na_values"}
OVERRIDABLE = {"fit": {"num_workers"}, "validate": EVALUATION, "test": EVALUATION}


def resolve_optimizer(options: Namespace, given: Namespace) -> None:
    """Makes `--optimizer`, `--lr_scheduler` and the model's own options agree, of which LightningCLI ignores some."""
    if options.lr_scheduler and not options.optimizer:
        adam = Namespace(lr=options.model.lr, weight_decay=options.model.weight_decay)
        options.optimizer = Namespace(class_path="torch.optim.Adam", init_args=adam)
    typed = given.get("model") or Namespace()
    for name, least in (("lr", math.ulp(0.0)), ("weight_decay", 0.0)):
        if not options.optimizer or name not in options.optimizer.init_args:
            continue
        used = options.optimizer.init_args[name]
        if used is None or not least <= used < math.inf:
            bound = "above 0" if least else "of at least 0"
            raise UserError(f"--optimizer.{name}: expected a finite number {bound}, got {used}")
        if typed.get(name, used) != used:
            raise UserError(f"--model.{name} {typed[name]}: has no effect beside --optimizer; use --optimizer.{name}")
        options.model[name] = used  # what the checkpoint will say


def take_from_source(command: str, options: Namespace, given: Namespace, source: Source) -> None:
    """Takes the options of a trained network from it, and refuses typed ones that contradict a checkpoint.

    Training from weights keeps the options of the network, which the weights then must fit.
    """
    for group, trained in source.options().items():
        names = inspect.signature(GROUPS[group]).parameters.keys()
        if source.checkpoint and (odd := trained.keys() ^ names):
            raise UserError(f"{source.path}: the option {min(map(str, odd))[:80]!r} is missing or unknown; refused")
        if not source.checkpoint and command == "fit" and group == "model":
            continue
        typed = given.get(group) or Namespace()
        for name, value in trained.items():
            if name in FROM_THE_TABLE:
                continue
            if name not in typed or (name == "features" and _same_inputs(typed[name] or [], value or [])):
                options[group][name] = value
            elif source.checkpoint and name not in OVERRIDABLE[command] and typed[name] != value:
                kept = f"{source.path} was trained with {'null' if value is None else value}"
                raise UserError(f"--{group}.{name} {typed[name]}: {kept}, and {command} has to keep that; leave it out")
    path = options.data.path
    if path not in (None, given.get("data.path")) and not os.path.exists(path):
        raise UserError(f"{source.path} was trained with {path}: no such file here", remedy=("path", "FILE"))


def _same_inputs(features: list[str], trained: list[str]) -> bool:
    """Whether these are the features of the training, where a column may stand for its categories."""
    return trained == [name for column in features for name in trained if f"{name}=".startswith(f"{column}=")]
