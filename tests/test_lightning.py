"""The classes with a plain `lightning.Trainer`, without the command line."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch.utils.data import DataLoader, TensorDataset

import iris_lightning
from iris_lightning import IrisClassifier, IrisDataModule, UserError
from iris_lightning.cli import main
from tests.conftest import assert_same_weights, curves, plain_lightning, plain_trainer

pytestmark = plain_lightning


@pytest.fixture(autouse=True)
def loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores `DataLoader.__init__`: Lightning leaves it patched if a data module raises."""
    monkeypatch.setattr(DataLoader, "__init__", DataLoader.__init__)


class Trained(NamedTuple):
    """Result of a plain Trainer: model, data, test metrics and checkpoint."""

    trainer: L.Trainer
    model: IrisClassifier
    data: IrisDataModule
    shown: dict[str, Any]
    tested: dict[str, float]
    path: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains five epochs and tests, with Lightning's own logger and checkpoints."""
    torch.manual_seed(20)
    data, model = IrisDataModule(), IrisClassifier(standardize=True, lr=0.02)
    root = tmp_path_factory.mktemp("plain")
    trainer = plain_trainer(
        max_epochs=5, logger=True, enable_checkpointing=True, default_root_dir=root
    )
    trainer.fit(model, data)
    shown = trainer.progress_bar_metrics
    (tested,) = trainer.test(model, data, verbose=False)
    (path,) = root.rglob("*.ckpt")
    return Trained(trainer, model, data, shown, dict(tested), str(path))


def train(seed: int, data: IrisDataModule, epochs: int = 2, **options: Any) -> IrisClassifier:
    """Trains the lesson's network with a plain Trainer."""
    torch.manual_seed(seed)
    model = IrisClassifier()
    plain_trainer(max_epochs=epochs, **options).fit(model, data)
    return model


def assert_metrics(
    found: Mapping[str, Any],
    model: IrisClassifier,
    split: str,
    features: torch.Tensor,
    targets: torch.Tensor,
) -> None:
    """Asserts that metrics equal those of scikit-learn on the given rows."""
    with torch.inference_mode():
        probabilities = model(features).double().softmax(dim=1)
    predictions = probabilities.argmax(dim=1)
    expected = {
        f"loss/{split}": log_loss(targets, probabilities),
        f"accuracy/{split}": accuracy_score(targets, predictions),
        f"macro_f1/{split}": f1_score(targets, predictions, average="macro"),
    }
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-5)


def write_flowers(name: str, rows: int = 150, seed: int = 1, suffix: str = "") -> str:
    """Writes rows of Iris, optionally with a suffix on the class names."""
    iris = load_iris()
    species = pl.Series(iris.target_names[iris.target] + suffix)
    frame = pl.DataFrame(iris.data, iris.feature_names).with_columns(species=species)
    frame.sample(rows, seed=seed).write_csv(name)
    return name


def test_validate_test_and_the_progress_bar_show_the_metrics(trained: Trained) -> None:
    assert_metrics(trained.tested, trained.model, "test", *trained.data.tensors("test"))
    (validated,) = trained.trainer.validate(trained.model, trained.data, verbose=False)
    assert_metrics(validated, trained.model, "val", *trained.data.tensors("val"))
    for name, value in validated.items():
        assert float(trained.shown[name]) == pytest.approx(value)
    assert "loss/train" in trained.shown


def test_a_plain_trainer_s_own_logger_is_left_alone(trained: Trained) -> None:
    points = curves(Path(trained.path).parents[1])
    for name in ("loss/train", "loss/val", "accuracy/val"):
        assert [step for step, _ in points[name]][:5] == [10, 21, 32, 43, 54]
    assert points["loss/val"][4][1] == pytest.approx(float(trained.shown["loss/val"]))


def test_predictions_are_probabilities_of_the_test_split(trained: Trained) -> None:
    features, targets = trained.data.tensors("test")
    with torch.inference_mode():
        expected = trained.model.network(features).softmax(dim=1)
    rows: Any = features  # as a data set, which a tensor is as well
    both = TensorDataset(features, targets)
    loaders = DataLoader(rows, batch_size=4), DataLoader(both, batch_size=4)
    for source in (trained.data, *loaders):
        batches: Any = trained.trainer.predict(trained.model, source)
        torch.testing.assert_close(torch.cat(batches), expected)


def test_another_table_needs_its_own_names() -> None:
    data = IrisDataModule(write_flowers("other.csv", suffix=" (wild)"))
    trainer = plain_trainer(max_epochs=1)
    for run in (trainer.fit, trainer.test, trainer.predict):
        with pytest.raises(ValueError, match=r"IrisClassifier\(data\.feature_names, data\.class"):
            run(IrisClassifier(), data)
    model = IrisClassifier(data.feature_names, data.class_names)
    trainer.fit(model, data)
    assert "loss/test" in trainer.test(model, data, verbose=False)[0]


