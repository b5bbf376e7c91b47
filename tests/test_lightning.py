"""The classes with a plain `lightning.Trainer`, without the command line."""

import csv
import random
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    EarlyStopping,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner.tuning import Tuner
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch.utils.data import DataLoader, TensorDataset

import iris_lightning
from iris_lightning import IrisClassifier, IrisDataModule, UserError
from tests.conftest import assert_same_weights, curves

# A warning is an error, but for Lightning's own remarks: of its code, of small tables, of missing callbacks.
pytestmark = pytest.mark.filterwarnings(
    "error",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:Be aware that when using `ckpt_path`",
    "ignore:You requested to overfit",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
)

QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
BARE: dict[str, Any] = {**QUIET, "logger": False, "enable_checkpointing": False}


@pytest.fixture(autouse=True)
def loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives `DataLoader` back its constructor, in whose place Lightning leaves its own when a data module raises."""
    monkeypatch.setattr(DataLoader, "__init__", DataLoader.__init__)


class Trained(NamedTuple):
    """A run of a plain Trainer: what its progress bar showed last, what its test said, its curves, its checkpoint."""

    trainer: L.Trainer
    model: IrisClassifier
    data: IrisDataModule
    shown: dict[str, float]
    figures: dict[str, float]
    points: dict[str, list[tuple[int, float]]]
    path: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Five epochs and a test, with Lightning's own logger and checkpoint."""
    torch.manual_seed(20)
    data, model = IrisDataModule(), IrisClassifier(standardize=True, lr=0.02)
    trainer = L.Trainer(max_epochs=5, default_root_dir=tmp_path_factory.mktemp("plain"), **QUIET)
    trainer.fit(model, data)
    shown = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
    (tested,) = trainer.test(model, data, verbose=False)
    (path,) = Path(str(trainer.log_dir)).glob("checkpoints/*.ckpt")
    return Trained(trainer, model, data, shown, dict(tested), curves(path.parent.parent), str(path))


def train(seed: int, data: IrisDataModule, epochs: int = 2, **options: Any) -> IrisClassifier:
    """Trains the lesson's network with a plain Trainer."""
    torch.manual_seed(seed)
    model = IrisClassifier()
    L.Trainer(max_epochs=epochs, **{**BARE, **options}).fit(model, data)
    return model


def figures(model: IrisClassifier, split: str, features: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """What scikit-learn says of a model on some rows."""
    with torch.inference_mode():
        probabilities = model(features).double().softmax(dim=1).numpy()
    predictions = probabilities.argmax(axis=1)
    return {
        f"loss/{split}": log_loss(targets.numpy(), probabilities),
        f"accuracy/{split}": accuracy_score(targets.numpy(), predictions),
        f"macro_f1/{split}": f1_score(targets.numpy(), predictions, average="macro"),
    }


def write_flowers(name: str, rows: int = 150, seed: int = 1, suffix: str = "") -> str:
    """Writes some rows of Iris, with other names of the classes or not."""
    iris = load_iris()
    frame = pl.DataFrame(iris.data, iris.feature_names).with_columns(species=iris.target_names[iris.target] + suffix)
    frame.sample(rows, seed=seed).write_csv(name)
    return name


def test_the_readme_s_example(capsys: pytest.CaptureFixture[str]) -> None:
    data, model = IrisDataModule(), IrisClassifier()
    trainer = L.Trainer(max_epochs=5)
    trainer.fit(model, data)
    (tested,) = trainer.test(model, data)
    printed = capsys.readouterr().out
    predicted: Any = trainer.predict(model, data)
    assert set(tested) == {"loss/test", "accuracy/test", "macro_f1/test"}
    assert [name for name in tested if name not in printed] == []
    assert torch.cat(predicted).shape == (15, 3)


def test_validate_and_test_return_the_metrics(trained: Trained) -> None:
    assert trained.figures == pytest.approx(figures(trained.model, "test", *trained.data.tensors("test")), rel=1e-5)
    (validated,) = trained.trainer.validate(trained.model, trained.data, verbose=False)
    assert validated == pytest.approx(figures(trained.model, "val", *trained.data.tensors("val")), rel=1e-5)


def test_the_progress_bar_shows_loss_and_accuracy(trained: Trained) -> None:
    val = figures(trained.model, "val", *trained.data.tensors("val"))
    assert {name: trained.shown[name] for name in val} == pytest.approx(val, rel=1e-5)
    assert {"loss/train", "accuracy/train"} <= trained.shown.keys()


def test_the_epoch_is_tensorboard_s_x_axis(trained: Trained) -> None:
    for name in ("loss", "accuracy", "macro_f1"):
        for split in ("train", "val"):
            assert [step for step, _ in trained.points[f"{name}/{split}"]] == [0, 1, 2, 3, 4]
        assert [step for step, _ in trained.points[f"{name}/test"]] == [5]
    assert trained.points["loss/val"][-1][1] == pytest.approx(trained.shown["loss/val"])


def test_csv_has_epoch_and_step() -> None:
    trainer = L.Trainer(max_epochs=3, logger=CSVLogger("."), **QUIET)
    trainer.fit(IrisClassifier(), IrisDataModule())
    rows = list(csv.DictReader(Path(str(trainer.log_dir), "metrics.csv").read_text().splitlines()))
    for name in ("loss/train", "loss/val", "accuracy/train", "accuracy/val"):
        found = [(row["epoch"], row["step"]) for row in rows if row[name]]
        assert found == [("0", "10"), ("1", "21"), ("2", "32")], name


def test_predictions_are_probabilities_of_the_test_split(trained: Trained) -> None:
    features, targets = trained.data.tensors("test")
    with torch.inference_mode():
        expected = trained.model.network(features).softmax(dim=1)
    rows: Any = features  # as a data set, which a tensor is as well
    loaders = DataLoader(rows, 4), DataLoader(TensorDataset(features, targets), 4)
    for source in (trained.data, *loaders):
        batches: Any = trained.trainer.predict(trained.model, source)
        found = torch.cat(batches)
        assert found.shape == (15, 3)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(15))


