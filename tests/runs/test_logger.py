"""Curves that wait for their file lose nothing."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from iris_lightning.runs import checkpoint_io, logger
from tests.conftest import curves, fit

RUN = Path("lightning_logs/version_0")


class Own(Callback):
    """Logs what a user may."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert trainer.logger is not None
        trainer.logger.log_metrics({"start": 1.0})
        trainer.logger.log_metrics({"pair": {"a": 1.0, "b": 2.0}}, 0)  # type: ignore[dict-item]  # as TensorBoard's may

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("own", torch.tensor(float(trainer.current_epoch)))


def test_points_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    fit("--trainer.callbacks+=tests.runs.test_logger.Own", "--trainer.max_epochs", "2")
    found = curves(RUN)
    assert found["start"] == [(0, 1.0)]
    assert [value for _, value in found["own"]] == [0.0, 1.0]
    assert [epoch for epoch, _ in found["loss/val"]] == [0, 1]
    assert (RUN / "pair_a").is_dir()


def test_curves_are_written_before_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logger, "SECONDS", float("inf"))  # between two writes of curves for their own sake
    monkeypatch.setattr(checkpoint_io, "SECONDS", 0)
    save, seen = torch.save, []

    def look(checkpoint: dict[str, Any], path: Path) -> None:
        if checkpoint["global_step"]:
            points = curves(RUN)
            seen.append([checkpoint["epoch"], *(points[f"loss/{split}"][-1][0] for split in ("train", "val"))])
        save(checkpoint, path)

    monkeypatch.setattr(torch, "save", look)
    fit("--trainer.max_epochs", "3", "--model.lr", "0.01")
    assert seen == [[epoch] * 3 for epoch in (0, 0, 1, 1, 2, 2)], "of best and of last"
