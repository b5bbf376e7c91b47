"""`--weights FILE`: weights written by `export` or by the lesson."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import iris_lightning
from iris_lightning.cli import main
from iris_lightning.network import IRIS_CLASSES, IrisNetwork
from tests.conftest import fails
from tests.test_lesson import LessonNetwork

FLOWER = "petal_length,petal_width,sepal_length,sepal_width\n1.4,0.2,5.1,3.5\n"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_the_lesson(suffix: str) -> None:
    lesson = LessonNetwork()
    save = torch.save if suffix == ".pth" else save_file
    save(lesson.state_dict(), f"model{suffix}")
    weights = ["--weights", f"model{suffix}"]
    Path("in.csv").write_text(FLOWER)
    main(["predict", "in.csv", *weights, "--output", "out.csv"])
    expected = IRIS_CLASSES[int(lesson(torch.tensor([[5.1, 3.5, 1.4, 0.2]])).argmax())]
    assert f",{expected}," in Path("out.csv").read_text()
    main(["export", "again.safetensors", *weights])
    for path in (f"model{suffix}", "again.safetensors"):
        assert iris_lightning.load(path).predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == [expected]


@pytest.mark.parametrize("path", ["none.pth", "model.onnx"])
def test_files_without_weights(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.onnx").touch()
    assert path in fails(capsys, "export", "model.safetensors", "--weights", path)


@pytest.mark.parametrize("command", ["predict in.csv", "export out.pth"])
def test_weights_of_another_shape(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(IrisNetwork(in_features=5).state_dict(), "model.pth")
    Path("in.csv").write_text(FLOWER)
    message = fails(capsys, *command.split(), "--weights", "model.pth")
    assert "model.pth" in message
    assert "5" in message