class Counting(IrisClassifier):
    """Counts the rows that all processes see in an epoch, and overrides the loss."""

    def row_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return super().row_losses(logits, targets) ** 2

    def _step(self, batch: Any, metrics: Any) -> torch.Tensor:
        options: dict[str, Any] = {"reduce_fx": "sum", "sync_dist": True, "batch_size": 1}
        rows = float(len(batch[1]))
        self.log("rows", rows, on_step=False, on_epoch=True, **options)
        return super()._step(batch, metrics)


def test_two_processes_equal_one() -> None:
    found = []
    for devices in ({"devices": 1}, {"devices": 2, "strategy": "ddp_fork"}):
        L.seed_everything(3, verbose=False)
        # The last batch has one row, for two processes.
        data = IrisDataModule(batch_size=8)
        model = Counting(standardize=True, class_weight="balanced")
        trainer = plain_trainer(max_epochs=3, limit_val_batches=0, **devices)
        trainer.fit(model, data)
        fitted = {name: float(value) for name, value in trainer.callback_metrics.items()}
        (tested,) = trainer.test(model, data, verbose=False)
        assert (fitted["rows"], tested["rows"]) == (105, 15)
        found.append(({**fitted, **tested}, model.state_dict()))
    (one, alone), (two, shared) = found
    assert two == pytest.approx(one, abs=1e-6)
    torch.testing.assert_close(shared, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", ["ckpt_path", "load_from_checkpoint"])
def test_a_checkpoint_is_evaluated_on_its_own_split(how: str, trained: Trained) -> None:
    other, trainer = IrisDataModule(split_seed=3), plain_trainer(max_epochs=1)
    model = IrisClassifier(standardize=True)
    path: str | None = trained.path
    if how == "load_from_checkpoint":
        model, path = IrisClassifier.load_from_checkpoint(trained.path), None
    (tested,) = trainer.test(model, other, ckpt_path=path, verbose=False)
    assert tested == pytest.approx(trained.tested, rel=1e-6)
    predicted: Any = trainer.predict(model, other, ckpt_path=path)
    with torch.inference_mode():
        expected = trained.model(trained.data.tensors("test")[0]).softmax(dim=1)
    torch.testing.assert_close(torch.cat(predicted), expected)
    fresh = IrisClassifier()
    trainer.fit(fresh, other)  # has no checkpoint: back to its own split
    own = IrisDataModule(split_seed=3).tensors("test")
    assert_metrics(trainer.test(fresh, other, verbose=False)[0], fresh, "test", *own)


@pytest.mark.parametrize("how", ["ckpt_path", "load_from_checkpoint"])
def test_a_checkpoint_is_evaluated_on_another_table(how: str, trained: Trained) -> None:
    def test(table: str, path: str, **options: Any) -> dict[str, float]:
        model = IrisClassifier(**options)
        ckpt_path: str | None = path
        if how == "load_from_checkpoint":
            model, ckpt_path = IrisClassifier.load_from_checkpoint(path), None
        data = IrisDataModule(table)
        return dict(plain_trainer().test(model, data, ckpt_path=ckpt_path, verbose=False)[0])

    write_flowers("other.csv", suffix=" (wild)")
    with pytest.raises(ValueError, match=r"other\.csv.*setosa \(wild\).*setosa, versicolor"):
        test("other.csv", trained.path, standardize=True)
    table = IrisDataModule(write_flowers("few.csv", 60)).table
    found = test("few.csv", trained.path, standardize=True)
    assert_metrics(found, trained.model, "test", table.features, table.targets)
    train(1, IrisDataModule("few.csv"), enable_checkpointing=True)
    (path,) = Path("checkpoints").glob("*.ckpt")
    write_flowers("few.csv", 60, seed=2)
    with pytest.raises(ValueError, match=r"few\.csv: the table.* has changed"):
        test("few.csv", str(path))


def test_fine_tuning_keeps_the_scale(trained: Trained) -> None:
    model, data = IrisClassifier.load_from_checkpoint(trained.path), IrisDataModule(split_seed=3)
    trainer = plain_trainer(max_epochs=1)
    trainer.fit(model, data)
    before, after = trained.model.state_dict(), model.state_dict()
    assert torch.equal(after["network.mean"], before["network.mean"])
    assert not torch.equal(after["network.layers.0.weight"], before["network.layers.0.weight"])
    # It keeps to its split: some test rows of another one would have been trained on before.
    kept = IrisDataModule().tensors("test")
    assert_metrics(trainer.test(model, data, verbose=False)[0], model, "test", *kept)


def test_options_may_be_numpy_values() -> None:
    iris = load_iris()
    split: Any = np.array([0.7, 0.2, 0.1])
    data = IrisDataModule(batch_size=np.int64(16), split=split)  # type: ignore[arg-type]
    hidden: Any = np.array([5, 6])
    model = IrisClassifier(
        iris.feature_names, iris.target_names, hidden, np.str_("relu"), lr=np.logspace(-4, -1, 4)[1]
    )
    trainer = plain_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("numpy.ckpt")
    loaded = IrisClassifier.load_from_checkpoint("numpy.ckpt", weights_only=True)
    assert_same_weights(loaded.state_dict(), model.state_dict())
    assert iris_lightning.load("numpy.ckpt").predict(iris.data).shape == (150,)


class Subclass(IrisDataModule):
    """A user's subclass of this project's data module."""


class Own(L.LightningDataModule):
    """A user's data module."""

    def train_dataloader(self) -> Any:
        rows = TensorDataset(*IrisDataModule(split_seed=7).tensors("train"))
        return DataLoader(rows, batch_size=10)


@pytest.mark.parametrize("kind", ["loader", "subclass", "own"])
def test_checkpoints_of_other_data_modules_can_be_used(kind: str) -> None:
    model, trainer = IrisClassifier(), plain_trainer(max_epochs=1)
    data: dict[str, Any] = {
        "loader": Own().train_dataloader(),
        "subclass": Subclass(split_seed=7),
        "own": Own(),
    }
    trainer.fit(model, data[kind])
    trainer.save_checkpoint("model.ckpt")
    iris = load_iris()
    expected = model(torch.tensor(iris.data, dtype=torch.float32)).argmax(dim=1)
    found = iris_lightning.load("model.ckpt").predict(iris.data)
    assert found.tolist() == iris.target_names[expected].tolist()
    if kind == "subclass":  # it is evaluated on the rows that it was not trained on
        loaded, other = IrisClassifier.load_from_checkpoint("model.ckpt"), Subclass(split_seed=3)
        plain_trainer().test(loaded, other, verbose=False)
        assert torch.equal(other.rows["test"], IrisDataModule(split_seed=7).rows["test"])


def test_checkpoints_of_a_user_s_own_cli_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--trainer.max_epochs=2", "--model.hidden=[5]", "--seed_everything=3"]
    monkeypatch.setattr("sys.argv", ["own.py", "fit", *options])
    own = LightningCLI(IrisClassifier, IrisDataModule)
    (path,) = Path("lightning_logs").rglob("*.ckpt")
    found = main(["test", "--ckpt_path", str(path)]).trainer.callback_metrics
    features, targets = own.datamodule.tensors("test")
    assert_metrics(found, own.model, "test", features, targets)
    main(["export", "model.safetensors", "--ckpt_path", str(path)])
    for file in (path, "model.safetensors"):
        loaded = iris_lightning.load(file)
        torch.testing.assert_close(loaded(features), own.model(features).softmax(dim=1))


def test_validation_before_training() -> None:
    torch.manual_seed(1)
    model, data, trainer = IrisClassifier(), IrisDataModule(), plain_trainer(max_epochs=1)
    trainer.validate(model, data, verbose=False)
    trainer.fit(model, data)
    assert_same_weights(model.state_dict(), train(1, IrisDataModule(), epochs=1).state_dict())


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    def train_until(epoch: int, data: IrisDataModule, path: str | None = None) -> L.Trainer:
        torch.manual_seed(1)
        trainer = plain_trainer(max_epochs=epoch)
        model = IrisClassifier(standardize=True, class_weight="balanced")
        trainer.fit(model, data, ckpt_path=path)
        return trainer

    train_until(2, IrisDataModule()).save_checkpoint("two.ckpt")
    # On the checkpoint's split, whichever the data module's own.
    resumed = train_until(4, IrisDataModule(split_seed=3), "two.ckpt").lightning_module
    whole = train_until(4, IrisDataModule()).lightning_module
    assert_same_weights(resumed.state_dict(), whole.state_dict())


def test_plain_loaders_instead_of_the_data_module() -> None:
    torch.manual_seed(1)
    model, data, trainer = IrisClassifier(), IrisDataModule(), plain_trainer(max_epochs=2)
    trainer.fit(model, data.train_dataloader(), data.val_dataloader())
    assert_same_weights(model.state_dict(), train(1, IrisDataModule()).state_dict())
    for options in ({"standardize": True}, {"class_weight": "balanced"}):
        with pytest.raises(UserError, match="need an IrisDataModule"):
            trainer.fit(IrisClassifier(**options), data.train_dataloader())


def test_one_data_module_with_two_seeds() -> None:
    data = IrisDataModule()
    first, other, again = (train(seed, data, epochs=1).state_dict() for seed in (1, 2, 1))
    assert_same_weights(first, again)
    assert_same_weights(other, train(2, IrisDataModule(), epochs=1).state_dict())


def test_a_second_training_does_not_read_the_table_again() -> None:
    path = write_flowers("other.csv")
    data = IrisDataModule(path)
    for _ in range(2):
        model = IrisClassifier(**data.classifier_options())
        plain_trainer(max_epochs=1).fit(model, data)
        Path(path).unlink(missing_ok=True)


def test_global_random_state_is_unchanged() -> None:
    found = []
    for run in (True, False):
        model, data, trainer = IrisClassifier(), IrisDataModule(), plain_trainer(max_epochs=2)
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        if run:
            trainer.fit(model, data)
            trainer.test(model, data, verbose=False)
        found.append((torch.get_rng_state().tolist(), np.random.rand(), random.random()))
    assert found[0] == found[1]
