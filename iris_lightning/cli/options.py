"""Which options each command has, and how they are resolved against each other."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from jsonargparse import Namespace

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError

__all__ = [
    "FOLDS",
    "GROUPS",
    "RESUMED",
    "TRAINER_DEFAULTS",
    "check_trainer",
    "general_options",
    "keep",
    "known_options",
    "skipped",
]

GROUPS: dict[str, type] = {"model": IrisClassifier, "data": IrisDataModule, "trainer": L.Trainer}
FROM_THE_TABLE = {"feature_names", "class_names", "impute"}
TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}
HIDDEN = {  # they have no effect on this model and data, or do not work with them
    *("barebones", "limit_predict_batches", "model_registry"),
    *("reload_dataloaders_every_n_epochs", "sync_batchnorm", "use_distributed_sampler"),
}
TRAINING = {  # options of the Trainer that an evaluation has no use for
    *("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps", "enable_checkpointing"),
    *("limit_train_batches", "overfit_batches", "check_val_every_n_epoch", "val_check_interval"),
    *("num_sanity_val_steps", "log_every_n_steps", "accumulate_grad_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "enable_autolog_hparams"),
}
FOLDS_TRAINER = {  # those that a cross-validation has: one process trains all folds
    *("max_epochs", "accelerator", "precision", "gradient_clip_val", "gradient_clip_algorithm"),
    *("deterministic", "accumulate_grad_batches", "benchmark", "detect_anomaly"),
    *("inference_mode", "profiler", "default_root_dir", "enable_progress_bar"),
}
SPLIT = {"split", "split_seed", "stratify"}
SEED: dict[str, Any] = {"seed_everything": 20}
FOLDS: dict[str, Any] = {
    "folds": 10,
    "repeats": 10,
    "fold_seed": 0,
    "max_parallel": None,
    "baselines": False,
}
# What may be typed to resume a run, beside the options of the Trainer.
RESUMED = {"ckpt_path", "data.path", "data.num_workers"}
AT_LEAST = {
    "max_epochs": -1,
    "max_steps": -1,
    "num_sanity_val_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
}


def general_options(command: str) -> dict[str, Any]:
    """Returns the options of a command that belong to no group, and their defaults."""
    if command == "crossvalidate":
        return {**SEED, "name": None, "figures": True, **FOLDS}
    if command == "fit":
        start = {"ckpt_path": None, "weights": None}
        return {**SEED, **start, "name": None, "figures": True, "threads": None}
    return {"ckpt_path": None, "threads": None}


def skipped(command: str, group: str) -> set[str]:
    """Returns the parameters of a group's class that are no options of a command."""
    names = {*inspect.signature(GROUPS[group]).parameters}
    evaluates = command in ("validate", "test")
    if group == "model":
        return names if evaluates else FROM_THE_TABLE  # the checkpoint decides
    if group == "data":
        if command == "crossvalidate":
            return SPLIT | {"num_workers"}
        return SPLIT | {"features"} if evaluates else set()
    if command == "crossvalidate":
        return names - FOLDS_TRAINER
    if command == "fit":
        return HIDDEN | {"limit_test_batches"}
    other = "limit_test_batches" if command == "validate" else "limit_val_batches"
    return HIDDEN | TRAINING | {other}


def known_options() -> set[str]:
    """Returns the names of the options of all commands."""
    names: set[str] = {"optimizer", "lr_scheduler"}
    for command in ("fit", "test", "crossvalidate"):
        names.update(general_options(command))
    for group, kind in GROUPS.items():
        names.update(f"{group}.{name}" for name in inspect.signature(kind).parameters)
    return names


def keep(options: Mapping[str, Any], wanted: Callable[[str], bool], prefix: str = "") -> Any:
    """Returns the options of a config whose names, such as `trainer.max_epochs`, are wanted."""
    kept = {}
    for name, value in options.items():
        path = f"{prefix}{name}"
        if path in GROUPS and isinstance(value, dict):
            kept[name] = keep(value, wanted, f"{path}.")
        elif wanted(path):
            kept[name] = value
    return kept


def check_trainer(options: Namespace, given: Namespace) -> None:
    """Settles how long to train, and refuses numbers that Lightning ignores.

    Args:
        options: The options of the Trainer.
        given: Those that are not defaults.
    """
    limited = given.get("max_steps", -1) != -1 or given.get("max_time") is not None
    if limited and "max_epochs" not in given:
        options.max_epochs = -1
    for name, least in AT_LEAST.items():
        value = options.get(name)
        if value is not None and value < least:
            raise UserError(f"--trainer.{name} {value}: expected a number of at least {least}")
    if options.max_epochs is None:
        raise UserError("--trainer.max_epochs null: expected a number")
    for unit in ("epochs", "steps"):
        fewest = options.get(f"min_{unit}") or 0
        most = options.get(f"max_{unit}", -1)
        if -1 != most < fewest:
            found = f"--trainer.min_{unit} {fewest}: more than --trainer.max_{unit}"
            raise UserError(f"{found}, which is {most}")
