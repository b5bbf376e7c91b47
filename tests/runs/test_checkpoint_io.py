"""Checkpoints that are held in memory are those of the moment at which they were saved."""

from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from iris_lightning.errors import UserError
from iris_lightning.runs import checkpoint_io
from iris_lightning.runs.checkpoint_io import AtomicCheckpointIO
from tests.conftest import fit, load

CHECKPOINTS = Path("lightning_logs/version_0/checkpoints")


@pytest.fixture(autouse=True)
def hold_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no time pass between two checkpoints."""
    monkeypatch.setattr(checkpoint_io, "SECONDS", float("inf"))


def test_what_is_held_does_not_change() -> None:
    path, io = Path("last.ckpt").absolute(), AtomicCheckpointIO()
    io.own = {path}
    tensor, numbers, counts = torch.zeros(1), {1}, Counter([1])
    checkpoint = {"deep": {"list": [tensor]}, "pair": (tensor, numbers), "counts": counts}
    io.save_checkpoint(checkpoint, path)
    io.save_checkpoint(checkpoint, path)
    tensor += 1
    numbers.add(2)
    counts[2] = 1
    held = io.held[path]
    assert held["deep"]["list"][0] == held["pair"][0] == 0
    assert held["pair"][1] == {1}
    assert held["counts"] == Counter([1])
    assert type(held["counts"]) is Counter
    io.write_held()
    assert load(path)["deep"]["list"][0] == 0
    assert not io.held
    io.save_checkpoint(checkpoint, Path("own/last.ckpt"))
    io.save_checkpoint({"new": 1}, Path("own/last.ckpt"))
    assert load(Path("own/last.ckpt")) == {"new": 1}, "that of somebody else is written at once"


def test_the_last_one_never_speaks_of_a_best_that_was_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    write = AtomicCheckpointIO._write

    def fail(io: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Path) -> None:
        if path.name == "best.ckpt" and checkpoint["epoch"]:
            raise UserError("no space")
        write(io, checkpoint, path)

    monkeypatch.setattr(AtomicCheckpointIO, "_write", fail)
    with pytest.raises(SystemExit) as stop:
        fit("--trainer.max_epochs", "3", "--model.lr", "0.01")
    assert stop.value.code == 2
    best, last = (load(CHECKPOINTS / f"{name}.ckpt") for name in ("best", "last"))
    assert best["epoch"] == 0
    scores = [state["best_model_score"] for name, state in last["callbacks"].items() if "BestCheckpoint" in name]
    assert scores in ([], [None], [best["metrics"]["loss/val"]])


class Reader(CSVLogger):
    """Notes the epoch of each best checkpoint, as a logger that uploads them would read it."""

    epochs: list[int]

    def __init__(self) -> None:
        super().__init__("csv")
        Reader.epochs = []

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self.epochs.append(load(Path(checkpoint_callback.best_model_path))["epoch"])


def test_a_logger_that_reads_checkpoints_reads_each() -> None:
    fit("--trainer.max_epochs", "3", "--model.lr", "0.01", "--trainer.logger+=tests.runs.test_checkpoint_io.Reader")
    assert Reader.epochs == [0, 1, 2]


class Raises(Callback):
    """Ends the run in its third epoch."""

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 2:
            raise ValueError("mine")


def test_what_was_held_is_written_when_a_callback_fails() -> None:
    with pytest.raises(SystemExit):
        fit("--model.lr", "0.01", "--trainer.callbacks+=tests.runs.test_checkpoint_io.Raises")
    assert [load(CHECKPOINTS / f"{name}.ckpt")["epoch"] for name in ("best", "last")] == [1, 1]
