"""The TensorBoard logger of `fit`."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning.runs.saving import RunFolder


class RunLogger(TensorBoardLogger):
    """Writes curves to the run's folder, with the epoch as x axis.

    Unlike its base class, it does not write `hparams.yaml`: the run has a `config.yaml`.

    Args:
        folder: The callback that has the path of the run's folder once training starts.
        purge_step: First epoch to write. TensorBoard discards points of this epoch, and of later
            ones, that an earlier process has written.
    """

    def __init__(self, folder: RunFolder, purge_step: int) -> None:
        # Without folders, as `log_dir` is overridden.
        super().__init__("", "", "", default_hp_metric=False, purge_step=purge_step)
        self.folder = folder
        self._excepthook = threading.excepthook
        threading.excepthook = self._handle_thread_error

    @property
    def log_dir(self) -> str:
        """Folder of the run."""
        return str(self.folder.run)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds points to the curves; Lightning passes the epoch as one of the metrics."""
        values = dict(metrics)
        epoch = values.pop("epoch", step)
        with self._named_errors():
            for name, value in values.items():
                self.experiment.add_scalar(name, value, epoch)

    def save(self) -> None:
        """Does nothing: Lightning calls this after every logging step, and flushing is slow."""

    def flush(self) -> None:
        """Waits until all points are written to disk."""
        with self._named_errors():
            self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Closes the event file. Errors of writing are reported only if training succeeded."""
        if status == "success":
            self.flush()
        with suppress(OSError):
            super().finalize(status)
        threading.excepthook = self._excepthook

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Adds the folder of the run to errors of writing."""
        try:
            yield
        except OSError as error:
            error.filename = self.log_dir
            raise

    def _handle_thread_error(self, args: threading.ExceptHookArgs) -> None:
        """Ignores errors in TensorBoard's thread: the next call of the writer raises them again."""
        if not type(args.thread).__module__.startswith("tensorboard."):
            self._excepthook(args)
