"""`load`: a trained classifier in Python."""

import subprocess
import sys
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
from tests.conftest import load

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
