"""Loss, metrics and optimizer around the network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss

from iris_lightning import IrisClassifier
from tests.conftest import curves, fit, load


@pytest.mark.parametrize("batch_size", ["10", "7", "1000"])
def test_metrics_are_those_of_scikit_learn(batch_size: str) -> None:
    cli = fit("--data.batch_size", batch_size, "--model.lr", "0.02")
    cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    saved = load(Path("lightning_logs/version_0/checkpoints/last.ckpt"))["metrics"]
    for split, metrics in (("val", saved), ("test", cli.trainer.callback_metrics)):
        features, targets = cli.datamodule.tensors(split)
        with torch.inference_mode():
            probabilities = cli.model(features).double().softmax(dim=1).numpy()
        predictions = probabilities.argmax(axis=1)
        assert float(metrics[f"loss/{split}"]) == pytest.approx(log_loss(targets.numpy(), probabilities), rel=1e-5)
        assert float(metrics[f"accuracy/{split}"]) == pytest.approx(accuracy_score(targets.numpy(), predictions))
        f1 = f1_score(targets.numpy(), predictions, average="macro")
        assert float(metrics[f"macro_f1/{split}"]) == pytest.approx(f1)


def test_the_scale_is_that_of_the_train_split_alone() -> None:
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


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_a_checkpoint_holds_the_metrics_of_its_own_epoch_alone() -> None:
    fit("--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "2")
    last = load(Path("lightning_logs/version_0/checkpoints/last.ckpt"))
    assert set(last["metrics"]) == {"loss/train", "accuracy/train", "macro_f1/train"}


def test_a_diverged_run_shows_it() -> None:
    cli = fit("--optimizer", "SGD", "--optimizer.lr", "1e30", "--trainer.max_epochs", "2")
    assert not torch.isfinite(cli.trainer.callback_metrics["loss/train"])


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"lr": 0.0}, ("lr", "above 0", "got 0.0")),
        ({"lr": float("nan")}, ("lr", "above 0", "got nan")),
        ({"lr": float("inf")}, ("lr", "finite", "got inf")),
        ({"weight_decay": -0.1}, ("weight_decay", "at least 0", "got -0.1")),
        ({"class_weight": "balance"}, ("class_weight", "balanced", "null", "'balance'")),
        ({"activation": "relo"}, ("activation", "relu, tanh, gelu, silu", "null", "'relo'")),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"^{parts[0]}: ") as refused:
        IrisClassifier(["length"], ["small", "large"], **options)
    assert [part for part in parts if part not in str(refused.value)] == []
