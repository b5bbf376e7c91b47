"""The checkpoints of runs: how to find and read them. Reading needs no Lightning."""

from pathlib import Path
from typing import Any

from iris_lightning.errors import UserError
from iris_lightning.runs.folders import RUNS, newest_run
from iris_lightning.weights.reading import Weights, read_torch, weights_of

__all__ = ["epochs_done", "find_checkpoint", "read_checkpoint", "run_of", "weights_in"]

ENTRIES = ("state_dict", "hyper_parameters", "datamodule_hyper_parameters", "IrisDataModule", "callbacks", "loops")
SHAPE = ("feature_names", "class_names", "hidden", "activation", "standardize", "impute")  # what makes a network


def find_checkpoint(name: str, root: Path) -> Path:
    """Returns the path that `best` or `last` of the newest run under `root`, or the path of a checkpoint, means."""
    if name not in ("best", "last"):
        path = Path(name)
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise UserError(f"{name}: {found}; expected a checkpoint, or best or last of the newest run", "ckpt_path")
        return path
    run = newest_run(root)
    if run is None:
        raise UserError(f"no run under {root / RUNS}; train one first (fit)", remedy=("ckpt_path", "FILE"))
    path = run / "checkpoints" / f"{name}.ckpt"
    if path.is_file():
        return path
    if path.with_name("last.ckpt").is_file():
        raise UserError(
            f"the newest run, {run}, has no {name}.ckpt: no epoch was validated", remedy=("ckpt_path", "last")
        )
    raise UserError(f"the newest run, {run}, kept no checkpoints", remedy=("ckpt_path", "FILE"))


def run_of(path: Path, checkpoint: dict[str, Any]) -> Path:
    """Returns the folder of the run that a checkpoint, read from this path, resumes: only the latest one does."""
    run = path.parent.parent
    if path.parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        raise UserError(f"{path}: lies in no run folder, so there is no run to resume ({run}/config.yaml)", "ckpt_path")
    if not isinstance(checkpoint.get("optimizer_states"), list):
        raise UserError(f"{path}: holds no state of an optimizer, so there is no run to resume", "ckpt_path")
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    if checkpoint["global_step"] and not progress["is_last_batch"]:
        message = "the run has ended within an epoch (max_steps), from where it cannot go on exactly"
        raise UserError(f"{path}: {message}; train anew with more steps", "ckpt_path")
    last = path.with_name("last.ckpt")
    reached = epochs_done(read_checkpoint(last)) if last != path and last.is_file() else 0
    if reached > epochs_done(checkpoint):
        raise UserError(f"{path}: the run has gone on to epoch {reached - 1}; resume last, or it is lost", "ckpt_path")
    return run


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this project as data: nothing in it can run, its hyperparameters are plain values."""
    checkpoint: dict[str, Any] = read_torch(path, "a checkpoint")
    if isinstance(checkpoint, dict) and "layers.0.weight" in checkpoint:
        raise UserError(f"{path}: holds weights, not a checkpoint", remedy=("weights", str(path)))
    try:
        numbers = all(isinstance(checkpoint[key], int) for key in ("epoch", "global_step"))
        numbers = numbers and isinstance(epochs_done(checkpoint), int)
        whole = numbers and all(isinstance(checkpoint[key], dict) for key in ENTRIES)
    except (KeyError, TypeError, IndexError):
        whole = False
    if not whole:
        raise UserError(f"{path}: not a checkpoint of iris_lightning; expected epoch, {', '.join(ENTRIES)}")
    for group in ("hyper_parameters", "datamodule_hyper_parameters"):
        for key, value in checkpoint[group].items():
            items = value if isinstance(value, list) else [value]
            if not all(item is None or isinstance(item, str | int | float) for item in items):
                raise UserError(f"{path}: {group}: {str(key)[:80]} is no plain value; refused")
    weights_in(checkpoint, path)
    names = {key: checkpoint["hyper_parameters"][key] for key in ("feature_names", "class_names")}
    if {**checkpoint["IrisDataModule"], **names} != checkpoint["IrisDataModule"]:
        raise UserError(f"{path}: not a checkpoint of iris_lightning: it does not know its table")
    return checkpoint


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Returns how many epochs a run had finished when it wrote a checkpoint."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def weights_in(checkpoint: dict[str, Any], path: Path) -> Weights:
    """Returns the network's weights in a checkpoint, which must be those that its hyperparameters describe."""
    options = checkpoint["hyper_parameters"]
    if lacking := [name for name in SHAPE if name not in options]:
        raise UserError(f"{path}: not a checkpoint of this version of iris_lightning: it has no {lacking[0]}")
    state = {str(name).removeprefix("network."): tensor for name, tensor in checkpoint["state_dict"].items()}
    weights = weights_of(path, state, options)
    if any(getattr(weights, name) != options[name] for name in ("hidden", "standardize", "impute")):
        raise UserError(f"{path}: not a checkpoint of iris_lightning: its weights are not those of its options")
    return weights
