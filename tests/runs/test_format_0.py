"""Run folders written by version 0.1.0 (`tests/fixtures`) still work."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import iris_lightning
from iris_lightning.cli import main
from tests.conftest import REPOSITORY, assert_same_weights, fit, load

FORMAT_0 = REPOSITORY / "tests" / "fixtures" / "format_0"
RUNS = ("iris", "trees")
BEST, LAST = (f"lightning_logs/{{}}/checkpoints/{name}.ckpt" for name in ("best", "last"))


@pytest.fixture(autouse=True)
def old_runs(folder: Path) -> None:
    """Copies the runs to a different folder from that of their training."""
    for run in RUNS:
        shutil.copytree(FORMAT_0 / run, folder / "lightning_logs" / run)
    shutil.copy(FORMAT_0 / "trees.csv", folder)


@pytest.mark.parametrize("checkpoint", [BEST, LAST])
@pytest.mark.parametrize("run", RUNS)
def test_they_are_evaluated_on_their_split(run: str, checkpoint: str) -> None:
    path = checkpoint.format(run)
    found = main(["validate", "--ckpt_path", path]).trainer.callback_metrics
    recorded = load(Path(path))["metrics"]
    for name, value in found.items():
        assert float(value) == pytest.approx(recorded[name], rel=1e-5)
    main(["test", "--ckpt_path", path])


def test_they_predict_and_are_exported() -> None:
    best = BEST.format("trees")
    main(["predict", "trees.csv", "--ckpt_path", best, "--output", "out.csv"])
    expected = pl.read_csv(FORMAT_0 / "predictions.csv")
    assert_frame_equal(pl.read_csv("out.csv"), expected, abs_tol=1e-5)
    main(["export", "model.safetensors", "--ckpt_path", best])
    probabilities = expected.select(pl.col("^probability_.*$")).to_numpy()
    for path in (best, "model.safetensors"):
        found = iris_lightning.load(path).predict_proba(pl.read_csv("trees.csv"))
        np.testing.assert_allclose(found, probabilities, atol=1e-5)


def test_they_can_be_resumed() -> None:
    resumed = main(["fit", "--ckpt_path", LAST.format("iris"), "--trainer.max_epochs", "5"])
    whole = fit()
    # Not bit for bit: the first epochs may have been trained by another processor.
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert load(Path(BEST.format("iris")))["epoch"] == 4


def test_their_best_epoch_is_only_replaced_by_a_better_one() -> None:
    best, last = Path(BEST.format("trees")), Path(LAST.format("trees"))
    before = load(best)
    checkpoint = load(last)
    for name, state in checkpoint["callbacks"].items():
        if name.startswith("BestCheckpoint"):
            low = torch.tensor(1e-6)
            state |= {"best_model_score": low, "current_score": low, "kth_value": low}
            state["best_k_models"] = dict.fromkeys(state["best_k_models"], low)
    torch.save(checkpoint, last)
    main(["fit", "--ckpt_path", str(last), "--trainer.max_epochs", "13"])
    assert load(last)["epoch"] == 12
    assert load(best)["epoch"] == before["epoch"]
    assert_same_weights(load(best)["state_dict"], before["state_dict"])
