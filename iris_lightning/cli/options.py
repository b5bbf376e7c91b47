"""The options of each command.

Those of model, data and Trainer are the parameters of their classes; all others are the parameters
of the function of a command below.
"""

import inspect
from collections.abc import Callable

import lightning as L

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.hyperparameters import option_names

GROUPS: dict[str, type] = {"model": IrisClassifier, "data": IrisDataModule, "trainer": L.Trainer}
TRAINER_DEFAULTS = {
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}
BATCH_LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
# Options of the Trainer that have no effect on this model and data, or do not work with them.
HIDDEN = {
    *("barebones", "limit_predict_batches", "limit_test_batches", "model_registry"),
    *("reload_dataloaders_every_n_epochs", "sync_batchnorm", "use_distributed_sampler"),
}
ALLOWED = {  # by other commands than `fit`
    *("accelerator", "precision", "deterministic", "benchmark", "inference_mode", "profiler"),
    *("default_root_dir", "enable_progress_bar"),
}
ALLOWED_IN_EVALUATION = ALLOWED | {"devices", "strategy", "num_nodes", "callbacks"}
ALLOWED_IN_FOLDS = ALLOWED | {
    *("max_epochs", "gradient_clip_val", "gradient_clip_algorithm"),
    *("accumulate_grad_batches", "detect_anomaly"),
}
SPLIT = {"split", "split_seed", "stratify"}


def fit(
    seed_everything: int = 20,
    ckpt_path: str | None = None,
    weights: str | None = None,
    name: str | None = None,
    figures: bool = True,
    threads: int | None = None,
) -> None:
    """Options of `fit`.

    Args:
        seed_everything: Seed of the initial weights and of the order of the train rows.
        ckpt_path: Run to resume: last, for the newest, or the last.ckpt of one.
        weights: Weights to start from: .pth or .safetensors.
        name: Name of the run: its folder is lightning_logs/NAME/version_N/.
        figures: Whether to draw plots at the end, for TensorBoard.
        threads: Threads of PyTorch; by default one for small batches.
    """


def evaluate(ckpt_path: str | None = None, threads: int | None = None) -> None:
    """Options of `validate` and `test`.

    Args:
        ckpt_path: Checkpoint to use: best or last of the newest run, or a file. By default best.
        threads: Threads of PyTorch; by default one for small batches.
    """


def crossvalidate(
    seed_everything: int = 20,
    name: str | None = None,
    figures: bool = True,
    folds: int = 10,
    repeats: int = 10,
    fold_seed: int = 0,
    max_parallel: int | None = None,
    baselines: bool = False,
) -> None:
    """Options of `crossvalidate`.

    Args:
        seed_everything: Seed of the initial weights and of the order of the train rows.
        name: Name of the run: its folder is lightning_logs/NAME/version_N/.
        figures: Whether to draw plots at the end, for TensorBoard.
        folds: Folds of each repeat.
        repeats: Repeats, each with other folds.
        fold_seed: Seed of the folds, as scikit-learn's random_state.
        max_parallel: Folds to train at once; the results do not depend on it.
        baselines: Whether to evaluate scikit-learn's classifiers on the same folds.
    """


COMMANDS: dict[str, Callable[..., None]] = {
    "fit": fit,
    "validate": evaluate,
    "test": evaluate,
    "crossvalidate": crossvalidate,
}


def skipped(command: str, group: str) -> set[str]:
    """Returns the parameters of a group's class that are no options of a command."""
    names = {*option_names(GROUPS[group])}
    evaluates = command in ("validate", "test")
    if group == "model":  # the checkpoint or the table decides
        return names if evaluates else {"feature_names", "class_names", "impute"}
    if group == "data" and command == "crossvalidate":
        return SPLIT | {"num_workers"}
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
