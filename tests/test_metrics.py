"""The metrics of an epoch."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from iris_lightning import IrisClassifier, IrisDataModule
from iris_lightning.metrics import EpochMetrics
from tests.conftest import curves


@pytest.mark.parametrize("batch_size", [1, 7, 64, 500])
@pytest.mark.parametrize("rows", [500, 501])
def test_they_are_those_of_torchmetrics(rows: int, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, 6, generator=generator)
    logits[:, 4] = -9.0  # a class that occurs and is never predicted
    targets = torch.randint(0, 5, (rows,), generator=generator)
    logits[:, 5] = -9.0  # and one that does neither
    ours = EpochMetrics(6)
    mean, accuracy, f1 = MeanMetric(), MulticlassAccuracy(6, average="micro"), MulticlassF1Score(6, average="macro")
    for _ in range(2):  # the second epoch starts afresh
        for batch, truth in zip(logits.split(batch_size), targets.split(batch_size), strict=True):
            ours.update(cross_entropy(batch, truth), batch, truth)
            mean.update(cross_entropy(batch, truth, reduction="none"))
            accuracy.update(batch, truth)
            f1.update(batch, truth)
        torch.testing.assert_close(
            ours.compute(), {"loss": mean.compute(), "accuracy": accuracy.compute(), "macro_f1": f1.compute()}
        )
        for metric in (ours, mean, accuracy, f1):
            metric.reset()
        logits = logits.roll(1, dims=1)


def test_the_first_of_equal_logits_is_the_prediction() -> None:
    metrics = EpochMetrics(3)
    metrics.update(torch.tensor(1.0), torch.tensor([[2.0, 2.0, 1.0], [0.0, 5.0, 5.0]]), torch.tensor([0, 1]))
    assert metrics.compute()["accuracy"] == 1


def test_a_batch_without_rows_changes_nothing() -> None:
    metrics, logits, targets = EpochMetrics(3), torch.eye(3), torch.tensor([0, 1, 1])
    metrics.update(cross_entropy(logits, targets), logits, targets)
    before = {name: value.clone() for name, value in metrics.compute().items()}
    empty = logits[:0], targets[:0]
    metrics.update(cross_entropy(*empty), *empty)  # whose mean loss is NaN
    assert metrics.compute() == before
    assert before["accuracy"] == pytest.approx(2 / 3)


def test_the_loss_of_ten_million_rows_is_exact() -> None:
    metrics, logits, targets = EpochMetrics(2), torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    metrics.total_loss = torch.tensor(2.0**25)  # to which float32 adds no 1
    for _ in range(1000):
        metrics.update(torch.tensor(1.0), logits, targets)
    metrics.compute()
    assert metrics.total_loss == 2**25 + 1000


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_a_metric_of_a_subclass_keeps_the_step(folder: Path) -> None:
    class Mine(IrisClassifier):
        def on_train_batch_end(self, *args: object, **kwargs: object) -> None:
            self.log("norm", 1.0)

    options: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    trainer = L.Trainer(max_epochs=2, default_root_dir=folder, **options)
    trainer.fit(Mine(), IrisDataModule())
    points = curves(Path(str(trainer.log_dir)))
    assert [step for step, _ in points["norm"]] == list(range(22))
    assert [step for step, _ in points["loss/train"]] == [0, 1]
