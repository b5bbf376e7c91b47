"""The checkpoints of runs: how to find and read them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from iris_lightning.errors import UserError
from iris_lightning.files import read_torch
from iris_lightning.weights import Weights, weights_of

__all__ = ["check_config", "epochs_done", "find_checkpoint", "read_checkpoint", "run_of", "weights_in"]

RUNS = "lightning_logs"
TRUSTED = ("torch.optim.", "lightning.pytorch.")
NEEDED = {
    "pytorch-lightning_version": str,
    "epoch": int,
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "IrisDataModule": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "callbacks": dict,
    "loops": dict,
}
# The options that a checkpoint holds: those of the model and of the data, but for names of further files.
OPTIONS = {
    "hyper_parameters": (
        "feature_names",
        "class_names",
        "hidden",
        "activation",
        "standardize",
        "class_weight",
        "lr",
        "weight_decay",
    ),
    "datamodule_hyper_parameters": (
        "path",
        "target",
        "features",
        "missing",
        "decimal_comma",
        "batch_size",
        "split_seed",
        "split",
        "stratify",
        "num_workers",
    ),
}


def find_checkpoint(name: str, root: Path) -> Path:
    """Returns the path that `--ckpt_path` means.

    Args:
        name: `best` or `last`, those of the newest run, or the path of a checkpoint.
        root: Folder that holds `lightning_logs`.

    Raises:
        UserError: If there is no such file.
    """
    if name not in ("best", "last"):
        path = Path(name)
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise UserError(f"--ckpt_path {name}: {found}; expected a checkpoint, or best or last of the newest run")
        return path
    # By number: as text, version_10 would come before version_2.
    runs = {
        int(match[1]): folder
        for folder in (root / RUNS).glob("version_*")
        if folder.is_dir() and (match := re.fullmatch(r"version_(\d+)", folder.name))
    }
    if not runs:
        raise UserError(f"no run under {root / RUNS}; train one first (fit), or give --ckpt_path FILE")
    path = runs[max(runs)] / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        hint = "resume it (fit --ckpt_path last)" if path.with_name("last.ckpt").is_file() else "delete it"
        raise UserError(f"the newest run, {path.parent.parent}, has no {name}.ckpt; {hint}, or give --ckpt_path FILE")
    return path


def run_of(path: Path) -> Path:
    """Returns the run folder that a checkpoint lies in, to resume the run.

    Raises:
        UserError: If it lies in none, or is not the latest checkpoint of the run.
    """
    run = path.parent.parent
    if path.parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        raise UserError(f"--ckpt_path {path}: lies in no run folder, so there is no run to resume ({run}/config.yaml)")
    last = path.with_name("last.ckpt")
    if last != path and last.is_file():
        reached = epochs_done(read_checkpoint(last))
        if reached > epochs_done(read_checkpoint(path)):
            raise UserError(
                f"--ckpt_path {path}: the run has gone on to epoch {reached - 1}, which would be lost; resume last"
            )
    return run


def check_config(path: Path) -> None:
    """Refuses a run's own `config.yaml` that could run code or write elsewhere: the run may come from somebody else.

    To import a class is to run its module, so only classes of torch and Lightning pass, and none that takes a function.

    Raises:
        UserError: If it names another class or a function, or a place outside the run.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())[:200]}") from error
    for group in ("trainer", "optimizer", "lr_scheduler"):
        for place, value in _texts(config.get(group) if isinstance(config, dict) else None, group):
            trusted = value.startswith(TRUSTED) and "Lambda" not in value and place.endswith(".class_path")
            if not trusted and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", value):
                raise UserError(f"{path}: {place} names {value}, which would be imported; refused")
            outside = Path(value).is_absolute() or ".." in Path(value).parts or "://" in value
            if outside and place != "trainer.default_root_dir":  # for which the run's own folder stands
                raise UserError(f"{path}: {place} is {value}, outside the run; refused")


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{place}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, f"{place}[{i}]")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this project as data: nothing that it holds can run.

    Returns:
        At least what `NEEDED` lists, with hyperparameters that are plain values of known options.

    Raises:
        UserError: If the file is not such a checkpoint.
    """
    checkpoint: dict[str, Any] = read_torch(path, "a checkpoint")
    if isinstance(checkpoint, dict) and "layers.0.weight" in checkpoint:
        raise UserError(f"{path}: holds weights, not a checkpoint; give it as --model.weights")
    for key, kind in NEEDED.items():
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), kind):
            raise UserError(f"{path}: not a checkpoint of iris_lightning: it has no {key}")
    for group, options in OPTIONS.items():
        values = checkpoint[group]
        for key in options:
            if key not in values:
                raise UserError(f"{path}: not a checkpoint of this version of iris_lightning: it has no {key}")
        for key, value in values.items():
            if key not in options:
                raise UserError(f"{path}: {group} name the unknown option {str(key)[:80]!r}; refused")
            if not _is_plain(value):
                raise UserError(f"{path}: {group}: {key} is no plain value; refused")
    table = checkpoint["IrisDataModule"]
    known = {key: checkpoint["hyper_parameters"][key] for key in ("feature_names", "class_names")}
    if not isinstance(table.get("sha256"), str) or {**table, **known} != table:
        raise UserError(f"{path}: not a checkpoint of iris_lightning: it does not know its table")
    try:
        epochs_done(checkpoint)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a checkpoint of iris_lightning: it does not know its epoch") from error
    weights_in(checkpoint, path)
    return checkpoint


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Returns how many epochs a run had finished when it wrote a checkpoint."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def weights_in(checkpoint: dict[str, Any], path: Path) -> Weights:
    """Returns the network's weights in a checkpoint.

    Raises:
        UserError: If they are not those of the network that the checkpoint's hyperparameters describe.
    """
    state = {str(name).removeprefix("network."): tensor for name, tensor in checkpoint["state_dict"].items()}
    options = checkpoint["hyper_parameters"]
    weights = weights_of(path, state, {name: options[name] for name in ("feature_names", "class_names", "activation")})
    if [weights.hidden, weights.standardize] != [options["hidden"], options["standardize"]]:
        raise UserError(f"{path}: not a checkpoint of iris_lightning: its weights are not those of its options")
    return weights


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(item is None or isinstance(item, str | int | float) for item in value)
    return value is None or isinstance(value, str | int | float)
