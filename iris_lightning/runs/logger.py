"""The curves of a run, in files that TensorBoard reads."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyExperiment  # type: ignore[attr-defined]  # of lightning.fabric
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning.runs.checkpoint_io import SECONDS
from iris_lightning.runs.folders import RUNS
from iris_lightning.runs.tabs import scalars

__all__ = ["RunLogger"]


class RunLogger(TensorBoardLogger):
    """TensorBoard's curves alone: `hparams.yaml` would repeat `config.yaml`, and a kill could leave half of it.

    Args:
        root: Where `lightning_logs/` is.
        purge_step: The epoch from which on the run writes, 0 for a new one: what it has of later ones is passed over.
    """

    def __init__(self, root: Path, purge_step: int) -> None:
        super().__init__(root, RUNS, "", default_hp_metric=False, purge_step=purge_step)
        self.run: Path | None = None  # `RunFolder` says which, once training starts
        self.points: list[tuple[dict[str, float], int | None, float]] = []  # that wait to be written
        self.written = -math.inf  # when, in seconds

    @property
    def log_dir(self) -> str:
        """The folder of the run."""
        return str(self.run or self.root_dir)

    @property
    def experiment(self) -> Any:
        """TensorBoard's writer; none before training starts, since opening it changes the curves of a resumed run."""
        return super().experiment if self.run else DummyExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds points to the curves."""
        dicts = {name: value for name, value in metrics.items() if isinstance(value, dict)}
        if dicts:  # each is several curves, in files of their own
            super().log_metrics(dicts, step)
        values = {name: float(value) for name, value in metrics.items() if name not in dicts}
        if not self.run or not values:
            return
        latest = self.points[-1] if self.points else None
        if latest and latest[1] == step and not latest[0].keys() & values.keys():
            latest[0].update(values)  # one event for the points of an epoch, each of which would take as long
        else:
            self.points.append((values, step, time.time()))

    @rank_zero_only
    def save(self) -> None:
        """Writes the points, at most once a second: TensorBoard's thread takes time from the training."""
        if time.monotonic() - self.written >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the points, for a checkpoint that takes them for written."""
        while self.points:
            metrics, step, seconds = self.points.pop(0)
            self.experiment._get_file_writer().add_summary(scalars(metrics), step, seconds)
        self.experiment.flush()
        self.written = time.monotonic()

    def finalize(self, status: str) -> None:
        """Writes the points and closes the file."""
        self.flush()
        super().finalize(status)
