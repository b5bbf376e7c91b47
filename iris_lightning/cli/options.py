"""How the options of a command are resolved against the trained network that it uses, and against each other."""

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from jsonargparse import Namespace

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.weights.reading import Weights

__all__ = ["GROUPS", "check_values", "resolve_optimizer", "take_from_checkpoint", "take_from_weights"]

GROUPS: dict[str, type] = {"data": IrisDataModule, "model": IrisClassifier}
# What may differ from the checkpoint that a command uses: what no result depends on, and which table is evaluated.
EVALUATION = {"num_workers", "batch_size", "path", "target", "missing", "decimal_comma"}
OVERRIDABLE = {"fit": {"num_workers"}, "validate": EVALUATION, "test": EVALUATION}


def check_values(options: Namespace) -> None:
    """Refuses values that Lightning or a class would misunderstand.

    Raises:
        UserError: If a value is out of range, or null where the class has no null.
    """
    seed = options.seed_everything
    if seed is None or not 0 <= seed < 2**32:
        raise UserError(f"--seed_everything: expected a whole number from 0 to {2**32 - 1}, got {_plain(seed)}")
    for group, kind in GROUPS.items():
        for name, parameter in inspect.signature(kind).parameters.items():
            if options[group].get(name, 0) is None and type(None) not in get_args(parameter.annotation):
                raise UserError(f"--{group}.{name}: expected a value, got null")


def resolve_optimizer(options: Namespace, given: Namespace) -> None:
    """Makes `--optimizer`, `--lr_scheduler` and the model's own optimizer options agree.

    LightningCLI ignores a scheduler without an optimizer, and the model's options beside an optimizer.

    Raises:
        UserError: If a typed value would have no effect or is out of range.
    """
    if options.lr_scheduler and not options.optimizer:
        adam = Namespace(lr=options.model.lr, weight_decay=options.model.weight_decay)
        options.optimizer = Namespace(class_path="torch.optim.Adam", init_args=adam)
    if not options.optimizer:
        return
    typed = given.get("model") or Namespace()
    for name, least in (("lr", math.ulp(0.0)), ("weight_decay", 0.0)):
        if name not in options.optimizer.init_args:
            continue
        used = options.optimizer.init_args[name]
        if used is None or not least <= used < math.inf:
            bound = "above 0" if least else "of at least 0"
            raise UserError(f"--optimizer.{name}: expected a finite number {bound}, got {_plain(used)}")
        if typed.get(name, used) != used:
            raise UserError(f"--model.{name} {typed[name]}: has no effect beside --optimizer; use --optimizer.{name}")
        options.model[name] = used  # what the checkpoint will say


def take_from_checkpoint(
    command: str, options: Namespace, given: Namespace, checkpoint: Mapping[str, Any], path: Path
) -> None:
    """Takes the options that belong to a checkpoint from it, and refuses typed ones that contradict it.

    Raises:
        UserError: If a typed option contradicts the checkpoint, or the checkpoint has other options.
    """
    for group, source in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        trained = checkpoint[source]
        if odd := trained.keys() ^ inspect.signature(GROUPS[group]).parameters.keys():
            raise UserError(f"{path}: {source}: {min(map(str, odd))[:80]!r} is missing or unknown; refused")
        typed = given.get(group) or Namespace()
        for name, _ in options[group].items():
            if name not in typed:
                options[group][name] = trained[name]
            elif name not in OVERRIDABLE[command] and _plain(typed[name]) != _plain(trained[name]):
                raise UserError(
                    f"--{group}.{name} {_plain(typed[name])}: {path} was trained with {_plain(trained[name])}, "
                    f"and {command} has to keep that; leave the option out"
                )


def take_from_weights(command: str, options: Namespace, given: Namespace, weights: Weights) -> None:
    """Takes the names from a file of weights that knows them, and for all but `fit` the network's shape as well.

    `fit` trains the network that its options describe, so a file of another network is a mistake there.
    """
    if weights.feature_names is None:
        return
    found: dict[str, dict[str, Any]] = {"data": {"features": weights.feature_names}}
    if command != "fit":
        found["model"] = {name: getattr(weights, name) for name in ("hidden", "activation", "standardize")}
    for group, values in found.items():
        for name, value in values.items():
            if name not in (given.get(group) or Namespace()):
                options[group][name] = value


def _plain(value: Any) -> Any:
    """Returns a value as YAML would hold it, so that a tuple equals the list that was typed."""
    return "null" if value is None else json.loads(json.dumps(value, default=str))
