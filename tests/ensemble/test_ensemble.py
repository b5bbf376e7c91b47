"""An ensemble: what it is trained and validated on, what it predicts, and a fold that equals it."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

import iris_lightning
from iris_lightning import (
    EnsembleClassifier,
    EnsembleDataModule,
    IrisClassifier,
    IrisDataModule,
    UserError,
    cross_validate,
)
from iris_lightning.cli import main
from iris_lightning.ensemble.members import Member, assign_folds, groups_of_folds
from iris_lightning.weights.averaging import EnsembleNetwork
from tests.conftest import fit, load, plain_lightning, wine

RUN = Path("lightning_logs/version_0")
OPTIONS = [
    "--members",
    "3",
    "--model.standardize",
    "true",
    "--model.bins",
    "4",
    "--model.lr",
    "0.1",
]
OPTIONS += ["--model.activation", "relu", "--data.stratify", "true"]


def members_of(path: Path) -> list[Any]:
    """Returns the networks of an ensemble one by one, read from a checkpoint."""
    network: Any = iris_lightning.load(path).network
    assert isinstance(network, EnsembleNetwork)
    members = []
    for position in range(network.num_members):
        member = copy.deepcopy(network)
        member.only = position
        members.append(member)
    return members


def test_each_row_is_validated_by_the_network_that_has_not_seen_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli = fit(*OPTIONS, "--trainer.max_epochs", "4", "--trainer.num_sanity_val_steps", "2")
    rows = IrisDataModule(stratify=True).rows
    rows_in_folds = torch.cat([rows["train"], rows["val"]])
    table = cli.datamodule.table
    targets = table.targets[rows_in_folds].numpy()
    splitter = StratifiedKFold(3, shuffle=True, random_state=20)
    probabilities = np.empty((len(targets), 3))
    members = members_of(RUN / "checkpoints" / "best.ckpt")
    for member, (_, fold) in zip(members, splitter.split(targets, targets), strict=True):
        logits = member(table.features[rows_in_folds[fold]])
        probabilities[fold] = logits.double().softmax(dim=1).numpy()
    found = load(RUN / "checkpoints" / "best.ckpt")["metrics"]
    assert found["loss/val"] == pytest.approx(log_loss(targets, probabilities), rel=1e-5)
    accuracy = accuracy_score(targets, probabilities.argmax(axis=1))
    assert found["accuracy/val"] == pytest.approx(accuracy)
    capsys.readouterr()
    main(["validate"])
    assert f"loss/val {found['loss/val']:.4f}" in capsys.readouterr().out


def test_its_probabilities_are_the_means_in_every_format() -> None:
    fit(*OPTIONS, "--trainer.max_epochs", "2")
    rows = IrisDataModule().table.features.numpy()
    members = members_of(RUN / "checkpoints" / "best.ckpt")
    expected = np.mean([one(torch.tensor(rows)).softmax(dim=1).numpy() for one in members], axis=0)
    for file in ("model.safetensors", "model.onnx", "model.pth"):
        main(["export", file])
    options = {"activation": "relu"}
    for path in (RUN / "checkpoints" / "best.ckpt", "model.safetensors"):
        found = iris_lightning.load(path).predict_proba(rows)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    found = iris_lightning.load("model.pth", **options).predict_proba(rows)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert load(Path("model.pth"))["members.layers.0.weight"].shape == (3, 16, 20)
    session = onnxruntime.InferenceSession("model.onnx")
    np.testing.assert_allclose(session.run(None, {"features": rows})[0], expected, atol=1e-6)


def test_it_predicts_long_tables_in_several_threads() -> None:
    fit("--members", "3", "--trainer.max_epochs", "1")
    rows = np.random.default_rng(0).normal(3, 2, size=(20_000, 4))
    names = IrisDataModule().feature_names
    pl.DataFrame(rows, names).write_parquet("rows.parquet")
    main(["predict", "rows.parquet", "--output", "out.parquet"])
    found = pl.read_parquet("out.parquet").select("^probability_.*$")
    expected = iris_lightning.load(RUN / "checkpoints" / "best.ckpt").predict_proba(rows)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_resumed_ensemble_is_equal_bit_for_bit() -> None:
    fit(*OPTIONS, "--trainer.max_epochs", "6")
    fit(*OPTIONS, "--trainer.max_epochs", "3")
    fit("--ckpt_path", "last", "--trainer.max_epochs", "6")
    for name in ("best.ckpt", "last.ckpt"):
        one = load(RUN / "checkpoints" / name)
        other = load(Path("lightning_logs/version_1/checkpoints", name))
        assert one["epoch"] == other["epoch"]
        assert one["metrics"] == other["metrics"]
        for key, tensor in one["state_dict"].items():
            assert torch.equal(tensor, other["state_dict"][key]), key


def test_ensembles_can_be_tested_and_plotted(capsys: pytest.CaptureFixture[str]) -> None:
    fit(*OPTIONS, "--trainer.max_epochs", "1")
    main(["test"])
    main(["plot"])
    assert "roc_auc/test" in capsys.readouterr().out
    assert Path("figures/confusion.png").is_file()


class Tanh(IrisClassifier):
    """Has a network of its own."""

    def make_network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3))


class TanhEnsemble(EnsembleClassifier, Tanh):
    """Trains several of them."""

    template = Tanh


@plain_lightning
def test_an_own_classifier_can_be_a_member() -> None:
    trainer = L.Trainer(max_epochs=2, logger=False, enable_checkpointing=False)
    model: Any = TanhEnsemble(members=3)
    trainer.fit(model, EnsembleDataModule(members=3))
    assert model.network.members[0].weight.shape == (3, 7, 4)
    assert model(torch.zeros(2, 4)).shape == (2, 3)


@plain_lightning
def test_members_are_only_validated_on_their_folds() -> None:
    trainer = L.Trainer(max_epochs=2, logger=False, enable_checkpointing=False)
    model = EnsembleClassifier(members=3)
    trainer.fit(model, EnsembleDataModule(members=3))
    for data in (EnsembleDataModule(members=2), IrisDataModule()):
        with pytest.raises(UserError, match="expected an EnsembleDataModule with 3 members"):
            trainer.validate(model, data)


@pytest.mark.parametrize("kind", [IrisDataModule, partial(EnsembleDataModule, members=2)])
def test_a_table_in_the_home_folder_is_found(
    kind: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder))
    wine(Path("wine.csv"))
    assert len(kind("~/wine.csv").class_names) == 3


def test_without_validation_the_last_weights_are_kept() -> None:
    cli: Any = fit(
        "--members", "2", "--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1"
    )
    found = load(RUN / "checkpoints" / "last.ckpt")["state_dict"]
    weights = found["network.members.layers.0.weight"]
    assert torch.equal(weights, cli.model.stack.step.classifier.network.layers[0].weight)


def test_without_a_test_split_every_row_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    cli = fit("--members", "2", "--data.split", "[0.8, 0.2, 0]", "--trainer.max_epochs", "1")
    assert len(cli.datamodule.tensors("val")[1]) == 150
    with pytest.raises(SystemExit) as error:
        main(["test"])
    assert error.value.code == 2
    assert "no test split" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--members", "0"],
        ["--members", "500"],
        ["--members", "2", "--trainer.strategy", "ddp", "--trainer.devices", "2"],
    ],
)
def test_impossible_ensembles_are_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        fit(*options, "--trainer.accelerator", "cpu")
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith("iris_lightning: error: --members: ")
    assert not RUN.exists()


def test_networks_of_a_cross_validation_predict_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--folds", "2", "--repeats", "1", "--trainer.max_epochs", "2"]
    values = [-999.0, *np.linspace(0.5, 9.5, 39)]
    pl.DataFrame({"x": values, "kind": ["a", "b"] * 20}).write_csv("own.csv")
    data = ["--data.path", "own.csv", "--data.na_values", "[-999.0]"]
    main(["crossvalidate", *OPTIONS, *options, *data, "--keep", "true", "--name", "kept"])
    run = Path("lightning_logs/kept/version_0")
    loaded: Any = iris_lightning.load(run / "networks.safetensors")
    assert (loaded.network.num_members, loaded.na_values) == (6, [-999.0])
    main(["predict", "own.csv", "--output", "out.csv", "--run", str(run)])
    found = capsys.readouterr().out
    assert "accuracy" in found
    assert "1 missing value" in found, "the table is read as in the cross-validation"
    main(["crossvalidate", *options, "--name", "gone"])
    (gone,) = Path("lightning_logs/gone").iterdir()
    with pytest.raises(SystemExit):
        main(["predict", "x.csv", "--run", str(gone)])
    assert "--keep true" in capsys.readouterr().err


class FoldData(IrisDataModule):
    """Uses the rows of one fold instead of the splits."""

    member: Member

    @property
    def rows(self) -> dict[str, Tensor]:
        return {"train": self.member.train, "val": self.member.val, "test": self.member.held_out}


@plain_lightning
@pytest.mark.parametrize("stopping", [[], [EarlyStopping("loss/val", patience=1)]])
def test_a_fold_equals_fit_and_test(stopping: list[Any]) -> None:
    options: dict[str, Any] = {"hidden": [8], "lr": 0.2, "activation": "relu"}
    data = IrisDataModule(split=(0.5, 0.4, 0.1), stratify=True)
    result = cross_validate(options, data, 3, 1, seed=4, max_epochs=12, callbacks=stopping)
    assigned = assign_folds(data.table, 3, 1, 0)
    for (member,) in groups_of_folds(assigned, data, 1, 4, "best"):
        alone = FoldData()
        alone.member = member
        torch.manual_seed(member.seed)
        model = IrisClassifier(**options)
        best = ModelCheckpoint(f"fold {member.fold}", monitor="loss/val")
        trainer = L.Trainer(
            max_epochs=12, logger=False, callbacks=[best, *stopping], enable_progress_bar=False
        )
        trainer.fit(model, alone)
        trained = IrisClassifier.load_from_checkpoint(best.best_model_path).eval()
        features, _ = alone.tensors("test")
        with torch.inference_mode():
            expected = trained(features).softmax(dim=1)
        found = result.probabilities[0, member.held_out]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        for callback in stopping:
            callback.wait_count, callback.best_score = 0, torch.tensor(torch.inf)


@pytest.mark.parametrize(
    "stopping", [EarlyStopping("loss/train"), EarlyStopping("loss/val", stopping_threshold=0.9)]
)
def test_other_early_stopping_is_refused_in_folds(stopping: EarlyStopping) -> None:
    with pytest.raises(UserError, match="loss/val"):
        cross_validate(folds=2, repeats=1, callbacks=[stopping])


def test_fit_recommends_the_preset_for_an_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"x": range(40), "kind": ["a", "b"] * 20}).with_columns(
        pl.col("x") + 0.5
    ).write_csv("own.csv")
    fit("--data.path", "own.csv", "--trainer.max_epochs", "1")
    assert "--config accurate" in capsys.readouterr().out
    fit("--data.path", "own.csv", "--config", "standardized", "--trainer.max_epochs", "1")
    assert "--config accurate" not in capsys.readouterr().out
