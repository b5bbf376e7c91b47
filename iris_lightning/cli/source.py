"""Which trained network a command uses: a checkpoint or a file of weights."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from iris_lightning.errors import UserError
from iris_lightning.runs.checkpoints import find_checkpoint, read_checkpoint, read_trained, weights_in
from iris_lightning.runs.folders import logs_of
from iris_lightning.weights.reading import Weights, read_weights

__all__ = ["Source", "find_source"]


class Source(NamedTuple):
    """A trained network: its file, its weights, and what the file holds if it is a checkpoint, else nothing."""

    path: Path
    weights: Weights
    checkpoint: dict[str, Any]

    def __str__(self) -> str:
        kind, epoch = ("checkpoint", f" (epoch {self.checkpoint['epoch']})") if self.checkpoint else ("weights", "")
        return f"{kind}: {self.path}{epoch}"

    def options(self) -> dict[str, dict[str, Any]]:
        """Returns the options of `model` and `data` that it was trained with, as far as the file knows them."""
        if self.checkpoint:
            data, known = self.checkpoint["datamodule_hyper_parameters"], self.checkpoint["trained_on"]
            split = {name: known[name] for name in data.keys() & known.keys()}  # as it was, whatever the options said
            return {"model": self.checkpoint["hyper_parameters"], **({"data": {**data, **split}} if data else {})}
        if self.weights.feature_names is None:
            return {}
        shape = {name: getattr(self.weights, name) for name in ("hidden", "activation", "standardize", "impute")}
        return {"model": shape, "data": {"features": self.weights.feature_names}}

    def trained_on(self) -> dict[str, Any]:
        """Returns what the data module must know to evaluate it: its table and split, or its names if known."""
        if known := self.checkpoint.get("trained_on"):
            return dict(known)
        names = {"feature_names": self.weights.feature_names, "class_names": self.weights.class_names}
        return names if self.weights.feature_names else {}


def find_source(ckpt_path: str | None, weights: str | None, root: str | None = None, trained: bool = True) -> Source:
    """Reads the checkpoint or the weights that two options name; by default `best` of the newest run under `root`.

    A network must have been `trained`, unless its run is resumed.
    """
    if weights is not None:
        if ckpt_path is not None:
            raise UserError(f"{weights}: has no effect beside a checkpoint; leave one of them out", "weights")
        return Source(Path(weights), read_weights(Path(weights)), {})
    path = find_checkpoint("best" if ckpt_path is None else ckpt_path, Path(root or "."))
    checkpoint = read_trained(path) if trained else read_checkpoint(path)
    for group in (checkpoint["datamodule_hyper_parameters"], checkpoint["trained_on"]):
        table = group.get("path")  # as it was typed where `lightning_logs/` is
        if isinstance(table, str) and not Path(table).exists():
            found = str(logs_of(path.absolute().parent.parent).parent / table)
            group["path"] = found if os.path.isfile(found) else table
    return Source(path, weights_in(checkpoint, path), checkpoint)
