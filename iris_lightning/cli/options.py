"""The options of each command."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning as L
from jsonargparse.typing import restricted_number_type

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule

__all__ = ["GROUPS", "LIMITS", "OPTIONS", "TRAINER_DEFAULTS", "drop_others", "skipped"]

SEED = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])


class Option(NamedTuple):
    """An option that belongs to no class."""

    name: str
    type: Any
    default: Any
    commands: tuple[str, ...]
    help: str


TRAIN = ("fit", "crossvalidate")
EVALUATE = ("validate", "test")
FOLDS = ("crossvalidate",)
OPTIONS = (
    Option("seed_everything", SEED, 20, TRAIN, "Seed of the weights and the order of the rows."),
    Option(
        "ckpt_path",
        str | None,
        None,
        ("fit", *EVALUATE),
        "Checkpoint to use, or run to resume: best or last of the newest run, or a file.",
    ),
    Option("weights", str | None, None, ("fit",), "Weights to start from: .pth or .safetensors."),
    Option("name", str | None, None, TRAIN, "Name of the run: lightning_logs/NAME/version_N/."),
    Option("figures", bool, True, TRAIN, "Whether to draw plots at the end, for TensorBoard."),
    Option(
        "threads",
        int | None,
        None,
        ("fit", *EVALUATE),
        "Threads of PyTorch; by default one for small batches.",
    ),
    Option("folds", int, 10, FOLDS, "Folds of each repeat."),
    Option("repeats", int, 10, FOLDS, "Repeats, each with other folds."),
    Option("fold_seed", int, 0, FOLDS, "Seed of the folds, scikit-learn's random_state."),
    Option(
        "max_parallel",
        int | None,
        None,
        FOLDS,
        "Folds trained at once; results do not depend on it.",
    ),
    Option(
        "baselines",
        bool,
        False,
        FOLDS,
        "Whether to evaluate scikit-learn's classifiers on the same folds.",
    ),
)
GROUPS: dict[str, type] = {"model": IrisClassifier, "data": IrisDataModule, "trainer": L.Trainer}
LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
TRAINER_DEFAULTS = {
    "log_every_n_steps": 1,  # Lightning warns where an epoch has fewer batches than this
    "num_sanity_val_steps": 0,  # the first epoch validates soon enough
    "enable_model_summary": False,
    "devices": 1,
}
# Options of the Trainer that have no effect on this model and data, or do not work with them.
HIDDEN = {
    *("barebones", "limit_predict_batches", "limit_test_batches", "model_registry"),
    *("reload_dataloaders_every_n_epochs", "sync_batchnorm", "use_distributed_sampler"),
}
COMMON = {
    *("accelerator", "devices", "precision", "deterministic", "benchmark", "inference_mode"),
    *("profiler", "default_root_dir", "enable_progress_bar"),
}
TRAINER: dict[str, set[str]] = {
    "fit": {*inspect.signature(L.Trainer).parameters} - HIDDEN,
    "validate": COMMON | {"strategy", "num_nodes", "callbacks", "limit_val_batches"},
    "test": COMMON | {"strategy", "num_nodes", "callbacks", "limit_test_batches"},
    "crossvalidate": COMMON - {"devices"}
    | {"max_epochs", "gradient_clip_val", "gradient_clip_algorithm"}
    | {"accumulate_grad_batches", "detect_anomaly"},
}
SPLIT = {"split", "split_seed", "stratify"}


def skipped(command: str, group: str) -> set[str]:
    """Returns the parameters of a group's class that are no options of a command."""
    names = {*inspect.signature(GROUPS[group]).parameters}
    if group == "trainer":
        return names - TRAINER[command]
    if group == "model":  # the checkpoint or the table decides
        return names if command in EVALUATE else {"feature_names", "class_names", "impute"}
    if command == "crossvalidate":
        return SPLIT | {"num_workers"}
    return SPLIT | {"features"} if command in EVALUATE else set()


def drop_others(options: Mapping[str, Any], own: set[str]) -> dict[str, Any]:
    """Returns the options in a config without those that only other commands have.

    Args:
        options: Options, those of a group as a mapping.
        own: Names of the options of this command, such as `trainer.max_epochs`.
    """
    names = {"optimizer", "lr_scheduler"}
    names.update(option.name for option in OPTIONS)
    kept = {name: value for name, value in options.items() if name in own or name not in names}
    for group, kind in GROUPS.items():
        if isinstance(options.get(group), Mapping):
            others = {*inspect.signature(kind).parameters} - {
                name.removeprefix(f"{group}.") for name in own
            }
            kept[group] = {
                name: value for name, value in options[group].items() if name not in others
            }
            if not kept[group]:
                del kept[group]
    return kept
