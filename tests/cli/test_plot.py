"""The command `plot`: the pictures that TensorBoard shows, as files."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from iris_lightning import IrisDataModule, load
from iris_lightning.cli import main
from tests.conftest import fails, wine

pytestmark = pytest.mark.pictures


def files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def two_features(folder: Path, *names: str) -> Path:
    """Trains on two features, or so many as have names, and returns the run."""
    names = names or ("length", "width")
    rows = "".join(f"{','.join('213'[: len(names)])},x\n{','.join('132'[: len(names)])},y\n" for _ in range(10))
    (folder / "table.csv").write_text(f"{','.join(names)},kind\n{rows}")
    main(["fit", "--data.path", "table.csv", "--trainer.max_epochs", "1", "--name", "mine", "--figures", "false"])
    return Path("lightning_logs/mine/version_0")


def test_it_writes_each_picture_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = two_features(folder)
    capsys.readouterr()
    main(["plot"])
    assert capsys.readouterr().out.splitlines() == [
        f"checkpoint: {run}/checkpoints/best.ckpt (epoch 0)",
        "figures: 3 pictures, each as .png and .svg",
    ]
    names = ("confusion", "reliability", "regions_length_width")
    assert files("figures") == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert all(min(Image.open(path).size) >= 500 for path in Path("figures").glob("*.png"))
    main(["plot", "--output", "again/deep", "--run", str(run)])
    for path in Path("figures").iterdir():
        assert path.read_bytes() == Path("again/deep", path.name).read_bytes(), path


def test_the_confusion_matrix_is_of_the_validation_rows(default_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def draw(confusion: torch.Tensor, *_: object) -> None:
        seen.append(confusion)
        raise KeyboardInterrupt

    monkeypatch.setattr("iris_lightning.plots.draw_confusion", draw)
    best = default_run / "checkpoints" / "best.ckpt"
    with pytest.raises(SystemExit):
        main(["plot", "--ckpt_path", str(best)])
    data, predictor = IrisDataModule(), load(best)
    features, targets = data.tensors("val")
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for target, name in zip(targets.tolist(), predictor.predict(features.numpy()), strict=True):
        expected[target, data.class_names.index(name)] += 1
    assert torch.equal(seen[0], expected)
    assert not Path("figures").exists()


def test_a_cross_validation_of_another_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wine(folder / "wine.csv")
    options = ["--data.path", "wine.csv", "--folds", "2", "--repeats", "2", "--trainer.max_epochs", "2"]
    main(["crossvalidate", "--name", "folds", *options])
    capsys.readouterr()
    main(["plot", "--run", "lightning_logs/folds/version_0", "--output", "out"])
    assert files("out") == {"confusion.png", "confusion.svg", "folds.png", "folds.svg"}
    Path("lightning_logs/folds/version_0/folds.csv").write_text("a\n1\n")
    assert "damaged" in fails(capsys, "plot", "--run", "lightning_logs/folds/version_0")


def test_names_that_only_differ_in_signs_have_files_of_their_own(folder: Path) -> None:
    two_features(folder, "a b", "a_b", "A-B")
    main(["plot", "--output", "out"])
    assert len(files("out")) == len({name.lower() for name in files("out")}) == 10
    assert len({Path(name).stem for name in files("out")}) == 5


def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "train one first (fit)" in fails(capsys, "plot")
    run = str(two_features(folder))
    best = f"{run}/checkpoints/best.ckpt"
    assert "--run: nothing: has no checkpoints/best.ckpt" in fails(capsys, "plot", "--run", "nothing")
    assert "--run" in fails(capsys, "plot", "--run", run, "--ckpt_path", best)
    (folder / "file").touch()
    assert "--output: file: File exists; expected a folder" in fails(capsys, "plot", "--output", "file")
    assert "unknown option --format" in fails(capsys, "plot", "--format", "svg")
    (folder / "full" / "reliability.svg").mkdir(parents=True)
    assert "full/reliability.svg: is a folder" in fails(capsys, "plot", "--output", "full")
    assert "--output: x.png: expected a folder" in fails(capsys, "plot", "--output", "x.png")
    (folder / "stopped" / "parts").mkdir(parents=True)
    assert "has not ended" in fails(capsys, "plot", "--run", "stopped")
    main(["export", "model.pth"])
    capsys.readouterr()
    assert "--weights" not in fails(capsys, "plot", "--ckpt_path", "model.pth")
    (folder / "table.csv").rename("elsewhere.csv")
    assert "table.csv: no such file" in fails(capsys, "plot")
