"""The TensorBoard logger of `fit`."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback

from iris_lightning.runs.logger import RunLogger
from iris_lightning.runs.saving import RunFolder
from tests.conftest import curves, fit
from tests.test_files import full_disk

RUN = Path("lightning_logs/version_0")


class Own(Callback):
    """Logs metrics of its own."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert trainer.logger is not None
        trainer.logger.log_metrics({"start": 1.0}, 7)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("own", float(trainer.current_epoch))


def test_curves_use_the_epoch_as_x_axis() -> None:
    fit("--trainer.callbacks+=tests.runs.test_logger.Own", "--trainer.max_epochs", "2")
    found = curves(RUN)
    assert found["own"] == [(0, 0.0), (1, 1.0)]
    assert [epoch for epoch, _ in found["loss/val"]] == [0, 1]
    assert found["start"] == [(7, 1.0)]
    assert "epoch" not in found
    assert not (RUN / "hparams.yaml").exists()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("before", "during"),
    [(shutil.rmtree, nullcontext), (Path.exists, lambda: full_disk(0))],
    ids=["removed folder", "full disk"],
)
def test_unwritable_curves_raise_a_single_error(
    before: Callable[[Path], object],
    during: Callable[[], AbstractContextManager[None]],
    folder: Path,
) -> None:
    def log() -> None:
        for epoch in range(100):
            logger.log_metrics({"loss/val": 1.0, "epoch": epoch})
            logger.flush()

    logger = RunLogger(RunFolder(folder, folder / RUN, {}), 0)
    log()
    before(folder / RUN)
    with during(), pytest.raises(OSError, match=str(RUN)):
        log()
    logger.finalize("failed")
