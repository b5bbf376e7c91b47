"""Loss, metrics and optimizer around the network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from iris_lightning import IrisClassifier
from iris_lightning.classifier import scores
from tests.conftest import curves, fit, load


@pytest.mark.parametrize("batch_size", ["10", "7", "1000"])
def test_metrics_are_those_of_scikit_learn(batch_size: str) -> None:
    cli = fit("--data.batch_size", batch_size, "--model.lr", "0.02")
    cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    for part in ("val", "test"):
        data = cli.datamodule.parts[part]
        with torch.inference_mode():
            probabilities = cli.model(data.features).double().softmax(dim=1).numpy()
        metrics = (
            cli.trainer.callback_metrics
            if part == "test"
            else load(Path("lightning_logs/version_0/checkpoints/last.ckpt"))["metrics"]
        )
        assert float(metrics[f"loss/{part}"]) == pytest.approx(log_loss(data.targets.numpy(), probabilities), rel=1e-5)
        accuracy = accuracy_score(data.targets.numpy(), probabilities.argmax(axis=1))
        assert float(metrics[f"accuracy/{part}"]) == pytest.approx(accuracy)
        f1 = f1_score(data.targets.numpy(), probabilities.argmax(axis=1), average="macro")
        assert float(metrics[f"f1/{part}"]) == pytest.approx(f1)


def test_scores_are_those_of_torchmetrics() -> None:
    predictions, targets = torch.randint(0, 4, (500,)), torch.randint(0, 5, (500,))  # the last class never predicted
    accuracy, f1 = scores(multiclass_confusion_matrix(predictions, targets, 6))  # and one that never occurs
    torch.testing.assert_close(accuracy, multiclass_accuracy(predictions, targets, 6, average="micro"))
    torch.testing.assert_close(f1, multiclass_f1_score(predictions, targets, 6, average="macro"))


def test_the_scale_is_that_of_the_train_part_alone() -> None:
    cli = fit("--model.standardize", "true", "--trainer.max_epochs", "1")
    train = cli.datamodule.table.features[cli.datamodule.rows["train"]].double()
    saved = load(Path("lightning_logs/version_0/checkpoints/last.ckpt"))["state_dict"]
    torch.testing.assert_close(saved["network.mean"], train.mean(dim=0).float())
    torch.testing.assert_close(saved["network.std"], train.std(dim=0, correction=0).float())


def test_the_sanity_check_leaves_no_trace() -> None:
    plain = fit("--trainer.max_epochs", "1")
    checked = fit("--trainer.max_epochs", "1", "--trainer.num_sanity_val_steps", "2")
    assert plain.trainer.callback_metrics == checked.trainer.callback_metrics
    assert curves(Path("lightning_logs/version_0")) == curves(Path("lightning_logs/version_1"))


def test_a_checkpoint_holds_the_metrics_of_its_own_epoch_alone() -> None:
    fit("--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "2")
    last = load(Path("lightning_logs/version_0/checkpoints/last.ckpt"))
    assert set(last["metrics"]) == {"loss/train", "accuracy/train", "f1/train"}


def test_a_diverged_run_shows_it() -> None:
    cli = fit("--optimizer", "SGD", "--optimizer.lr", "1e30", "--trainer.max_epochs", "2")
    assert not torch.isfinite(cli.trainer.callback_metrics["loss/train"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr: expected a finite number above 0, got 0.0"),
        ({"lr": float("nan")}, "lr: expected a finite number above 0, got nan"),
        ({"lr": float("inf")}, "lr: expected a finite number above 0, got inf"),
        ({"weight_decay": -0.1}, "weight_decay: expected a finite number of at least 0, got -0.1"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IrisClassifier(["length"], ["small", "large"], **options)
