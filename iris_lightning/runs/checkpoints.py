"""Finds and reads the checkpoints of runs. This module does not import Lightning."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import FORMAT, option_names
from iris_lightning.runs.folders import NETWORKS, RUNS, SUMMARY, newest_run
from iris_lightning.weights.reading import Weights, make_weights, read_torch, read_weights

KNOWN_CLASSES = {
    "module": (
        "iris_lightning.classifier.IrisClassifier",
        "iris_lightning.ensemble.classifier.EnsembleClassifier",
    ),
    "network": (
        "iris_lightning.network.IrisNetwork",
        "iris_lightning.weights.averaging.EnsembleNetwork",
    ),
}
ENTRIES = {"state_dict": dict, "hyper_parameters": dict, "epoch": int, "global_step": int}
OPTIONAL_ENTRIES = {"trained_on": dict, "datamodule_hyper_parameters": dict, "iris_lightning": dict}


def find_checkpoint(name: str, root: Path) -> Path:
    """Returns the path of a checkpoint.

    Args:
        name: `best` or `last` of the newest run, the path of a checkpoint, or the folder of a run,
            which means its `best`.
        root: Folder that contains `lightning_logs/`.
    """
    path = Path(name)
    if name in ("best", "last"):
        run = newest_run(root)
        if run is None:
            raise UserError(f"no run of fit in {root / RUNS}; run fit first, or give a checkpoint")
        path = run / "checkpoints" / f"{name}.ckpt"
    elif path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        expected = "a checkpoint, a run of fit, 'last', or 'best' (if fit had validation)"
        raise UserError(f"{path}: no such file; expected {expected}")
    return path


def run_folder(path: Path, name: str) -> Path | None:
    """Returns the run's folder if `path` is its `checkpoints/<name>.ckpt`, else `None`."""
    folder = path.absolute().parent
    is_named = folder.name == "checkpoints" and path.name == f"{name}.ckpt"
    if is_named and (folder.parent / "config.yaml").is_file():
        return folder.parent
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint as data: it can neither run code nor import anything.

    Optional entries that are missing, as in checkpoints of earlier versions, are returned empty.

    Raises:
        UserError: If the file is not a checkpoint of one of this project's classes, or if the
            network is untrained.
    """
    checkpoint = read_torch(path)
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: not a checkpoint")
    for name in OPTIONAL_ENTRIES:
        checkpoint.setdefault(name, {})
    for name, kind in (ENTRIES | OPTIONAL_ENTRIES).items():
        if not isinstance(checkpoint.get(name), kind):
            raise UserError(
                f"{path}: not a checkpoint of iris_lightning: it has no {name} (is it weights?)"
            )
    _check_origin(path, checkpoint["iris_lightning"])
    if checkpoint["global_step"] == 0:
        raise UserError(f"{path}: its network is untrained")
    return checkpoint


def _check_origin(path: Path, record: dict[str, Any]) -> None:
    """Refuses newer formats, and user-defined classes, which would have to be imported."""
    number = record.get("format", 0)
    if not isinstance(number, int) or number > FORMAT:
        raise UserError(f"{path}: was written by a newer version of iris_lightning")
    for entry, known in KNOWN_CLASSES.items():
        found = record.get(entry, known[0])
        if found not in known:
            loader = "load_from_checkpoint of its own class"
            raise UserError(f"{path}: holds a {found}; load it in Python with {loader}")


def weights_in(checkpoint: dict[str, Any], path: Path) -> Weights:
    """Returns the weights of the network in a checkpoint; `path` is for messages."""
    state = {}
    for name, tensor in checkpoint["state_dict"].items():
        if str(name).startswith("network."):
            state[str(name).removeprefix("network.")] = tensor
    metadata = checkpoint["datamodule_hyper_parameters"] | checkpoint["hyper_parameters"]
    metadata |= checkpoint["iris_lightning"].get("network_options") or {}
    return make_weights(path, state, metadata)


def recorded_options(checkpoint: dict[str, Any], kind: type) -> dict[str, Any]:
    """Returns the options of `IrisClassifier` or `IrisDataModule` that a checkpoint records.

    Options that the class does not have are left out.

    Args:
        checkpoint: The checkpoint; an empty dict records no options.
        kind: The class.
    """
    recorded: dict[str, Any] = {}
    for entry in ("hyper_parameters", "datamodule_hyper_parameters", "trained_on"):
        recorded |= checkpoint.get(entry, {})
    return {name: recorded[name] for name in option_names(kind) if name in recorded}


class Source(NamedTuple):
    """A trained network.

    Attributes:
        path: Its file.
        weights: Its weights.
        checkpoint: The content of the file if it is a checkpoint, else empty.
        data: Options of its data module, if known.
    """

    path: Path
    weights: Weights
    checkpoint: dict[str, Any]
    data: dict[str, Any]

    def __str__(self) -> str:
        if self.checkpoint:
            return f"checkpoint: {self.path} (epoch {self.checkpoint['epoch']})"
        return f"weights: {self.path}"


def find_source(
    ckpt_path: str | None = None,
    weights: str | None = None,
    run: str | None = None,
    root: Path = Path(),
) -> Source:
    """Reads a checkpoint or a weights file.

    Args:
        ckpt_path: A checkpoint, as in `find_checkpoint`; by default `best`.
        weights: A weights file to use instead of a checkpoint.
        run: Folder of a run to use instead: its best checkpoint, or the networks of its
            cross-validation.
        root: Folder that contains `lightning_logs/`.
    """
    if (ckpt_path, weights, run).count(None) < 2:
        raise UserError("expected only one checkpoint, weights file or run")
    data: dict[str, Any] = {}
    if run and Path(run, SUMMARY).is_file():
        config = yaml.safe_load(Path(run, "config.yaml").read_text("utf-8"))
        data = config["data"]
        weights = f"{run}/{NETWORKS}"
        if not Path(weights).is_file():
            remedy = "run crossvalidate again with --keep true"
            raise UserError(f"{run}: its networks were not kept; {remedy}", "run")
    if weights is not None:
        return Source(Path(weights), read_weights(Path(weights)), {}, data)
    path = find_checkpoint(run or ckpt_path or "best", root)
    checkpoint = read_checkpoint(path)
    data = checkpoint["datamodule_hyper_parameters"]
    return Source(path, weights_in(checkpoint, path), checkpoint, data)
