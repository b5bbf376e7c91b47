"""The options of each command.

Options of the model, the data and the Trainer are the parameters of their classes. All others are
the parameters of the functions below.
"""

import inspect
from collections.abc import Callable
from typing import Literal

import lightning as L

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.hyperparameters import option_names

GROUPS: dict[str, type] = {"model": IrisClassifier, "data": IrisDataModule, "trainer": L.Trainer}
TRAINER_DEFAULTS = {
    "log_every_n_steps": 1,  # Lightning warns if an epoch has fewer batches
    "num_sanity_val_steps": 0,  # the first validation runs soon enough
    "enable_model_summary": False,
    "devices": 1,
}
BATCH_LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
# Trainer options that have no effect on this model and data, or do not work with them.
HIDDEN = {
    *("barebones", "limit_predict_batches", "limit_test_batches", "model_registry"),
    *("reload_dataloaders_every_n_epochs", "sync_batchnorm", "use_distributed_sampler"),
}
ALLOWED = {  # in all commands
    *("accelerator", "precision", "deterministic", "benchmark", "inference_mode", "profiler"),
    *("default_root_dir", "enable_progress_bar"),
}
ALLOWED_IN_EVALUATION = ALLOWED | {"devices", "strategy", "num_nodes", "callbacks"}
ALLOWED_IN_FOLDS = ALLOWED | {
    *("max_epochs", "callbacks", "gradient_clip_val", "gradient_clip_algorithm"),
    *("accumulate_grad_batches", "detect_anomaly"),
}
SET_BY_TABLE = {"feature_names", "class_names", "impute", "one_hot_features"}
SPLIT = {"split", "split_seed", "stratify"}


def fit(
    seed_everything: int = 20,
    ckpt_path: str | None = None,
    weights: str | None = None,
    members: int = 1,
    name: str | None = None,
    figures: bool = True,
    threads: int | None = None,
) -> None:
    """Options of `fit`.

    Args:
        seed_everything: Seed of the initial weights and the order of the train rows.
        ckpt_path: Run to resume: last for the newest run, or the path of a last.ckpt.
        weights: Weights to start from: a .pth or .safetensors file.
        members: Number of networks to train, whose probabilities are averaged; each is trained
            without one fold of the train and validation rows.
        name: Name of the run; its folder is lightning_logs/NAME/version_N/.
        figures: Whether to add plots to TensorBoard at the end.
        threads: Number of PyTorch threads; by default 1 for small batches.
    """


def evaluate(ckpt_path: str | None = None, threads: int | None = None) -> None:
    """Options of `validate` and `test`.

    Args:
        ckpt_path: Checkpoint: best or last of the newest run, or a file. By default best.
        threads: Number of PyTorch threads; by default 1 for small batches.
    """


def crossvalidate(
    seed_everything: int = 20,
    name: str | None = None,
    figures: bool = True,
    folds: int = 10,
    repeats: int = 10,
    fold_seed: int = 0,
    members: int = 1,
    choose: Literal["best", "last"] = "best",
    max_parallel: int | None = None,
    baselines: bool = False,
    keep: bool = False,
) -> None:
    """Options of `crossvalidate`.

    Args:
        seed_everything: Seed of the initial weights and the order of the train rows.
        name: Name of the run; its folder is lightning_logs/NAME/version_N/.
        figures: Whether to add plots to TensorBoard at the end.
        folds: Number of folds per repeat.
        repeats: Number of repeats, each with different folds.
        fold_seed: Seed of the folds, like scikit-learn's random_state.
        members: Number of networks to train per fold, whose probabilities are averaged.
        choose: Weights to keep: those of the epoch with the best validation loss, as in fit, or
            those of the last, trained on all rows that are not held out.
        max_parallel: Number of folds to train at once; it does not change the results.
        baselines: Whether to evaluate scikit-learn classifiers on the same folds.
        keep: Whether to keep the networks, for predict --run.
    """


COMMANDS: dict[str, Callable[..., None]] = {
    "fit": fit,
    "validate": evaluate,
    "test": evaluate,
    "crossvalidate": crossvalidate,
}


def skipped(command: str, group: str) -> set[str]:
    """Returns the parameters of a group's class that are not options of a command."""
    names = {*option_names(GROUPS[group])}
    evaluates = command in ("validate", "test")
    if group == "model":  # set by the checkpoint or the table
        return names if evaluates else SET_BY_TABLE
    if group == "data" and command == "crossvalidate":
        return {"num_workers"}
    if group == "data":
        return SPLIT | {"features", "exclude", "categorical"} if evaluates else set()
    if command == "fit":
        return HIDDEN
    if command == "crossvalidate":
        return names - ALLOWED_IN_FOLDS
    split = "val" if command == "validate" else "test"
    return names - ALLOWED_IN_EVALUATION - {f"limit_{split}_batches"}


def known_options() -> set[str]:
    """Returns the names of the options of all commands."""
    names = {"optimizer", "lr_scheduler"}
    for function in COMMANDS.values():
        names.update(inspect.signature(function).parameters)
    for group, kind in GROUPS.items():
        names.update(f"{group}.{name}" for name in option_names(kind))
    return names
