"""The classifier: metrics and overridden methods."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import iris_lightning
from iris_lightning import IrisClassifier, IrisDataModule, IrisNetwork, UserError
from iris_lightning.cli import main
from iris_lightning.network import ACTIVATIONS
from tests.conftest import (
    assert_same_weights,
    fails,
    fit,
    load,
    plain_lightning,
    plain_trainer,
)

pytestmark = plain_lightning

LAST = Path("lightning_logs/version_0/checkpoints/last.ckpt")


class Own(IrisClassifier):
    """Overrides the network, and adds options."""

    def __init__(
        self, width: int = 16, dropout: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)

    def make_network(self) -> nn.Module:
        width = self.hparams["width"]
        dropout = nn.Dropout(**self.hparams["dropout"] or {})
        return nn.Sequential(nn.Linear(4, width), nn.PReLU(), dropout, nn.Linear(width, 3))


class Stepped(IrisClassifier):
    """Overrides the optimizer, with a scheduler."""

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class Smoothed(IrisClassifier):
    """Overrides the loss, and the optimizer without a scheduler."""

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> OptimizerLRScheduler:
        return torch.optim.SGD(parameters, lr=0.1)

    def row_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(logits, targets, reduction="none", label_smoothing=0.2)


@pytest.mark.parametrize("kind", [Own, Stepped, Smoothed])
def test_a_subclass_is_trained_tested_and_loaded(kind: type[IrisClassifier]) -> None:
    model, data, trainer = kind(), IrisDataModule(), plain_trainer(max_epochs=2)
    trainer.fit(model, data)
    (tested,) = trainer.test(model, data, verbose=False)
    trainer.save_checkpoint("model.ckpt")
    again = kind.load_from_checkpoint("model.ckpt", weights_only=True)
    assert_same_weights(again.state_dict(), model.state_dict())
    assert trainer.test(again, data, verbose=False) == [tested]
    if kind is Stepped:
        assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 / 4)


@pytest.fixture
def own_checkpoint() -> str:
    """Saves a checkpoint of a subclass with a tuple and a dict in its options."""
    trainer = plain_trainer(max_epochs=1)
    trainer.fit(Own(width=6, dropout={"p": 0.4}, lr=0.01, hidden=(7, 5)), IrisDataModule())
    trainer.save_checkpoint("own.ckpt")
    return "own.ckpt"


def test_options_of_a_subclass_are_recorded(own_checkpoint: str) -> None:
    again = Own.load_from_checkpoint(own_checkpoint, weights_only=True)
    assert again.network.get_parameter("0.weight").shape == (6, 4)
    assert again.network.get_submodule("2").extra_repr() == "p=0.4, inplace=False"
    assert (again.hparams["lr"], again.hparams["hidden"]) == (0.01, (7, 5))


@pytest.mark.parametrize("command", ["fit", "test", "predict in.csv"])
def test_commands_refuse_a_subclass_by_name(
    command: str, own_checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").touch()
    message = fails(capsys, *command.split(), "--ckpt_path", own_checkpoint)
    assert "test_classifier.Own" in message
    assert "load_from_checkpoint" in message
    assert message.count("\n") == 1
    with pytest.raises(UserError, match=r"test_classifier\.Own;.*load_from_checkpoint"):
        iris_lightning.load(own_checkpoint)


def test_commands_refuse_another_network_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(IrisClassifier, "make_network", lambda self: nn.Linear(4, 3))
    fit("--trainer.max_epochs", "1")
    message = fails(capsys, "export", "model.pth")
    assert "torch.nn.modules.linear.Linear" in message
    assert "load_from_checkpoint" in message
    last = IrisClassifier.load_from_checkpoint(LAST, weights_only=True)
    assert last.network.weight.shape == (3, 4)


def test_class_weights_apply_to_an_overridden_loss() -> None:
    torch.manual_seed(1)
    model, data = Smoothed(class_weight="balanced"), IrisDataModule(batch_size=150)
    before = {name: tensor.clone() for name, tensor in model.network.named_parameters()}
    features, targets = data.tensors("train")
    losses = model.row_losses(model(features), targets)
    weights = torch.tensor(compute_sample_weight("balanced", targets), dtype=torch.float32)
    parameters = list(model.network.parameters())
    gradients = torch.autograd.grad((losses * weights).mean(), parameters)
    trainer = plain_trainer(max_epochs=1)
    trainer.fit(model, data)  # one step
    for gradient, (name, after) in zip(gradients, model.network.named_parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before[name] - 0.1 * gradient)
    features, targets = data.tensors("val")
    expected = model.row_losses(model(features), targets).mean()
    torch.testing.assert_close(trainer.callback_metrics["loss/val"], expected.detach())


def test_commands_use_an_edited_loss_and_optimizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(IrisClassifier, "row_losses", Smoothed.row_losses)
    monkeypatch.setattr(IrisClassifier, "make_optimizer", Stepped.make_optimizer)
    fit("--trainer.max_epochs", "2")
    cli = main(["test", "--ckpt_path", "last"])
    last = load(LAST)
    for split, metrics in (("val", last["metrics"]), ("test", cli.trainer.callback_metrics)):
        features, targets = cli.datamodule.tensors(split)
        with torch.inference_mode():
            expected = cli.model.row_losses(cli.model(features), targets).mean()
        assert float(metrics[f"loss/{split}"]) == pytest.approx(float(expected), rel=1e-5)
    assert last["lr_schedulers"][0]["_last_lr"] == [pytest.approx(0.025)]
    resumed = fit("--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert resumed.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0125)


EDITS: dict[str, Callable[[IrisClassifier], nn.Module]] = {
    "other sizes": lambda self: IrisNetwork(hidden=[5]),
    "PReLU": lambda self: IrisNetwork(hidden=[5], activation="prelu"),
    "compiled": lambda self: cast("nn.Module", torch.compile(IrisNetwork(), backend="eager")),
}


@pytest.mark.parametrize("edit", EDITS)
def test_commands_use_an_edited_network(edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "prelu", nn.PReLU)
    monkeypatch.setattr(IrisClassifier, "make_network", EDITS[edit])
    cli = fit("--trainer.max_epochs", "1")
    validated = main(["validate"]).trainer.callback_metrics
    assert validated.items() <= cli.trainer.callback_metrics.items()
    main(["export", "model.safetensors"])
    Path("in.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5,3,1,0\n")
    main(["predict", "in.csv", "--output", "out.csv"])
    with torch.inference_mode():
        expected = cli.model(torch.tensor([[5.0, 3.0, 1.0, 0.0]])).softmax(dim=1).numpy()
    for path in (LAST, "model.safetensors"):
        found = iris_lightning.load(path).predict_proba([[5, 3, 1, 0]])
        assert found == pytest.approx(expected)
    written = Path("out.csv").read_text().splitlines()[1].split(",")[-3:]
    assert [float(text) for text in written] == pytest.approx(expected[0].tolist())


def test_scaling_uses_the_train_split_only() -> None:
    cli = fit("--model.standardize", "true", "--trainer.max_epochs", "1")
    train, _ = cli.datamodule.tensors("train")
    saved = load(LAST)["state_dict"]
    torch.testing.assert_close(saved["network.mean"], train.mean(dim=0))
    torch.testing.assert_close(saved["network.std"], train.std(dim=0, correction=0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_weight", "balance"),
        ("activation", "relo"),
        ("hidden", [16, 0]),
    ],
)
def test_invalid_options_raise_an_error(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        IrisClassifier(**{name: value})
