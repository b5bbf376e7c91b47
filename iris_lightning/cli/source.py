"""Which trained network a command uses: a checkpoint or a file of weights."""

from pathlib import Path
from typing import Any, NamedTuple

from iris_lightning.errors import UserError
from iris_lightning.predictor import IrisPredictor
from iris_lightning.runs.checkpoints import find_checkpoint, read_checkpoint, weights_in
from iris_lightning.weights.reading import Weights, read_weights

__all__ = ["Source", "find_source"]


class Source(NamedTuple):
    """A trained network.

    Attributes:
        path: Its file.
        weights: Its weights.
        checkpoint: What the file holds, if it is a checkpoint.
    """

    path: Path
    weights: Weights
    checkpoint: dict[str, Any] | None

    def __str__(self) -> str:
        """Returns what a command says that it uses."""
        return (
            f"checkpoint: {self.path} (epoch {self.checkpoint['epoch']})"
            if self.checkpoint
            else f"weights: {self.path}"
        )

    def predictor(self) -> IrisPredictor:
        """Returns the trained classifier."""
        return IrisPredictor.from_weights(self.weights, self.path)


def find_source(ckpt_path: str | None, weights: str | None, root: str | None = None) -> Source:
    """Reads what two options name.

    Args:
        ckpt_path: A checkpoint, or `best` or `last` of the newest run; by default `best`.
        weights: A file of weights, in place of a checkpoint.
        root: Folder that holds `lightning_logs`; by default the current one.

    Raises:
        UserError: If there is no such file, or both are given.
    """
    if weights is not None:
        if ckpt_path is not None:
            raise UserError(f"{weights}: has no effect beside a checkpoint; leave one of them out", "weights")
        return Source(Path(weights), read_weights(Path(weights)), None)
    path = find_checkpoint(ckpt_path or "best", Path(root or "."))
    checkpoint = read_checkpoint(path)
    return Source(path, weights_in(checkpoint, path), checkpoint)
