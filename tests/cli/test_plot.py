"""The command `plot`: the plots that TensorBoard shows, as files."""

import signal
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from iris_lightning.cli import main
from iris_lightning.plots import PLOTS
from tests.conftest import fails, wine

pytestmark = pytest.mark.plots


def files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


@pytest.fixture
def run(folder: Path) -> Path:
    """A run on a table of two features."""
    rows = "2,1,x\n1,3,y\n" * 10
    (folder / "table.csv").write_text(f"length,width,kind\n{rows}")
    options = ["--data.path", "table.csv", "--trainer.max_epochs", "1", "--figures", "false"]
    main(["fit", *options, "--name", "mine"])
    return Path("lightning_logs/mine/version_0")


def test_it_writes_each_plot_twice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["plot"])
    assert capsys.readouterr().out.splitlines() == [
        f"checkpoint: {run}/checkpoints/best.ckpt (epoch 0)",
        f"figures: {', '.join(PLOTS)}, each as .png and .svg",
    ]
    assert files("figures") == {f"{name}.{kind}" for name in PLOTS for kind in ("png", "svg")}
    assert all(min(Image.open(path).size) >= 500 for path in Path("figures").glob("*.png"))
    main(["plot", "--output", "again/deep", "--run", str(run)])
    for path in Path("figures").glob("*.png"):
        assert path.read_bytes() == Path("again/deep", path.name).read_bytes(), path


def test_a_cross_validation_of_another_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wine(folder / "wine.csv")
    options = ["--data.path", "wine.csv", "--folds", "2", "--trainer.max_epochs", "2"]
    main(["crossvalidate", "--name", "folds", *options])
    capsys.readouterr()
    main(["plot", "--run", "lightning_logs/folds/version_0", "--output", "out"])
    assert files("out") == {"confusion.png", "confusion.svg"}
    both = ["--run", "lightning_logs/folds/version_0", "--ckpt_path", "last"]
    assert "only one checkpoint, weights file or run" in fails(capsys, "plot", *both)


def test_plots_that_cannot_be_drawn(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = Mock(side_effect=RuntimeError("latex could not be found"))
    monkeypatch.setattr("iris_lightning.plots.draw_confusion", fail)
    assert "latex could not be found" in fails(capsys, "plot")


def test_mistakes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", "model.pth"])
    Path("file").touch()
    for message, *options in (
        ("nothing: no such file", "--run", "nothing"),
        ("file: File exists", "--output", "file"),
        ("model.pth", "--ckpt_path", "model.pth"),
        ("--format", "--format", "svg"),
    ):
        assert message in fails(capsys, "plot", *options)
    Path("table.csv").rename("elsewhere.csv")
    assert "table.csv: no such file" in fails(capsys, "plot")
    Path("lightning_logs").rename("logs")
    assert "run fit first" in fails(capsys, "plot")


class Discarding:
    """Python prints and discards what is raised when this is deleted."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_within_a_callback_stops_the_command(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iris_lightning.cli.plot.draw_all", lambda trained: [Discarding()][:0])
    with pytest.raises(SystemExit) as stop:
        main(["plot"])
    assert stop.value.code == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err