def test_another_table_needs_its_own_names() -> None:
    data = IrisDataModule(write_flowers("other.csv", suffix=" (wild)"))
    trainer = L.Trainer(max_epochs=1, **BARE)
    for run in (trainer.fit, trainer.test, trainer.predict):
        with pytest.raises(ValueError, match=r"IrisClassifier\(data\.feature_names, data\.class_names\)"):
            run(IrisClassifier(), data)
    model = IrisClassifier(data.feature_names, data.class_names)
    trainer.fit(model, data)
    assert trainer.test(model, data, verbose=False)[0].keys() == {"loss/test", "accuracy/test", "macro_f1/test"}


class Counting(IrisClassifier):
    """Counts the rows that all processes see in an epoch."""

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self._count("train", batch)
        return super().training_step(batch, batch_idx)

    def test_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self._count("test", batch)
        super().test_step(batch, batch_idx)

    def _count(self, split: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        options: dict[str, Any] = {"reduce_fx": "sum", "sync_dist": True, "batch_size": 1}
        self.log(f"rows/{split}", float(len(batch[1])), on_step=False, on_epoch=True, **options)


def test_two_processes_do_as_one() -> None:
    found = []
    for devices in ({"devices": 1}, {"devices": 2, "strategy": "ddp_fork"}):
        L.seed_everything(3)
        model, data = Counting(standardize=True, class_weight="balanced"), IrisDataModule(batch_size=8)
        trainer = L.Trainer(max_epochs=3, **BARE, **devices)  # the last batch has one row, for two processes
        trainer.fit(model, data)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics |= trainer.test(model, data, verbose=False)[0]
        assert (metrics["rows/train"], metrics["rows/test"]) == (105, 15)
        found.append((metrics, model.state_dict()))
    (one, alone), (two, shared) = found
    assert two == pytest.approx(one, abs=1e-6)
    for name, tensor in alone.items():
        torch.testing.assert_close(shared[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", ["ckpt_path", "load_from_checkpoint"])
def test_a_checkpoint_is_evaluated_on_its_own_split(how: str, trained: Trained) -> None:
    other, trainer = IrisDataModule(split_seed=3), L.Trainer(max_epochs=1, **BARE)
    if how == "ckpt_path":
        model, path = IrisClassifier(standardize=True), trained.path
    else:
        model, path = IrisClassifier.load_from_checkpoint(trained.path), None
    assert trainer.test(model, other, ckpt_path=path, verbose=False)[0] == pytest.approx(trained.figures, rel=1e-6)
    predicted: Any = trainer.predict(model, other, ckpt_path=path)
    with torch.inference_mode():
        expected = trained.model(trained.data.tensors("test")[0]).softmax(dim=1)
    torch.testing.assert_close(torch.cat(predicted), expected)
    fresh = IrisClassifier()
    trainer.fit(fresh, other)  # has no checkpoint: back to its own split
    own = IrisDataModule(split_seed=3).tensors("test")
    assert trainer.test(fresh, other, verbose=False)[0] == pytest.approx(figures(fresh, "test", *own), rel=1e-5)


@pytest.mark.parametrize("how", ["ckpt_path", "load_from_checkpoint"])
def test_a_checkpoint_and_another_table(how: str, trained: Trained) -> None:
    def test(path: str, checkpoint: str) -> dict[str, float]:
        trainer, data = L.Trainer(**BARE), IrisDataModule(path)
        if how == "ckpt_path":
            model = IrisClassifier(standardize=checkpoint == trained.path)
            return dict(trainer.test(model, data, ckpt_path=checkpoint, verbose=False)[0])
        return dict(trainer.test(IrisClassifier.load_from_checkpoint(checkpoint), data, verbose=False)[0])

    with pytest.raises(ValueError, match=r"other\.csv.*'setosa \(wild\)'.*setosa, versicolor, virginica"):
        test(write_flowers("other.csv", suffix=" (wild)"), trained.path)
    table = IrisDataModule(write_flowers("few.csv", 60)).table
    everything = figures(trained.model, "test", table.features, table.targets)
    assert test("few.csv", trained.path) == pytest.approx(everything, rel=1e-5)
    with pytest.raises(ValueError, match=r"few\.csv: not the table"):
        L.Trainer(max_epochs=9, **BARE).fit(
            IrisClassifier(standardize=True), IrisDataModule("few.csv"), ckpt_path=trained.path
        )

    train(1, IrisDataModule("few.csv"), enable_checkpointing=True)
    (checkpoint,) = Path("checkpoints").glob("*.ckpt")
    test("few.csv", str(checkpoint))
    write_flowers("few.csv", 60, seed=2)
    with pytest.raises(ValueError, match=r"few\.csv: the table has changed"):
        test("few.csv", str(checkpoint))


def test_a_loaded_model_is_trained_on_with_its_scale(trained: Trained) -> None:
    model, data = IrisClassifier.load_from_checkpoint(trained.path), IrisDataModule(split_seed=3)
    trainer = L.Trainer(max_epochs=1, **BARE)
    trainer.fit(model, data)
    before, after = trained.model.network, model.network
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(after.std, before.std)
    assert not torch.equal(after.get_parameter("layers.0.weight"), before.get_parameter("layers.0.weight"))
    kept = IrisDataModule().tensors("test")  # of another split, some rows would have been trained on before
    assert trainer.test(model, data, verbose=False)[0] == pytest.approx(figures(model, "test", *kept), rel=1e-5)


def test_numpy_s_values_are_as_good_as_python_s(tmp_path: Path) -> None:
    iris = load_iris()
    write_flowers("flowers.csv")
    features = np.array(iris.feature_names)
    how: dict[str, Any] = {"batch_size": np.int64(16), "split": np.array([0.7, 0.2, 0.1]), "na_values": ("-",)}
    data = IrisDataModule(Path("flowers.csv"), features=features, **how)  # type: ignore[arg-type]
    model = IrisClassifier(
        features,  # type: ignore[arg-type]
        iris.target_names,
        hidden=range(5, 7),
        activation=np.str_("relu"),
        standardize=np.bool_(True),  # type: ignore[arg-type]
        lr=np.logspace(-4, -1, 4)[1],
    )
    trainer = L.Trainer(max_epochs=1, **BARE)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "numpy.ckpt")
    loaded = IrisClassifier.load_from_checkpoint(tmp_path / "numpy.ckpt")
    assert_same_weights(dict(loaded.network.state_dict()), dict(model.network.state_dict()))
    assert iris_lightning.load(tmp_path / "numpy.ckpt").predict(iris.data).shape == (150,)


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("kind", ["loaders", "subclass", "own"])
def test_a_checkpoint_of_any_data_can_be_used(kind: str, weights_only: bool, tmp_path: Path) -> None:
    class Subclass(IrisDataModule):
        pass

    class Own(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader

    loader: Any = DataLoader(TensorDataset(*IrisDataModule(split_seed=7).tensors("train")), batch_size=10)
    model, trainer = IrisClassifier(), L.Trainer(max_epochs=1, **BARE)
    if kind == "loaders":
        trainer.fit(model, loader)
    else:
        trainer.fit(model, datamodule=Subclass(split_seed=7) if kind == "subclass" else Own())
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path, weights_only=weights_only)
    expected = model(torch.tensor(load_iris().data, dtype=torch.float32)).argmax(dim=1)
    assert iris_lightning.load(path).predict(load_iris().data).tolist() == load_iris().target_names[expected].tolist()
    if kind == "subclass":  # it is evaluated on the rows that it was not trained on
        loaded, data = IrisClassifier.load_from_checkpoint(path), Subclass(split_seed=3)
        L.Trainer(**BARE).test(loaded, data, verbose=False)
        assert torch.equal(data.rows["test"], IrisDataModule(split_seed=7).rows["test"])


def test_a_data_module_keeps_its_options_after_an_evaluation() -> None:
    columns = [name for name in load_iris().feature_names if "petal" in name]
    small = IrisClassifier(columns)
    trainer = L.Trainer(max_epochs=1, **BARE)
    trainer.fit(small, IrisDataModule(features=columns))
    data = IrisDataModule()
    trainer.test(small, data, verbose=False)
    trainer.fit(IrisClassifier(), data)
    assert data.feature_names == load_iris().feature_names


def test_scales_need_a_data_module_of_this_project() -> None:
    class Own(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return []

    with pytest.raises(UserError, match="expected an IrisDataModule"):
        L.Trainer(max_epochs=1, **BARE).fit(IrisClassifier(standardize=True), datamodule=Own())
    with pytest.raises(ValueError, match=r"batch_size: expected a whole number from 1 .*, got 10\.5"):
        IrisDataModule(batch_size=10.5)  # type: ignore[arg-type]


def test_a_model_may_be_validated_before_it_is_trained() -> None:
    torch.manual_seed(1)
    model, data, trainer = IrisClassifier(), IrisDataModule(), L.Trainer(max_epochs=1, **BARE)
    trainer.validate(model, data, verbose=False)
    trainer.fit(model, data)
    assert_same_weights(model.state_dict(), train(1, IrisDataModule(), epochs=1).state_dict())


@pytest.mark.parametrize("split_seed", [20, 3])
def test_a_resumed_run_ends_as_one_without_a_break(split_seed: int) -> None:
    def train_until(epoch: int, data: IrisDataModule, path: str | None = None) -> L.Trainer:
        torch.manual_seed(1)
        trainer = L.Trainer(max_epochs=epoch, **BARE)
        trainer.fit(IrisClassifier(standardize=True, class_weight="balanced"), data, ckpt_path=path)
        return trainer

    train_until(2, IrisDataModule()).save_checkpoint("two.ckpt")
    resumed = train_until(4, IrisDataModule(split_seed=split_seed), "two.ckpt").lightning_module
    # On the checkpoint's split, whichever the data module's own.
    assert_same_weights(resumed.state_dict(), train_until(4, IrisDataModule()).lightning_module.state_dict())


def test_loaders_in_place_of_the_data_module() -> None:
    torch.manual_seed(1)
    model, data, trainer = IrisClassifier(), IrisDataModule(), L.Trainer(max_epochs=2, **BARE)
    trainer.fit(model, data.train_dataloader(), data.val_dataloader())
    assert_same_weights(model.state_dict(), train(1, IrisDataModule()).state_dict())
    for unscaled in (IrisClassifier(standardize=True), IrisClassifier(class_weight="balanced")):
        with pytest.raises(ValueError, match="expected an IrisDataModule"):
            trainer.fit(unscaled, data.train_dataloader(), data.val_dataloader())


def test_the_batch_size_may_be_set_at_any_time() -> None:
    data = IrisDataModule()
    data.setup("fit")
    data.batch_size = 32
    assert [len(targets) for _, targets in data.train_dataloader()] == [32, 32, 32, 9]


@pytest.mark.parametrize("how", ["callback", "tuner"])
def test_the_batch_size_finder(how: str) -> None:
    data, model = IrisDataModule(), IrisClassifier()
    trainer = L.Trainer(max_epochs=1, callbacks=[BatchSizeFinder()] if how == "callback" else [], **BARE)
    if how == "tuner":
        assert Tuner(trainer).scale_batch_size(model, datamodule=data) == data.batch_size
    trainer.fit(model, data)
    assert data.batch_size == 128  # powers of 2, until all 105 rows are one batch
    assert trainer.global_step == 1


@pytest.mark.parametrize("how", ["callback", "tuner"])
def test_the_learning_rate_finder(how: str) -> None:
    torch.manual_seed(1)
    finder = LearningRateFinder()
    data, model = IrisDataModule(), IrisClassifier(standardize=True)
    trainer = L.Trainer(max_epochs=20, callbacks=[finder] if how == "callback" else [], **BARE)
    if how == "tuner":
        assert Tuner(trainer).lr_find(model, datamodule=data)
    trainer.fit(model, data)
    assert trainer.global_step == 20 * 11
    assert model.hparams["lr"] != 1e-3
    assert trainer.optimizers[0].param_groups[0]["lr"] == model.hparams["lr"]


class SeenBatches(Callback):
    """Keeps the features of each batch."""

    def __init__(self) -> None:
        self.features: list[torch.Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.features.append(batch[0])


@pytest.mark.parametrize(("batches", "rows"), [(2, 20), (0.5, 50)])
def test_overfit_batches_takes_the_same_batches_in_each_epoch(batches: float, rows: int) -> None:
    seen = SeenBatches()
    trainer = L.Trainer(max_epochs=2, overfit_batches=batches, callbacks=[seen], **BARE)
    trainer.fit(IrisClassifier(), data := IrisDataModule())
    first = data.tensors("train")[0][:rows]
    assert torch.equal(torch.cat(seen.features), torch.cat([first, first]))


def test_a_data_module_may_serve_two_seeds() -> None:
    data = IrisDataModule()
    for seed in (1, 2, 1):
        assert_same_weights(train(seed, data).state_dict(), train(seed, IrisDataModule()).state_dict())


def test_seeds_do_not_share_their_orders() -> None:
    orders = []
    for seed in (20, 21):
        seen = SeenBatches()
        train(seed, IrisDataModule(), callbacks=[seen])
        orders += torch.cat(seen.features).split(105)
    assert len({str(order.tolist()) for order in orders}) == 4
    for order in orders:
        assert sorted(order.tolist()) == sorted(orders[0].tolist())


class Drawing(IrisClassifier):
    """Draws a number in each step, as dropout does."""

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        torch.rand(1)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(("kind", "draws"), [(IrisClassifier, 0), (Drawing, 22)])
def test_nobody_s_random_state_is_touched(kind: type[IrisClassifier], draws: int) -> None:
    model, data, trainer = kind(), IrisDataModule(), L.Trainer(max_epochs=2, **BARE)
    states: list[Any] = []
    for run in (True, False):
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        if run:
            trainer.fit(model, data)
            trainer.test(model, data, verbose=False)
        else:
            torch.rand(draws)
        states.append((torch.initial_seed(), torch.get_rng_state().tolist(), np.random.rand(), random.random()))
    assert states[0] == states[1]


def test_early_stopping_checkpoints_and_learning_rates() -> None:
    stopping = EarlyStopping("loss/val", min_delta=9.0, patience=2)
    best = ModelCheckpoint(monitor="loss/val", filename="{epoch}")
    callbacks = [stopping, best, LearningRateMonitor("epoch")]
    trainer = L.Trainer(max_epochs=9, callbacks=callbacks, **QUIET)
    trainer.fit(model := IrisClassifier(), data := IrisDataModule())
    assert trainer.current_epoch == 3  # one that counts as better than none, and two that do not
    points = curves(Path(str(trainer.log_dir)))
    losses = [value for _, value in points["loss/val"]]
    assert Path(best.best_model_path).name == f"epoch={losses.index(min(losses))}.ckpt"
    assert float(best.best_model_score or 0) == pytest.approx(min(losses))
    assert [value for _, value in points["lr-Adam"]] == pytest.approx([1e-3] * 3)
    (tested,) = trainer.test(model, data, ckpt_path="best", verbose=False)
    model = IrisClassifier.load_from_checkpoint(best.best_model_path)
    assert tested == pytest.approx(figures(model, "test", *data.tensors("test")), rel=1e-5)


class Plateau(IrisClassifier):
    """Divides the learning rate by ten where the loss has not fallen by much."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "loss/val"}}


def test_reduce_lr_on_plateau() -> None:
    trainer = L.Trainer(max_epochs=3, **BARE)
    trainer.fit(Plateau(), IrisDataModule())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-5)


class Weights(Callback):
    """Keeps the weights of the first layer at the end of each epoch."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.weights.append(pl_module.network.get_parameter("layers.0.weight").detach().clone())


def test_stochastic_weight_averaging() -> None:
    epochs = Weights()
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=3)
    trainer = L.Trainer(max_epochs=6, callbacks=[averaging, epochs], **BARE)
    trainer.fit(model := IrisClassifier(standardize=True), data := IrisDataModule())
    # Lightning averages what each epoch from the third starts with.
    expected = torch.stack(epochs.weights[1:5]).mean(dim=0)
    torch.testing.assert_close(model.network.get_parameter("layers.0.weight").detach(), expected)
    torch.testing.assert_close(model.network.mean, data.tensors("train")[0].mean(dim=0))
    (tested,) = trainer.test(model, data, verbose=False)
    assert tested == pytest.approx(figures(model, "test", *data.tensors("test")), rel=1e-5)
