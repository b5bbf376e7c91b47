"""Training on the user's own tables."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import onnxruntime
import pandas
import polars as pl
import pytest
import torch
import yaml
from sklearn import datasets
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import iris_lightning
from iris_lightning import IrisClassifier, IrisDataModule, UserError
from iris_lightning.cli import main
from tests.conftest import REPOSITORY, assert_same_weights, fails, fit, load
from tests.tables.test_formats import GOOD, write

CHECKPOINT = Path("lightning_logs/version_0/checkpoints/best.ckpt")
ONE_EPOCH = ["--trainer.max_epochs", "1"]


def sklearn_table(name: str) -> pl.DataFrame:
    """Returns one of scikit-learn's tables, with class names in the last column."""
    data = getattr(datasets, f"load_{name}")()
    names = [str(name) for name in data.feature_names]
    classes = [str(data.target_names[i]) for i in data.target]
    return pl.DataFrame(data.data, names).with_columns(kind=pl.Series(classes))


def test_as_accurate_as_logistic_regression() -> None:
    sklearn_table("breast_cancer").write_csv("table.csv")
    accurate = str(REPOSITORY / "configs" / "accurate.yaml")
    fit("--config", accurate, "--data.path", "table.csv", "--trainer.max_epochs", "12")
    cli = main(["test"])
    table, rows = cli.datamodule.table, cli.datamodule.rows
    features, targets = table.features.numpy(), table.targets.numpy()
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    peer.fit(features[rows["train"]], targets[rows["train"]])
    expected = peer.score(features[rows["test"]], targets[rows["test"]])
    assert cli.trainer.callback_metrics["accuracy/test"] >= expected - 0.02


def test_iris_from_a_file_equals_builtin_iris(default_run: Path) -> None:
    iris = sklearn_table("iris").rename({"kind": "species"})
    iris.write_csv("iris.csv")
    iris.write_parquet("iris.parquet")
    expected = load(default_run / "checkpoints" / "last.ckpt")["state_dict"]
    for path in ("iris.csv", "iris.parquet"):
        weights = fit("--data.path", path).model.state_dict()
        weights.pop("network.fill")  # for missing values, which Iris does not have
        assert_same_weights(weights, expected)


def test_fit_describes_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        GOOD.replace("\n", ",cm\n").replace("species,cm", "species,unit") + "5,red,,a,cm\n"
    )
    fit("--data.path", path, "--data.missing", "drop", *ONE_EPOCH)
    said = capsys.readouterr().out
    assert "20 rows (14 train, 4 val, 2 test)" in said
    assert "2 classes in 'species' (found by name)" in said
    assert "4 features: length, colour=blue, colour=red, width" in said
    assert "left out (one value only): 'unit'" in said
    assert "dropped 1 of 21 rows" in said


def test_checkpoints_record_the_table() -> None:
    path = write(GOOD.replace("species", "kind"))
    options = ["--data.target", "kind", "--data.features", "[width,length]"]
    fit("--data.path", path, *options, *ONE_EPOCH)
    saved = load(CHECKPOINT)
    cli = main(["validate"])
    assert cli.datamodule.feature_names == ["width", "length"]
    expected = pytest.approx(saved["metrics"]["loss/val"])
    assert float(cli.trainer.callback_metrics["loss/val"]) == expected


def test_a_moved_table_has_the_same_split() -> None:
    fit(*ONE_EPOCH)
    expected = main(["test"]).trainer.callback_metrics
    iris = sklearn_table("iris")
    names = [name.removesuffix(" (cm)").replace(" ", "_") for name in iris.columns[:4]]
    iris.columns = [*names, "species"]
    iris.select(reversed(iris.columns)).write_parquet("moved.parquet")
    again = main(["test", "--data.path", "moved.parquet"])
    assert again.trainer.callback_metrics == expected
    assert len(again.datamodule.rows["test"]) == 15


