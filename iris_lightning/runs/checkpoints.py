"""The checkpoints of runs: how to find and read them. Needs no Lightning."""

from pathlib import Path
from typing import Any

from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import FORMAT
from iris_lightning.runs.folders import RUNS, newest_run
from iris_lightning.weights.reading import Weights, make_weights, network_options, read_torch

MODULE = "iris_lightning.classifier.IrisClassifier"
NETWORK = "iris_lightning.network.IrisNetwork"
ENTRIES = {"state_dict": dict, "hyper_parameters": dict, "epoch": int, "global_step": int}


def find_checkpoint(name: str, root: Path) -> Path:
    """Returns the checkpoint that a name means.

    Args:
        name: `best` or `last` of the newest run, or the path of a checkpoint.
        root: Where `lightning_logs/` is.
    """
    if name not in ("best", "last"):
        return _existing(Path(name))
    run = newest_run(root)
    if run is None:
        found = f"no run under {root / RUNS} with a trained network; train one first (fit)"
        raise UserError(found, remedy=("ckpt_path", "FILE"))
    path = run / "checkpoints" / f"{name}.ckpt"
    if path.is_file():
        return path
    if path.with_name("last.ckpt").is_file():
        found = f"the newest run, {run}, has no {name}.ckpt: no epoch was validated"
        raise UserError(found, remedy=("ckpt_path", "last"))
    raise UserError(f"the newest run, {run}, kept no checkpoints", remedy=("ckpt_path", "FILE"))


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    found = "no such file"
    if path.exists():
        found = "a folder" if path.is_dir() else "not a regular file"
    expected = "expected a checkpoint, or best or last of the newest run"
    raise UserError(f"{path}: {found}; {expected}", "ckpt_path")


def run_folder(path: Path) -> Path | None:
    """Returns the folder of the run that a checkpoint lies in, if it does."""
    folder = path.absolute().parent
    if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file():
        return folder.parent
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint as data: nothing in it can run, and nothing is imported because of it.

    Entries that an earlier version or another Trainer left out are empty.

    Raises:
        UserError: If it is no checkpoint of `IrisClassifier` and `IrisNetwork`.
    """
    checkpoint: dict[str, Any] = read_torch(path, "a checkpoint")
    if isinstance(checkpoint, dict) and "layers.0.weight" in checkpoint:
        raise UserError(f"{path}: holds weights, not a checkpoint", remedy=("weights", str(path)))
    for name, kind in ENTRIES.items():
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(name), kind):
            raise UserError(f"{path}: not a checkpoint of iris_lightning: it has no {name}")
    for name in ("trained_on", "metrics", "datamodule_hyper_parameters", "iris_lightning"):
        if not isinstance(checkpoint.setdefault(name, {}), dict):
            raise UserError(f"{path}: not a checkpoint of iris_lightning: {name} is no dict")
    _check_record(path, checkpoint["iris_lightning"])
    return checkpoint


def _check_record(path: Path, record: dict[str, Any]) -> None:
    number = record.get("format", 0)
    if not isinstance(number, int) or number > FORMAT:
        raise UserError(f"{path}: was written by a newer version of iris_lightning")
    module = record.get("module", MODULE)
    if module != MODULE:
        loader = f"{str(module)[:80].rpartition('.')[2]}.load_from_checkpoint"
        raise UserError(f"{path}: holds a {str(module)[:80]}; load it in Python with {loader}")
    network = record.get("network", NETWORK)
    if network != NETWORK:
        loader = "IrisClassifier.load_from_checkpoint, where make_network is overridden"
        raise UserError(f"{path}: holds a {str(network)[:80]}; load it in Python with {loader}")


def read_trained(path: Path) -> dict[str, Any]:
    """Reads the checkpoint of a network that has been trained, be it by one step."""
    checkpoint = read_checkpoint(path)
    if checkpoint["global_step"] == 0:
        stopped = "the run was stopped before the end of its first epoch"
        raise UserError(f"{path}: its network is untrained: {stopped}")
    return checkpoint


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Returns how many epochs a run had finished when it wrote a checkpoint."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def weights_in(checkpoint: dict[str, Any], path: Path) -> Weights:
    """Returns the network's weights in a checkpoint that was read from `path`."""
    options = checkpoint["hyper_parameters"]
    state = {}
    for name, tensor in checkpoint["state_dict"].items():
        if str(name).startswith("network."):
            state[str(name).removeprefix("network.")] = tensor
    meaning = {
        **network_options(options),
        **network_options(checkpoint["iris_lightning"].get("network_options") or {}),
        "feature_names": options.get("feature_names"),
        "class_names": options.get("class_names"),
        "na_values": checkpoint["datamodule_hyper_parameters"].get("na_values"),
    }
    return make_weights(path, state, meaning)


def relocate(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns a checkpoint whose callbacks know the checkpoints in the folder where it lies now.

    `ModelCheckpoint` forgets its best score where the folder of a run has been moved, and would
    overwrite `best.ckpt` with a worse one.
    """
    here = str(path.absolute().parent)
    callbacks = {}
    for key, state in checkpoint.get("callbacks", {}).items():
        if isinstance(state, dict) and Path(str(state.get("dirpath"))).name == "checkpoints":
            state = {**state, "dirpath": here}
            for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
                if state[name]:
                    state[name] = str(Path(here, Path(state[name]).name))
            models = state["best_k_models"].items()
            state["best_k_models"] = {
                str(Path(here, Path(one).name)): score for one, score in models
            }
        callbacks[key] = state
    return {**checkpoint, "callbacks": callbacks}
