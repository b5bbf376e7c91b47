"""How options are resolved against the trained network that a command uses, and against each other."""

import inspect
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from iris_lightning.classifier import IrisClassifier
from iris_lightning.cli.source import Source
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.files import shown
from iris_lightning.hyperparameters import to_yaml

__all__ = [
    "FOLDS",
    "FROM_THE_TABLE",
    "GROUPS",
    "OVERRIDABLE",
    "TRAINING",
    "WITHOUT_EFFECT",
    "check_unchanged",
    "refuse_in_folds",
    "refuse_without_effect",
    "resolve_optimizer",
    "take_from_source",
    "without_objects",
]

UNSERIALIZED = "Unable to serialize instance "  # in a config that jsonargparse writes
GROUPS: dict[str, type] = {"model": IrisClassifier, "data": IrisDataModule}
FROM_THE_TABLE = {"feature_names", "class_names", "impute"}  # parameters of the classifier that are no options
FIT_ONLY = {  # options without a part in an evaluation
    *("name", "figures"),
    *("seed_everything", "optimizer", "lr_scheduler", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time"),
    *("trainer.min_epochs", "trainer.min_steps", "trainer.limit_train_batches", "trainer.overfit_batches"),
    *("trainer.check_val_every_n_epoch", "trainer.val_check_interval", "trainer.num_sanity_val_steps"),
    *("trainer.log_every_n_steps", "trainer.enable_checkpointing", "trainer.accumulate_grad_batches"),
    *("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.enable_autolog_hparams"),
}
FOLDS = {"folds": 10, "repeats": 10, "fold_seed": 0, "max_parallel": None, "baselines": False}
# What has no part in a cross-validation: one process trains all folds, from the start to the end, and keeps figures.
NOT_IN_FOLDS = {
    *("ckpt_path", "weights", "trainer.callbacks", "trainer.max_steps", "trainer.max_time", "trainer.min_epochs"),
    *("trainer.min_steps", "trainer.limit_train_batches", "trainer.overfit_batches", "trainer.fast_dev_run"),
    *("trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.plugins", "trainer.logger"),
    *("trainer.limit_val_batches", "threads"),
}
TRAINING = {"model.class_weight", "model.lr", "model.weight_decay"}  # which weights know nothing of
WITHOUT_EFFECT = {
    "fit": {*FOLDS, "trainer.limit_test_batches"},
    "validate": {*FOLDS, *FIT_ONLY, "trainer.limit_test_batches"},
    "test": {*FOLDS, *FIT_ONLY, "trainer.limit_val_batches"},
    "crossvalidate": {
        *(NOT_IN_FOLDS | {"data.split", "data.split_seed", "data.stratify", "data.num_workers"}),
        *("trainer.limit_test_batches", "trainer.check_val_every_n_epoch"),
        *("trainer.val_check_interval", "trainer.num_sanity_val_steps", "trainer.log_every_n_steps"),
        *("trainer.enable_checkpointing", "trainer.enable_autolog_hparams", "trainer.enable_model_summary"),
    },
}
# What may differ from the checkpoint that a command uses: what no result depends on, and which table is evaluated.
EVALUATION = {"num_workers", "batch_size", "path", "target", "missing", "decimal_comma", "separator", "na_values"}
# A run to be resumed may find the same table elsewhere.
OVERRIDABLE = {"fit": {"num_workers", "path"}, "validate": EVALUATION, "test": EVALUATION}


def refuse_without_effect(command: str, names: Sequence[str], without: set[str]) -> None:
    """Refuses an option on the command line, of those with these names, that has no effect in a command."""
    for name in names:
        if name in without or name.split(".")[0] in without:
            raise UserError(f"--{name}: has no effect in {command}; leave it out")


def refuse_in_folds(given: Namespace, defaults: Namespace) -> None:
    """Refuses what a config asks for and a cross-validation cannot do."""
    for name in sorted(NOT_IN_FOLDS):
        if name in given and given[name] not in (None, defaults[name]):
            raise UserError(f"--{name}: has no effect in crossvalidate; leave it out")


def resolve_optimizer(options: Namespace, given: Namespace, names: Sequence[str]) -> None:
    """Makes `--optimizer`, `--lr_scheduler` and the model's own options agree, of which LightningCLI ignores some.

    `names` are the options on the command line: a default in a file is no wish, nor is what they replace.
    """
    if options.lr_scheduler and not options.optimizer:
        adam = Namespace(lr=options.model.lr, weight_decay=options.model.weight_decay)
        options.optimizer = Namespace(class_path="torch.optim.Adam", init_args=adam)
    typed = given.get("model") or Namespace()
    for name, least, default in (("lr", math.ulp(0.0), 1e-3), ("weight_decay", 0.0, 0.0)):
        if not options.optimizer:
            continue
        used = options.optimizer.init_args.get(name, default)
        wanted = typed.get(name, used)
        wished = f"model.{name}" in names or (wanted != default and f"optimizer.{name}" not in names)
        if wanted != used and wished:
            has = f"use --optimizer.{name}" if name in options.optimizer.init_args else "leave it out"
            raise UserError(f"--model.{name} {wanted}: has no effect beside --optimizer; {has}")
        if used is None or not least <= used < math.inf:
            bound = "above 0" if least else "of at least 0"
            raise UserError(f"--optimizer.{name}: expected a finite number {bound}, got {used}")
        options.model[name] = used  # what the checkpoint will say


def check_unchanged(config: Path, options: dict[str, Any], known: Any) -> None:
    """Refuses the options in the config of a run to be resumed if what the run keeps has been edited since."""
    for group, values in known.items() if isinstance(known, dict) else ():  # else of an older version
        for name, ours, theirs in _edited(group, options.get(group), values):
            if name.removeprefix("data.") not in OVERRIDABLE["fit"]:
                found = f"{shown(config)}: {name} is {json.dumps(ours)} now"
                kept = f"the run was trained with {json.dumps(theirs)}"
                raise UserError(f"{found}, and {kept}; put it back, or start a new run from this config")


def _edited(name: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in theirs:
            yield from _edited(f"{name}.{key}", ours.get(key), theirs[key])
    elif to_yaml(ours) != to_yaml(theirs):  # as texts: NaN is not itself
        yield name, ours, theirs


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
            by_default = name in ("path", "target", "features") and typed.get(name) is None
            if name not in typed or by_default or (name == "features" and _same_inputs(typed[name], value or [])):
                options[group][name] = value
            elif name not in OVERRIDABLE[command] and typed[name] != value and (source.checkpoint or command != "fit"):
                kept = f"{source.path} was trained with {'null' if value is None else value}"
                found = f"--{group}.{name} {typed[name]}: {kept}, and {command} has to keep that"
                anew = ", or export the weights and start from them (--weights)" if command == "fit" else ""
                raise UserError(f"{found}; leave it out{anew}")
    path = options.data.path
    if path not in (None, given.get("data.path")) and not os.path.exists(path):
        raise UserError(f"{source.path} was trained with {path}: no such file here", remedy=("path", "FILE"))


def _same_inputs(features: list[str], trained: list[str]) -> bool:
    """Whether these are the features of the training, where a column may stand for its categories."""
    return trained == [name for column in features for name in trained if f"{name}=".startswith(f"{column}=")]


def without_objects(options: Any) -> Any:
    """Leaves out the options that are objects, and takes the others by their names, as `cpu`."""
    if isinstance(options, dict):
        items = [(key, without_objects(value)) for key, value in options.items()]
        return {key: value for key, value in items if not str(value).startswith(UNSERIALIZED)}
    if isinstance(options, list):
        return [without_objects(value) for value in options]
    name = str(options).removeprefix(UNSERIALIZED)
    return name if name != str(options) and re.fullmatch(r"[\w.:-]+", name) else options