def test_another_table_is_evaluated_on_all_rows() -> None:
    fit("--data.path", write(GOOD), "--data.exclude", "[colour]", *ONE_EPOCH)
    write("species,width,length,extra\nb,2,1,x\nb,3,2,y\n", "new.csv")
    cli = main(["test", "--data.path", "new.csv"])
    assert len(cli.datamodule.rows["test"]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("species,width\na,1\n", "new.csv has no column 'length'"),
        ("species,width,length\nc,1,2\n", "unknown class 'c'"),
        ("species,width,length\n", "no rows"),
    ],
)
def test_another_table_needs_the_features_and_known_classes(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--data.path", write(GOOD), "--data.exclude", "[colour]", *ONE_EPOCH)
    assert message in fails(capsys, "test", "--data.path", write(text, "new.csv"))


def test_a_changed_table_raises_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--data.path", write(GOOD), *ONE_EPOCH)
    write(GOOD + "9,red,9,a\n")
    assert "changed" in fails(capsys, "test")


PENGUINS = """species,island,bill,mass,sex,year
Adelie,Torgersen,39.1,3750,male,2007
 Adelie,Biscoe,38.6,NA,female,2007
Gentoo,Biscoe,?,4500,NA,2008
Gentoo ,Biscoe,46.1,N/A,male,2008
Gentoo,Dream,50.0,5700,null,2009
Adelie,Dream, NA ,3800,female,2009
"""


@pytest.fixture
def penguins() -> str:
    header, *rows = PENGUINS.splitlines(keepends=True)
    return write(header + "".join(rows) * 10, "penguins.csv")


def test_categories(penguins: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.path", penguins, "--data.features", "[year, island]"]
    table = fit(*options, *ONE_EPOCH).datamodule.table
    frame = pl.read_csv(penguins)
    expected = OneHotEncoder(sparse_output=False).fit_transform(frame.select("island"))
    assert table.feature_names == ["year", "island=Biscoe", "island=Dream", "island=Torgersen"]
    np.testing.assert_array_equal(table.features[:, 1:], expected)

    main(["test"])
    main(["export", "model.safetensors"])
    main(["predict", penguins, "--output", "out.csv"])
    found = pl.read_csv("out.csv")
    assert found["mass"].to_list() == frame["mass"].to_list()
    for source in (CHECKPOINT, "model.safetensors"):
        model = iris_lightning.load(source)
        probabilities = model.predict_proba(frame.select("island", "year"))
        np.testing.assert_array_equal(probabilities, model.predict_proba(table.features))
        columns = pandas.DataFrame(frame.to_dict(as_series=False))
        np.testing.assert_array_equal(probabilities, model.predict_proba(columns))
        np.testing.assert_allclose(found["probability_Gentoo"], probabilities[:, 1], rtol=1e-6)


def test_unknown_categories_and_missing_values_are_predicted_and_counted(
    penguins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.features", "[year, island]", "--model.standardize", "true"]
    fit("--data.path", penguins, *options, *ONE_EPOCH)
    capsys.readouterr()
    path = write("year,island,species\n2007,Mars,Adelie\n,,Adelie\n2008,Dream,Adelie\n", "new.csv")
    main(["predict", path, "--output", "out.csv"])
    said = capsys.readouterr().out
    for part in (
        "1 unknown categories in 'island', such as 'Mars'",
        "1 missing values in 'island'",
    ):
        assert part in said
    assert "1 missing values in 'year'" in said
    predicted = pl.read_csv("out.csv")["probability_Adelie"].to_numpy()
    model = iris_lightning.load(CHECKPOINT)
    rows = np.array([[2007, 0, 0, 0], [np.nan, 0, 0, 0], [2008, 0, 1, 0]])
    np.testing.assert_allclose(predicted, model.predict_proba(rows)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(predicted, model.predict_proba(pl.read_csv(path))[:, 0], rtol=1e-5)
    main(["test", "--data.path", "new.csv"])
    write("year,species\n2007,Adelie\n", "new.csv")
    assert "no column 'island'" in fails(capsys, "predict", "new.csv")


def test_roles_are_recorded(penguins: str) -> None:
    fit("--data.path", penguins, *ONE_EPOCH)
    environment = yaml.safe_load(Path("lightning_logs/version_0/environment.yaml").read_text())
    roles = environment["data"]["columns"]
    assert roles["island"] == "category"
    assert roles["species"] == "target"
    assert load(CHECKPOINT)["trained_on"]["columns"] == roles


def test_missing_values_become_the_mean_of_the_train_split(penguins: str) -> None:
    options = ["--data.missing", "mean", "--data.features", "[bill, mass, sex]"]
    cli = fit("--data.path", penguins, *options, "--model.standardize", "true", *ONE_EPOCH)
    network: Any = cli.model.network
    features = cli.datamodule.tensors("train")[0]
    imputer, scaler = SimpleImputer(), StandardScaler()
    scaled = imputer.fit_transform(features.double().numpy())
    assert list(cli.datamodule.feature_names[2:]) == ["sex=female", "sex=male"]
    scaled[:, :2] = scaler.fit_transform(scaled[:, :2])
    expected = network.layers(torch.tensor(scaled, dtype=torch.float32))
    torch.testing.assert_close(network(features), expected)

    main(["predict", penguins, "--output", "out.csv"])
    predicted = pl.read_csv("out.csv")["probability_Adelie"]
    rows = cli.datamodule.table.features.numpy()
    main(["export", "model.safetensors"])
    found = iris_lightning.load("model.safetensors").predict_proba(rows)
    np.testing.assert_allclose(found[:, 0], predicted, atol=2e-6)
    main(["export", "model.onnx"])
    session = onnxruntime.InferenceSession("model.onnx")
    np.testing.assert_allclose(session.run(None, {"features": rows})[0][:, 0], predicted, atol=2e-6)


def test_missing_values_need_an_imputing_network(penguins: str) -> None:
    data = IrisDataModule(penguins, missing="mean", features=["bill"])
    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match="impute=True"):
        trainer.fit(IrisClassifier(data.feature_names, data.class_names), data)
