"""The logger of a run of `fit`."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning.errors import UserError
from iris_lightning.files import relative_path
from iris_lightning.runs.folders import RUNS


class RunLogger(TensorBoardLogger):
    """Writes curves against the epoch, into the folder of the run.

    There is no `hparams.yaml`, which would repeat `config.yaml`.

    Args:
        root: Where `lightning_logs/` is.
        purge_step: First epoch to be written; TensorBoard drops what the run had from there on.
    """

    def __init__(self, root: Path, purge_step: int) -> None:
        super().__init__(root, RUNS, "", default_hp_metric=False, purge_step=purge_step)
        self.run: Path | None = None  # set when training starts
        self._excepthook = threading.excepthook
        threading.excepthook = self._handle_thread_error

    @property
    def log_dir(self) -> str:
        """The folder of the run."""
        return str(self.run or self.root_dir)

    @property
    def experiment(self) -> Any:
        """TensorBoard's writer; until training starts, one that writes nothing."""
        if self.run is None:
            return _DummyExperiment()
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds metrics to the curves, at the epoch that Lightning puts among them."""
        values = dict(metrics)
        epoch = values.pop("epoch", step)
        with self._user_errors():
            for name, value in values.items():
                self.experiment.add_scalar(name, value, epoch)

    def save(self) -> None:
        """Does nothing: Lightning calls it each time it logs, and flushing takes time."""

    @rank_zero_only
    def flush(self) -> None:
        """Waits until the curves are written, which the next checkpoint takes for granted."""
        with self._user_errors():
            self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Closes the file; a run that failed has told its error by now."""
        if status == "success":
            self.flush()
        with suppress(OSError):
            super().finalize(status)
        threading.excepthook = self._excepthook

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            folder = relative_path(Path(self.log_dir))
            reason = f"{folder}: the curves cannot be written: {error.strerror}"
            raise UserError(reason) from error

    def _handle_thread_error(self, args: threading.ExceptHookArgs) -> None:
        """Leaves errors of TensorBoard's thread to its next use, which raises them again."""
        if not type(args.thread).__module__.startswith("tensorboard."):
            self._excepthook(args)
