"""The options of each command.

Options of the model, the data and the Trainer are the parameters of their classes. LightningCLI
adds `config`, `optimizer` and `lr_scheduler`. All others are the parameters of the functions below.
"""

import inspect
from collections.abc import Callable
from typing import Literal

import lightning as L
from jsonargparse.typing import PositiveInt

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.hyperparameters import option_names

GROUPS: dict[str, type] = {"model": IrisClassifier, "data": IrisDataModule, "trainer": L.Trainer}
TRAINER_DEFAULTS = {
    "log_every_n_steps": 1,  # Lightning warns if an epoch has fewer steps
    "num_sanity_val_steps": 0,  # the first validation runs soon enough
    "enable_model_summary": False,
    "enable_progress_bar": True,
    "devices": 1,
}
BATCH_LIMITS = ("limit_train_batches", "limit_val_batches")
FROM_TABLE = {"feature_names", "class_names", "impute", "one_hot_features"}
SPLIT = {"split", "split_seed", "stratify"}
COLUMNS = {"features", "exclude", "categorical"}
# Trainer options that have no effect on this model and data, or do not work with a run's folder.
NOT_IN_FIT = {
    "barebones",
    "enable_checkpointing",
    "fast_dev_run",
    "limit_predict_batches",
    "limit_test_batches",
    "model_registry",
    "reload_dataloaders_every_n_epochs",
    "sync_batchnorm",
    "use_distributed_sampler",
}
# The Trainer options of `validate` and `test`.
EVALUATION_OPTIONS = {
    "accelerator",
    "default_root_dir",
    "devices",
    "num_nodes",
    "precision",
    "strategy",
}
# The Trainer options of `crossvalidate`.
CROSSVALIDATION_OPTIONS = {
    "accelerator",
    "accumulate_grad_batches",
    "callbacks",
    "default_root_dir",
    "deterministic",
    "enable_progress_bar",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "max_epochs",
    "precision",
}


def train(
    seed_everything: int = 20,
    members: PositiveInt = 1,
    name: str | None = None,
    figures: bool = True,
) -> None:
    """Options of `fit` and `crossvalidate`.

    Args:
        seed_everything: Seed of the initial weights and the order of the train rows.
        members: Number of networks whose probabilities are averaged. If there are several, each
            leaves a different fold of the train and validation rows out of its training.
        name: Name of the run; its folder is lightning_logs/NAME/version_N/.
        figures: Whether to add plots to TensorBoard at the end.
    """


def fit(ckpt_path: str | None = None) -> None:
    """Options of `fit`.

    Args:
        ckpt_path: Run to resume: last for the newest fit, or the path of a last.ckpt.
    """


def evaluate(ckpt_path: str | None = None) -> None:
    """Options of `validate` and `test`.

    Args:
        ckpt_path: Checkpoint: best or last of the newest fit, a file, or the folder of a run.
    """


def crossvalidate(
    folds: int = 10,
    repeats: int = 10,
    fold_seed: int = 0,
    choose: Literal["best", "last"] = "best",
    baselines: bool = False,
    keep: bool = False,
) -> None:
    """Options of `crossvalidate`.

    Args:
        folds: Number of folds per repeat.
        repeats: Number of repeats, each with different folds.
        fold_seed: Seed of the folds, like scikit-learn's random_state.
        choose: Epoch to predict with: best is chosen by the loss on validation rows, as in fit;
            with last, all rows that are not held out are trained on.
        baselines: Whether to evaluate scikit-learn classifiers on the same folds.
        keep: Whether to keep the networks, for predict --run.
    """


COMMANDS: dict[str, list[Callable[..., None]]] = {
    "fit": [train, fit],
    "validate": [evaluate],
    "test": [evaluate],
    "crossvalidate": [train, crossvalidate],
}


def skipped(command: str, group: str) -> set[str]:
    """Returns the parameters of a group's class that are not options of a command."""
    names = {*option_names(GROUPS[group])}
    evaluates = command in ("validate", "test")
    if group == "model":
        if evaluates:  # the checkpoint has them
            return names
        return FROM_TABLE
    if group == "trainer":
        if evaluates:
            return names - EVALUATION_OPTIONS
        if command == "crossvalidate":
            return names - CROSSVALIDATION_OPTIONS
        return NOT_IN_FIT
    if evaluates:
        return SPLIT | COLUMNS
    if command == "crossvalidate":
        return {"num_workers"}
    return set()


def known_options() -> set[str]:
    """Returns the names of the options of all commands."""
    names = {"optimizer", "lr_scheduler"}
    for command, functions in COMMANDS.items():
        for function in functions:
            names.update(inspect.signature(function).parameters)
        for group, kind in GROUPS.items():
            for name in {*option_names(kind)} - skipped(command, group):
                names.add(f"{group}.{name}")
    return names
