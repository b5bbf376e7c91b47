"""What is settled before a verb runs: which values make sense, agree with each other, and belong to a checkpoint."""

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from jsonargparse import Namespace

from iris_lightning.classifier import METRICS
from iris_lightning.errors import UserError, closest
from iris_lightning.weights import Weights

__all__ = ["check_monitor", "check_values", "settle_optimizer", "take_from_checkpoint", "take_from_weights"]

# The Trainer's options that Lightning takes as they are, and the least value of each.
AT_LEAST = {
    "max_epochs": 1,
    "min_epochs": 0,
    "check_val_every_n_epoch": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
}
# What may differ from the checkpoint that a verb uses: what no result depends on, and which table is evaluated.
EVALUATION = {"num_workers", "batch_size", "path", "target", "missing", "decimal_comma"}
FREE = {
    "fit": {"num_workers"},
    "validate": EVALUATION,
    "test": EVALUATION,
    "predict": {"target", "decimal_comma"},
    "export": set(),
}
# What no checkpoint holds: further files.
FILES = {"weights", "predict_path"}
PARTS = {"fit": "train", "validate": "val", "test": "test"}


def check_values(verb: str, options: Namespace, kinds: Mapping[str, type]) -> None:
    """Refuses values that Lightning or a class would misunderstand, before anything is built.

    Args:
        verb: The subcommand.
        options: Its options.
        kinds: The class behind each group of options.

    Raises:
        UserError: If a value is out of range, or null where the class has no null.
    """
    seed = options.seed_everything
    if seed is None or not 0 <= seed < 2**32:
        raise UserError(f"--seed_everything: expected a whole number from 0 to {2**32 - 1}, got {_plain(seed)}")
    for key, least in AT_LEAST.items():
        value = options.trainer[key]
        if value is not None and not value >= least:
            raise UserError(f"--trainer.{key}: expected at least {least}, got {value}")
    if options.trainer.max_steps != -1 and options.trainer.max_steps < 1:
        raise UserError(
            f"--trainer.max_steps: expected at least 1, or -1 for no limit, got {options.trainer.max_steps}"
        )
    for key in (f"limit_{PARTS.get(verb, 'predict')}_batches", "val_check_interval"):
        value = options.trainer[key]
        if isinstance(value, int | float) and value <= 0:
            raise UserError(f"--trainer.{key}: expected more than 0, got {value}")
    for group, kind in kinds.items():
        parameters = inspect.signature(kind).parameters
        for key, value in options[group].items():
            if verb == "predict" and key == "predict_path" and value is None:
                raise UserError("--data.predict_path: expected a table to predict, got null")
            if value is None and type(None) not in get_args(parameters[key].annotation):
                raise UserError(f"--{group}.{key}: expected a value, got null")


def settle_optimizer(options: Namespace, given: Namespace) -> None:
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
    for key, least in (("lr", math.ulp(0.0)), ("weight_decay", 0.0)):
        if key not in options.optimizer.init_args:
            continue
        used = options.optimizer.init_args[key]
        if used is None or not least <= used < math.inf:
            bound = "above 0" if least else "of at least 0"
            raise UserError(f"--optimizer.{key}: expected a finite number {bound}, got {_plain(used)}")
        if typed.get(key, used) != used:
            raise UserError(f"--model.{key} {typed[key]}: has no effect beside --optimizer; use --optimizer.{key}")
        options.model[key] = used  # what the checkpoint will say


def check_monitor(option: str, name: str | None) -> None:
    """Refuses a metric that nothing logs, before the first epoch is spent.

    Raises:
        UserError: If there is no such metric.
    """
    known = [f"{metric}/{part}" for part in ("train", "val") for metric in METRICS] + ["epoch", "step"]
    if name is not None and name not in known:
        raise UserError(f"{option}: expected one of {', '.join(known)}, got {name!r}{closest(name, known)}")


def take_from_checkpoint(
    verb: str, options: Namespace, given: Namespace, checkpoint: Mapping[str, Any], path: Path
) -> None:
    """Takes the options that belong to a checkpoint from it, and refuses typed ones that contradict it.

    Raises:
        UserError: If a typed option contradicts the checkpoint.
    """
    if (given.get("model") or Namespace()).get("weights") is not None:
        raise UserError(f"--model.weights: has no effect beside the weights of {path}; leave one of them out")
    for group, source in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        typed = given.get(group) or Namespace()
        for key in [key for key, _ in options[group].items() if key not in FILES]:
            value = checkpoint[source][key]
            if key not in typed:
                options[group][key] = value
            elif key not in FREE[verb] and _plain(typed[key]) != _plain(value):
                raise UserError(
                    f"--{group}.{key} {_plain(typed[key])}: {path} was trained with {_plain(value)}, "
                    f"and {verb} has to keep that; leave the option out"
                )


def take_from_weights(verb: str, options: Namespace, given: Namespace, weights: Weights) -> None:
    """Takes the names from a file of weights that knows them, and for all but `fit` the network's shape as well.

    `fit` trains the network that its options describe, so a file of another network is a mistake there.
    """
    if weights.feature_names is None:
        return
    found: dict[str, dict[str, Any]] = {"data": {"features": weights.feature_names}}
    if verb != "fit":
        found["model"] = {key: getattr(weights, key) for key in ("hidden", "activation", "standardize")}
    for group, values in found.items():
        for key, value in values.items():
            if key not in (given.get(group) or Namespace()):
                options[group][key] = value


def _plain(value: Any) -> Any:
    """Returns a value as YAML would hold it, so that a tuple equals the list that was typed."""
    return "null" if value is None else json.loads(json.dumps(value, default=str))
