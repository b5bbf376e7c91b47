"""The options of each command."""

import inspect
from typing import Any, NamedTuple

import lightning as L
from jsonargparse.typing import NonNegativeFloat, PositiveInt, restricted_number_type

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule

SEED = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])


class Option(NamedTuple):
    """An option that belongs to no class, or takes the place of one of the Trainer."""

    name: str
    type: Any
    default: Any
    commands: tuple[str, ...]
    help: str


TRAIN = ("fit", "crossvalidate")
EVALUATE = ("validate", "test")
FOLDS = ("crossvalidate",)
BATCHES = int | float | None  # Lightning has float first, so that 1 would mean all batches
OPTIONS = [
    Option(*fields)
    for fields in (
        ("seed_everything", SEED, 20, TRAIN, "Seed of the weights and the order of the rows."),
        ("ckpt_path", str | None, None, EVALUATE, "Checkpoint: best or last, or a file."),
        ("ckpt_path", str | None, None, ("fit",), "Run to resume: last, or the last.ckpt of one."),
        ("weights", str | None, None, ("fit",), "Weights to start from: .pth or .safetensors."),
        ("name", str | None, None, TRAIN, "Name of the run: lightning_logs/NAME/version_N/."),
        ("figures", bool, True, TRAIN, "Whether to draw plots at the end, for TensorBoard."),
        ("threads", int | None, None, ("fit", *EVALUATE), "Threads; one for small batches."),
        ("folds", int, 10, FOLDS, "Folds of each repeat."),
        ("repeats", int, 10, FOLDS, "Repeats, each with other folds."),
        ("fold_seed", int, 0, FOLDS, "Seed of the folds, scikit-learn's random_state."),
        ("max_parallel", int | None, None, FOLDS, "Folds trained at once; changes no result."),
        (
            "baselines",
            bool,
            False,
            FOLDS,
            "Whether to evaluate scikit-learn's classifiers as well.",
        ),
        ("trainer.max_epochs", int | None, None, TRAIN, "5 without max_steps and max_time."),
        ("trainer.limit_train_batches", BATCHES, None, ("fit",), "Number or fraction of batches."),
        ("trainer.limit_val_batches", BATCHES, None, ("fit", "validate"), "As for training."),
        ("trainer.limit_test_batches", BATCHES, None, ("test",), "Number or fraction of batches."),
        ("trainer.accumulate_grad_batches", PositiveInt, 1, TRAIN, "Batches of an optimizer step."),
        ("trainer.gradient_clip_val", NonNegativeFloat | None, None, TRAIN, "Largest gradient."),
    )
]
GROUPS: dict[str, type] = {"model": IrisClassifier, "data": IrisDataModule, "trainer": L.Trainer}
TRAINER_DEFAULTS = {
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}
# Options of the Trainer that have no effect on this model and data, or do not work with them.
HIDDEN = {
    *("barebones", "limit_predict_batches", "model_registry"),
    *("reload_dataloaders_every_n_epochs", "sync_batchnorm", "use_distributed_sampler"),
}
ALLOWED = {  # by other commands than `fit`
    *("accelerator", "precision", "deterministic", "benchmark", "inference_mode", "profiler"),
    *("default_root_dir", "enable_progress_bar"),
}
ALLOWED_IN_EVALUATION = ALLOWED | {"devices", "strategy", "num_nodes", "callbacks"}
ALLOWED_IN_FOLDS = ALLOWED | {"gradient_clip_algorithm", "detect_anomaly"}
SPLIT = {"split", "split_seed", "stratify"}


def skipped(command: str, group: str) -> set[str]:
    """Returns the parameters of a group's class that are no options of a command by themselves."""
    names = {*inspect.signature(GROUPS[group]).parameters}
    evaluates = command in EVALUATE
    if group == "model":  # the checkpoint or the table decides
        return names if evaluates else {"feature_names", "class_names", "impute"}
    if group == "data" and command == "crossvalidate":
        return SPLIT | {"num_workers"}
    if group == "data":
        return SPLIT | {"features"} if evaluates else set()
    if command == "fit":
        return HIDDEN | {option.name.removeprefix("trainer.") for option in OPTIONS}
    return names - (ALLOWED_IN_EVALUATION if evaluates else ALLOWED_IN_FOLDS)


def known_options() -> set[str]:
    """Returns the names of the options of all commands."""
    names = {"optimizer", "lr_scheduler", *(option.name for option in OPTIONS)}
    for group, kind in GROUPS.items():
        names.update(f"{group}.{name}" for name in inspect.signature(kind).parameters)
    return names
