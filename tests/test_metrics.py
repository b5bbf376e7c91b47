"""The metrics of an epoch."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    roc_auc_score,
)
from torch.nn.functional import cross_entropy
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassRecall

from iris_lightning import metrics
from iris_lightning.cli import main
from iris_lightning.scores import make_scores
from tests.conftest import curves, fit, load


def test_metrics_equal_scikit_learn_even_if_classes_are_missing() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(501, 6, generator=generator)
    logits[:, 4] = -9.0  # a class that occurs and is never predicted
    logits[:, 5] = -9.0  # and one that does neither
    targets = torch.randint(0, 5, (501,), generator=generator)
    ours = metrics.epoch_metrics(6, "val")
    for preds, target in zip(logits.split(64), targets.split(64), strict=True):
        ours.update(
            value=cross_entropy(preds, target, reduction="none"), preds=preds, target=target
        )
    predictions = logits.argmax(dim=1)
    found = {name: float(value) for name, value in ours.compute().items()}
    expected = {
        "loss/val": log_loss(targets, logits.double().softmax(dim=1), labels=range(6)),
        "accuracy/val": accuracy_score(targets, predictions),
        "macro_f1/val": f1_score(targets, predictions, average="macro"),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_classes_without_rows_do_not_count_in_test_metrics() -> None:
    logits = 20 * torch.randn(300, 4, generator=torch.Generator().manual_seed(2))
    targets = torch.arange(300) % 3
    ours = MetricCollection(make_scores(4))
    ours.update(logits, targets)
    found = ours.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is predicted without having rows
        balanced = balanced_accuracy_score(targets, logits.argmax(dim=1))
    assert float(found["balanced_accuracy"]) == pytest.approx(balanced)
    probabilities = logits.double().softmax(dim=1)
    areas = [roc_auc_score(targets == i, probabilities[:, i]) for i in range(3)]
    assert float(found["roc_auc"]) == pytest.approx(sum(areas) / 3)


def test_a_new_metric_appears_everywhere(
    default_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_metrics = metrics.make_metrics

    def with_recall(num_classes: int) -> dict[str, Any]:
        return {**make_metrics(num_classes), "recall": MulticlassRecall(num_classes)}

    monkeypatch.setattr(metrics, "make_metrics", with_recall)
    fit("--trainer.max_epochs", "1")
    run = Path("lightning_logs/version_0")
    assert {"recall/train", "recall/val"} <= curves(run).keys()
    assert "recall/val" in load(run / "checkpoints" / "best.ckpt")["metrics"]
    for options in ([], ["--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")]):
        capsys.readouterr()
        main(["test", *options])
        assert "recall/test 0." in capsys.readouterr().out
