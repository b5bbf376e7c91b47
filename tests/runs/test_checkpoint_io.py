"""Checkpoints waiting in memory are written atomically and in order."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback

from iris_lightning.files import atomic_write
from iris_lightning.runs import checkpoint_io
from tests.conftest import fit, load
from tests.test_files import full_disk

CHECKPOINTS = Path("lightning_logs/version_0/checkpoints")
IMPROVES = ["--model.lr", "0.01", "--trainer.max_epochs"]  # each epoch is the best so far


@pytest.fixture(autouse=True)
def all_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes all checkpoints but the first wait."""
    monkeypatch.setattr(checkpoint_io, "WRITE_INTERVAL_SECONDS", float("inf"))


class Raises(Callback):
    """Raises an error in the third epoch."""

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 2:
            raise ValueError("mine")


def test_checkpoints_are_written_when_a_callback_fails() -> None:
    with pytest.raises(ValueError, match="mine"):  # with its traceback
        fit(*IMPROVES, "4", "--trainer.callbacks+=tests.runs.test_checkpoint_io.Raises")
    assert [load(CHECKPOINTS / f"{name}.ckpt")["epoch"] for name in ("best", "last")] == [1, 1]


def test_last_never_refers_to_an_unwritten_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextlib.contextmanager
    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "best.ckpt" and path.exists():
            raise OSError(5, "broken")
        with atomic_write(path) as new:
            yield new

    monkeypatch.setattr(checkpoint_io, "atomic_write", refuse)
    with pytest.raises(SystemExit) as stop:
        fit(*IMPROVES, "3")
    assert stop.value.code == 2
    assert [load(CHECKPOINTS / f"{name}.ckpt")["epoch"] for name in ("best", "last")] == [0, 0]


def test_a_full_disk_leaves_the_previous_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    fit(*IMPROVES, "2")
    files = [CHECKPOINTS / "best.ckpt", CHECKPOINTS / "last.ckpt"]
    before = [path.read_bytes() for path in files]
    resume = ["--ckpt_path", "last", "--trainer.max_epochs", "4"]
    capsys.readouterr()
    with full_disk(9000), pytest.raises(SystemExit) as stop:
        fit(*resume)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "best.ckpt: File too large" in err
    assert len(err.splitlines()) == 1
    assert [path.read_bytes() for path in files] == before
    fit(*resume)
    assert [load(path)["epoch"] for path in files] == [3, 3]


class SlowEpochs(Callback):
    """Lets the clock go on by ten seconds in each epoch, and reads `last.ckpt` in the next one."""

    seconds = 0
    found: ClassVar[list[int]] = []  # the epoch of `last.ckpt` at the start of each but the first

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch > 0:
            self.found.append(load(CHECKPOINTS / "last.ckpt")["epoch"])
        SlowEpochs.seconds += 10


def test_an_epoch_of_some_seconds_is_saved_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: SlowEpochs.seconds)
    monkeypatch.setattr(checkpoint_io, "time", clock)
    monkeypatch.setattr(checkpoint_io, "WRITE_INTERVAL_SECONDS", 1)
    fit(*IMPROVES, "4", "--trainer.callbacks+=tests.runs.test_checkpoint_io.SlowEpochs")
    assert SlowEpochs.found == [0, 1, 2]
