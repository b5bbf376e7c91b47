"""Shared fixtures."""

import gc
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from iris_lightning.cli import main

if TYPE_CHECKING:  # the process that hands out the tests needs none of them
    import lightning as L
    from torch import Tensor

    from iris_lightning.cli.lightning_cli import IrisCLI

REPOSITORY = Path(__file__).parent.parent

os.environ["OMP_NUM_THREADS"] = "1"  # the tests run on all cores already
os.environ["PYTHONPATH"] = str(REPOSITORY)  # some packages install a folder `tests`, too
gc.disable()  # while modules are imported

# Warnings are errors, but for Lightning's own remarks on its code, on small tables and on missing
# callbacks, which the command line silences.
plain_lightning = pytest.mark.filterwarnings(
    "error",
    "ignore::iris_lightning.table.TableWarning",
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:Be aware that when using `ckpt_path`",
    "ignore:You requested to overfit",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
)


@pytest.fixture(scope="session", autouse=True)
def frozen_imports() -> None:
    """Speeds up garbage collection, by excluding objects created by imports."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs each test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips drawing, which takes half a second per run, except in tests marked `plots`."""
    if not request.node.get_closest_marker("plots"):
        for function in ("runs.report._draw", "ensemble.saving.draw_summary"):
            monkeypatch.setattr(f"iris_lightning.{function}", lambda *args: [])


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one `fit` without options."""
    root = tmp_path_factory.mktemp("default")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("iris_lightning.runs.report._draw", lambda *args: None)
        main(["fit"])
    return root / "lightning_logs" / "version_0"


def fit(*args: str) -> "IrisCLI":
    """Runs `fit` in the current folder."""
    cli: IrisCLI = main(["fit", *args])
    return cli


def plain_trainer(**options: Any) -> "L.Trainer":
    """Returns a Trainer that writes and prints nothing by default."""
    import lightning as L

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(**{**quiet, "logger": False, "enable_checkpointing": False, **options})


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint."""
    import torch

    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def assert_same_weights(one: dict[str, "Tensor"], other: dict[str, "Tensor"]) -> None:
    """Asserts equality of two state dicts, bit for bit."""
    import torch

    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def curves(run: Path) -> dict[str, list[tuple[int, Any]]]:
    """Reads the points `(step, value)` of each scalar tag, with TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    found: dict[str, list[tuple[int, Any]]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            value = None if math.isnan(event.value) else event.value  # NaN is not itself
            found.setdefault(tag, []).append((event.step, value))
    return found


def wine(path: Path) -> None:
    """Writes scikit-learn's wine table: 178 rows, 13 features, 3 classes in the column `kind`."""
    import polars as pl
    from sklearn.datasets import load_wine

    table = load_wine()
    kind = pl.Series(table.target_names[table.target])
    pl.DataFrame(table.data, list(table.feature_names)).with_columns(kind=kind).write_csv(path)


def fails(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Runs a command that must fail with a `UserError`, and returns the message."""
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    message = capsys.readouterr().err
    assert stop.value.code == 2, message
    assert message.startswith("iris_lightning: error: ")
    assert 1 <= len(message.splitlines()) <= 2, message
    assert "Traceback" not in message
    assert sorted(Path.cwd().rglob("*")) == before, "a failed command left something behind"
    return message
