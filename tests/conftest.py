"""Fixtures that all tests share."""

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from iris_lightning.cli import main

if TYPE_CHECKING:  # imported by what uses them: the process that hands out the tests needs none of them
    from torch import Tensor

    from iris_lightning.cli.lightning_cli import IrisCLI

REPOSITORY = Path(__file__).parent.parent

os.environ["OMP_NUM_THREADS"] = "1"  # the tests run on both cores already, and threads that wait for a core spin
gc.disable()  # while modules are imported


@pytest.fixture(scope="session", autouse=True)
def frozen_imports() -> None:
    """Spares collections of garbage, each of which took a fifth of a second, the objects that imports have made."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs each test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares each run the half second that its pictures take, but where they are tested."""
    if not request.node.get_closest_marker("pictures"):
        for room in ("runs.report", "cli.crossvalidation"):
            monkeypatch.setattr(f"iris_lightning.{room}.can_draw", lambda: False)


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one `fit` without options."""
    root = tmp_path_factory.mktemp("default")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("iris_lightning.runs.report.can_draw", lambda: False)
        main(["fit"])
    return root / "lightning_logs" / "version_0"


def fit(*args: str) -> "IrisCLI":
    """Runs `fit` in the current folder."""
    cli: IrisCLI = main(["fit", *args])
    return cli


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


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads `(step, value)` of each scalar tag of a run with TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def wine(path: Path) -> None:
    """Writes scikit-learn's wine table: 178 rows, 13 features, 3 classes in the column `kind`."""
    import polars as pl
    from sklearn.datasets import load_wine

    table = load_wine()
    kind = table.target_names[table.target]
    pl.DataFrame(table.data, list(table.feature_names)).with_columns(kind=pl.Series(kind)).write_csv(path)


def fails(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Runs a command that must fail as a user's mistake does, and returns what it said."""
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
