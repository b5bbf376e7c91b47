"""Which trained network a command uses: a checkpoint or a file of weights."""

import inspect
import os
from pathlib import Path
from typing import Any, NamedTuple

from iris_lightning.errors import UserError
from iris_lightning.runs.checkpoints import (
    find_checkpoint,
    read_checkpoint,
    read_trained,
    weights_in,
)
from iris_lightning.runs.folders import logs_folder
from iris_lightning.weights.reading import Weights, read_weights

__all__ = ["Source", "find_source"]


class Source(NamedTuple):
    """A trained network: its file, its weights, and what the file holds if it is a checkpoint."""

    path: Path
    weights: Weights
    checkpoint: dict[str, Any]

    def __str__(self) -> str:
        if self.checkpoint:
            return f"checkpoint: {self.path} (epoch {self.checkpoint['epoch']})"
        return f"weights: {self.path}"

    def options(self, kind: type) -> dict[str, Any]:
        """Returns the options of `IrisClassifier` or `IrisDataModule` that a checkpoint records.

        Those that the class does not know are left out; it has defaults for those that lack.
        """
        group = "hyper_parameters"
        if kind.__name__ == "IrisDataModule":
            group = "datamodule_hyper_parameters"
        recorded = {**self.checkpoint[group], **self.checkpoint["trained_on"]}
        names = inspect.signature(kind).parameters
        return {name: recorded[name] for name in names if name in recorded}


def find_source(
    ckpt_path: str | None, weights: str | None, root: str | None = None, trained: bool = True
) -> Source:
    """Reads the checkpoint or the weights that two options name.

    Args:
        ckpt_path: A checkpoint, or `best` or `last` of the newest run; by default `best`.
        weights: A file of weights to be used in its place.
        root: Where `lightning_logs/` is.
        trained: Whether the network must have been trained.
    """
    if weights is not None:
        if ckpt_path is not None:
            raise UserError(f"{weights}: has no effect beside a checkpoint", "weights")
        return Source(Path(weights), read_weights(Path(weights)), {})
    path = find_checkpoint(ckpt_path or "best", Path(root or "."))
    checkpoint = read_trained(path) if trained else read_checkpoint(path)
    for group in (checkpoint["datamodule_hyper_parameters"], checkpoint["trained_on"]):
        table = group.get("path")  # as it was typed where `lightning_logs/` is
        if isinstance(table, str) and not Path(table).exists():
            found = logs_folder(path.absolute().parent.parent).parent / table
            if os.path.isfile(found):
                group["path"] = str(found)
    return Source(path, weights_in(checkpoint, path), checkpoint)
