"""Finds and reads the checkpoints of runs. This module does not import Lightning."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import FORMAT, option_names
from iris_lightning.runs.folders import NETWORKS, RUNS, SUMMARY, newest_run
from iris_lightning.weights.reading import (
    Weights,
    make_weights,
    read_torch,
    read_weights,
)

CLASSIFIER_CLASSES = (
    "iris_lightning.classifier.IrisClassifier",
    "iris_lightning.ensemble.classifier.EnsembleClassifier",
)
NETWORK_CLASSES = (
    "iris_lightning.network.IrisNetwork",
    "iris_lightning.weights.averaging.EnsembleNetwork",
)
REQUIRED_ENTRIES = {"state_dict": dict, "hyper_parameters": dict, "epoch": int, "global_step": int}
OPTIONAL_ENTRIES = ("trained_on", "metrics", "datamodule_hyper_parameters", "iris_lightning")


def find_checkpoint(name: str, root: Path) -> Path:
    """Returns the path of a checkpoint.

    Args:
        name: `best` or `last` for those of the newest run, the path of a checkpoint, or the folder
            of a run for its best checkpoint.
        root: Folder that contains `lightning_logs/`.
    """
    path = Path(name)
    if name in ("best", "last"):
        run = newest_run(root)
        if run is None:
            raise UserError(
                f"no run under {root / RUNS} with a trained network; train one first (fit)"
            )
        path = run / "checkpoints" / f"{name}.ckpt"
    elif path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        expected = "expected a checkpoint, the folder of a run, or best or last of the newest run"
        raise UserError(f"{path}: no such file; {expected}", "ckpt_path")
    return path


def run_folder(path: Path) -> Path | None:
    """Returns the folder of the run that a checkpoint belongs to, or `None`."""
    folder = path.absolute().parent
    if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file():
        return folder.parent
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint as data: it cannot run code, nor cause anything to be imported.

    Optional entries that are missing, as in checkpoints of earlier versions, are returned empty.

    Raises:
        UserError: If the file is not a checkpoint of `IrisClassifier` with an `IrisNetwork`, or if
            the network is untrained.
    """
    checkpoint: dict[str, Any] = read_torch(path)
    for name, kind in REQUIRED_ENTRIES.items():
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(name), kind):
            raise UserError(f"{path}: not a checkpoint of iris_lightning: it has no {name}")
    for name in OPTIONAL_ENTRIES:
        checkpoint.setdefault(name, {})
    _check_origin(path, checkpoint["iris_lightning"])
    if checkpoint["global_step"] == 0:
        raise UserError(f"{path}: its network is untrained")
    return checkpoint


def _check_origin(path: Path, record: dict[str, Any]) -> None:
    """Refuses newer formats, and the classes of users, which would have to be imported."""
    number = record.get("format", 0)
    if not isinstance(number, int) or number > FORMAT:
        raise UserError(f"{path}: was written by a newer version of iris_lightning")
    for entry, known in (("module", CLASSIFIER_CLASSES), ("network", NETWORK_CLASSES)):
        found = record.get(entry, known[0])
        if found not in known:
            loader = "load_from_checkpoint of its own classifier"
            raise UserError(f"{path}: holds a {found}; load it in Python with {loader}")


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """Returns how many epochs a run had finished when it wrote a checkpoint."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def weights_in(checkpoint: dict[str, Any], path: Path) -> Weights:
    """Returns the weights of the network in a checkpoint; `path` is for messages."""
    state = {}
    for name, tensor in checkpoint["state_dict"].items():
        if str(name).startswith("network."):
            state[str(name).removeprefix("network.")] = tensor
    metadata = checkpoint["datamodule_hyper_parameters"] | checkpoint["hyper_parameters"]
    metadata |= checkpoint["iris_lightning"].get("network_options") or {}
    return make_weights(path, state, metadata)


class Source(NamedTuple):
    """A trained network.

    Attributes:
        path: Its file.
        weights: Its weights.
        checkpoint: The content of the file if it is a checkpoint, else empty.
        data: Options of the data module in training, if they are known.
    """

    path: Path
    weights: Weights
    checkpoint: dict[str, Any]
    data: dict[str, Any]

    def __str__(self) -> str:
        if self.checkpoint:
            return f"checkpoint: {self.path} (epoch {self.checkpoint['epoch']})"
        return f"weights: {self.path}"

    def options(self, kind: type) -> dict[str, Any]:
        """Returns the options of `IrisClassifier` or `IrisDataModule` that a checkpoint records.

        Options that the class does not have are left out.
        """
        recorded: dict[str, Any] = {}
        for entry in ("hyper_parameters", "datamodule_hyper_parameters", "trained_on"):
            recorded |= self.checkpoint[entry]
        return {name: recorded[name] for name in option_names(kind) if name in recorded}


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
        run: Folder of a run whose best checkpoint to use instead, or of a cross-validation.
        root: Folder that contains `lightning_logs/`.
    """
    if [ckpt_path, weights, run].count(None) < 2:
        raise UserError("expected only one of --ckpt_path, --weights and --run")
    data: dict[str, Any] = {}
    if run and Path(run, SUMMARY).is_file():
        data = yaml.safe_load(Path(run, "config.yaml").read_text("utf-8"))["data"]
        weights = f"{run}/{NETWORKS}"
        if not Path(weights).is_file():
            found = f"{run}: its networks were not kept"
            raise UserError(f"{found}; run crossvalidate again with --keep true", "run")
    if weights is not None:
        return Source(Path(weights), read_weights(Path(weights)), {}, data)
    path = find_checkpoint(run or ckpt_path or "best", root)
    checkpoint = read_checkpoint(path)
    data = checkpoint["datamodule_hyper_parameters"]
    return Source(path, weights_in(checkpoint, path), checkpoint, data)
