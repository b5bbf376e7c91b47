"""`load`: a trained classifier in Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris

import iris_lightning
from iris_lightning import IrisNetwork, IrisPredictor, UserError
from iris_lightning.cli import main
from iris_lightning.table import TableWarning
from tests.conftest import fails, fit, load

IRIS = load_iris()
UNDERSCORED = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
MORE = pl.lit("x").alias("more")
ROWS = {
    "reversed array": IRIS.data[::-1].copy()[::-1],
    "list": IRIS.data.tolist(),
    "polars": pl.DataFrame(IRIS.data[:, ::-1], IRIS.feature_names[::-1]).with_columns(MORE),
    "pandas": pd.DataFrame(IRIS.data[:, ::-1], columns=UNDERSCORED[::-1]).assign(more="x"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_predictions_equal_the_plain_network(kind: str, default_run: Path) -> None:
    path = default_run / "checkpoints" / "best.ckpt"
    plain = torch.nn.ModuleDict({"network": IrisNetwork()})
    plain.load_state_dict(load(path)["state_dict"])
    logits = plain["network"](torch.tensor(IRIS.data, dtype=torch.float32))
    model = iris_lightning.load(path)
    expected = IRIS.target_names[logits.argmax(dim=1)]
    assert model.predict(ROWS[kind]).tolist() == expected.tolist()
    probabilities = logits.softmax(dim=1).detach().numpy()
    np.testing.assert_array_equal(model.predict_proba(ROWS[kind]), probabilities)


def test_attributes_after_loading(default_run: Path) -> None:
    model = iris_lightning.load(str(default_run / "checkpoints" / "best.ckpt"))
    assert model.classes_.tolist() == IRIS.target_names.tolist()
    assert model.feature_names_in_.tolist() == IRIS.feature_names
    assert not any(module.training for module in model.modules())
    assert model.predict_proba(np.empty((0, 4))).shape == (0, 3)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([5.1, 3.5, 1.4, 0.2], r"\(rows, 4\).*\(4,\)"),
        ([[5.1, 3.5]], r"\(1, 2\)"),
        ([["a", 1, 1, 1]], "numbers"),
        ([[1, 2], [3]], "numbers"),
        (None, "expected"),
        ([[1, 2, 3, 4], [1, 2, float("nan"), 4]], r"row 1, 'petal length \(cm\)'.*nan"),
        ([[1e300, 2, 3, 4]], "row 0, 'sepal length"),
        (pl.DataFrame({"sepal_length": [1.0]}), "no column 'sepal width"),
        (pl.DataFrame({name: [None] for name in UNDERSCORED}), "'sepal_length', row 0: missing"),
        (pl.DataFrame({name: ["u"] for name in UNDERSCORED}), "row 0: .*number, got 'u'"),
    ],
)
def test_invalid_rows_raise_an_error(rows: Any, words: str) -> None:
    model = IrisPredictor(IrisNetwork(), IRIS.feature_names, ["a", "b", "c"])
    with pytest.raises(UserError, match=words):
        model.predict(rows)


@pytest.mark.parametrize("name", ["none.ckpt", "none.pth", "a.pkl", "a.onnx", "."])
def test_invalid_paths_raise_an_error(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name}: "):
        iris_lightning.load(name)


TABLE = "a, isl ,ok,b,kind\n1.5,A,True,-999,x\n"
TABLE += "2.5, B ,False,3,y\n3.5,A,true,1.0,x\n2.0,none,FALSE,4,y\n" * 10
READ: dict[str, Callable[[], Any]] = {
    "polars": lambda: pl.read_csv("table.csv"),
    "polars as text": lambda: pl.read_csv("table.csv", infer_schema=False),
    "pandas": lambda: pd.read_csv("table.csv"),
    "pandas with NA": lambda: pd.read_csv("table.csv", na_values=["none", -999]).convert_dtypes(),
    "pandas as text": lambda: pd.read_csv("table.csv", dtype=str),
}


@pytest.fixture
def table(folder: Path) -> None:
    """Trains on a table with a category, booleans and missing values."""
    (folder / "table.csv").write_text(TABLE)
    options = ["--data.path", "table.csv", "--data.missing", "mean", "--trainer.max_epochs", "1"]
    fit(*options, "--data.features", "[a, isl, ok, b]", "--data.na_values", "[-999, none]")


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_frames_give_the_same_predictions_as_files(suffix: str) -> None:
    main(["predict", "table.csv", "--output", "out.csv"])
    path = "lightning_logs/version_0/checkpoints/best.ckpt"
    if suffix != ".ckpt":
        path = f"model{suffix}"
        main(["export", path])
        main(["predict", "table.csv", "--output", "again.csv", "--weights", path])
        assert Path("again.csv").read_text() == Path("out.csv").read_text()
    expected = pl.read_csv("out.csv")[["probability_x", "probability_y"]].to_numpy()
    model = iris_lightning.load(path)
    for kind, read in READ.items():
        np.testing.assert_allclose(model.predict_proba(read()), expected, atol=1e-7, err_msg=kind)


@pytest.mark.usefixtures("table")
def test_frames_are_parsed_and_checked_like_files() -> None:
    model = iris_lightning.load("lightning_logs/version_0/checkpoints/best.ckpt")
    rows = pl.DataFrame({"a": ["$1,234", "$5"], "isl": ["A", "C"], "ok": [True, None], "b": [1, 2]})
    numbers = rows.with_columns(a=pl.Series([1234, 5]))
    with pytest.warns(TableWarning) as noted:
        np.testing.assert_array_equal(model.predict_proba(rows), model.predict_proba(numbers))
    said = " ".join(str(warning.message) for warning in noted)
    assert "1 unknown categories in 'isl', such as 'C'" in said
    assert "1 missing values in 'ok'" in said


def test_a_category_of_a_frame_can_be_called_none() -> None:
    model = IrisPredictor(IrisNetwork(2, 2, impute=True), ["a=None", "a=b"], ["x", "y"], ["NA"])
    expected = model.predict_proba([[1, 0], [0, 1], [0, 0]])
    with pytest.warns(TableWarning, match="1 missing values in 'a'"):
        found = model.predict_proba(pl.DataFrame({"a": ["None", "b", None]}))
    np.testing.assert_array_equal(found, expected)


def test_networks_without_fill_values_refuse_missing_categories(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("table.csv").write_text("a,b,kind\n" + "1,u,x\n2,v,y\n" * 9)
    fit("--data.path", "table.csv", "--data.missing", "drop", "--trainer.max_epochs", "1")
    Path("new.csv").write_text("a,b\n1,u\n2,\n")
    assert "'b', row 2: missing value" in fails(capsys, "predict", "new.csv", "--output", "o.csv")


@pytest.mark.usefixtures("table")
def test_plain_weights_need_names() -> None:
    main(["export", "model.pth"])
    with pytest.raises(UserError, match="feature_names"):
        iris_lightning.load("model.pth")
    best = iris_lightning.load("lightning_logs/version_0/checkpoints/best.ckpt")
    names = best.feature_names_in_.tolist()
    model = iris_lightning.load("model.pth", feature_names=names, class_names=["x", "y"])
    rows = [[1.0] * 5 + [np.nan]]
    np.testing.assert_array_equal(model.predict_proba(rows), best.predict_proba(rows))


def test_untrained_networks_raise_an_error(default_run: Path) -> None:
    content = load(default_run / "checkpoints" / "last.ckpt") | {"global_step": 0}
    torch.save(content, "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: .*untrained"):
        iris_lightning.load("last.ckpt")
