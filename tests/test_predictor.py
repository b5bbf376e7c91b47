"""`load`: a trained classifier in Python."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date
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
from tests.conftest import fit, load

IRIS = load_iris()
UNDERSCORED = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROWS = {
    "array": IRIS.data,
    "list": IRIS.data.tolist(),
    "polars": pl.DataFrame(IRIS.data[:, ::-1], IRIS.feature_names[::-1]).with_columns(more=pl.lit("x")),
    "pandas": pd.DataFrame(IRIS.data[:, ::-1], columns=UNDERSCORED[::-1]).assign(more="x"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_predictions_are_those_of_the_plain_network(kind: str, default_run: Path) -> None:
    path = default_run / "checkpoints" / "best.ckpt"
    plain = IrisNetwork()
    plain.load_state_dict({key.removeprefix("network."): value for key, value in load(path)["state_dict"].items()})
    logits = plain(torch.tensor(IRIS.data, dtype=torch.float32))
    model = iris_lightning.load(path)
    assert model.predict(ROWS[kind]).tolist() == [IRIS.target_names[i] for i in logits.argmax(dim=1)]
    np.testing.assert_array_equal(model.predict_proba(ROWS[kind]), logits.softmax(dim=1).detach().numpy())


def test_it_is_ready_for_use(default_run: Path) -> None:
    model = iris_lightning.load(str(default_run / "checkpoints" / "best.ckpt"))
    assert model.classes_.tolist() == IRIS.target_names.tolist()
    assert model.feature_names_in_.tolist() == IRIS.feature_names
    assert not any(module.training for module in model.modules())
    assert model.predict([]).shape == (0,)
    assert model.predict_proba(np.empty((0, 4))).shape == (0, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([5.1, 3.5, 1.4, 0.2], r"shape \(rows, 4\), one column for each feature, got \(4,\)"),
        ([[5.1, 3.5]], r"got \(1, 2\)"),
        ([["a", 1, 1, 1]], "expected numbers"),
        ([[1, 2], [3]], "expected numbers"),
        ([[1, 2, 3, 4], [1, 2, float("nan"), 4]], r"row 1, 'petal length \(cm\)': expected a finite number, got nan"),
        ([[1e300, 2, 3, 4]], "row 0, 'sepal length"),
        (pl.DataFrame({"sepal_length": [1.0]}), "the frame has no column 'sepal width"),
        (pl.DataFrame({name: [None] for name in UNDERSCORED}), "row 0, 'sepal length"),
        (None, "expected"),
    ],
)
def test_rows_that_are_no_features(rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        IrisPredictor(IrisNetwork(), IRIS.feature_names, ["a", "b", "c"]).predict(rows)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.ckpt", "No such file"),
        ("a.pkl", r"ends in \.ckpt, \.pth, \.safetensors$"),
        ("a.onnx", "ends in"),
        (".", "ends in"),
    ],
)
def test_paths_that_are_no_file(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        iris_lightning.load(name)


def test_it_needs_neither_lightning_nor_the_command_line(default_run: Path) -> None:
    code = (
        "import sys, iris_lightning; model = iris_lightning.load(sys.argv[1]); print(model.predict([[5, 3, 1, 1]]));"
        "print({'lightning', 'jsonargparse', 'sklearn', 'polars', 'pandas', 'onnx', 'tensorboard'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, str(default_run / "checkpoints" / "best.ckpt")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[1:] == ["set()"]
    assert result.stderr == ""


TABLE = "a, isl ,ok,b,kind\n" + "1.5,A,True,-999,x\n2.5, B ,False,3,y\n3.5,A,true,1.0,x\n2.0,none,FALSE,4,y\n" * 10
READ: dict[str, Callable[[], Any]] = {
    "polars": lambda: pl.read_csv("table.csv"),
    "lazy": lambda: pl.scan_csv("table.csv"),
    "polars as text": lambda: pl.read_csv("table.csv", infer_schema=False),
    "pandas": lambda: pd.read_csv("table.csv"),
    "pandas with NA": lambda: pd.read_csv("table.csv", na_values=["none", -999]).convert_dtypes(),
    "pandas as text": lambda: pd.read_csv("table.csv", dtype=str),
}


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".safetensors"])
def test_a_frame_is_treated_as_the_table_it_was_read_from(suffix: str, folder: Path) -> None:
    (folder / "table.csv").write_text(TABLE)
    options = ["--data.features", "[a, isl, ok, b]", "--data.na_values", "[-999, none]", "--data.missing", "mean"]
    fit("--data.path", "table.csv", *options, "--trainer.max_epochs", "1")
    path = "lightning_logs/version_0/checkpoints/best.ckpt"
    main(["predict", "table.csv", "--output", "out.csv"])
    if suffix != ".ckpt":
        path = f"model{suffix}"
        main(["export", path])
        main(["predict", "table.csv", "--output", "again.csv", "--weights", path])
        assert (folder / "again.csv").read_text() == (folder / "out.csv").read_text()
    expected = pl.read_csv("out.csv")[["probability_x", "probability_y"]].to_numpy()
    model = iris_lightning.load(path)
    for kind, read in READ.items():
        np.testing.assert_allclose(model.predict_proba(read()), expected, atol=1e-7, err_msg=kind)


def test_what_is_no_number_is_not_taken_for_one(folder: Path) -> None:
    (folder / "table.csv").write_text(TABLE)
    fit("--data.path", "table.csv", "--data.missing", "mean", "--trainer.max_epochs", "1")
    model = iris_lightning.load("lightning_logs/version_0/checkpoints/best.ckpt")
    masked = np.ma.masked_array([[1.0, 7.0]], [[False, True]])
    np.testing.assert_array_equal(model.predict_proba(masked), model.predict_proba([[1.0, np.nan]]))
    for rows, message in (
        (np.zeros((2, 2), complex), "expected numbers"),
        (np.zeros((2, 2), "datetime64[s]"), "expected numbers"),
        (pl.DataFrame({"a": [date(2020, 1, 1)], "b": [1]}), "column 'a' holds datetime64"),
        (pl.DataFrame({"a": [1.0, 2.0], "b": ["1", "u"]}), "row 1, 'b': 'u' is not a number"),
    ):
        with pytest.raises(UserError, match=message):
            model.predict(rows)


def test_a_network_that_was_never_trained_is_refused(default_run: Path, folder: Path) -> None:
    content = load(default_run / "checkpoints" / "last.ckpt") | {"global_step": 0}
    torch.save(content, "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: its network is untrained"):
        iris_lightning.load("last.ckpt")
