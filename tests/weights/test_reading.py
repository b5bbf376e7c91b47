"""`--weights FILE`: weights written by `export` or by the lesson."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import iris_lightning
from iris_lightning.cli import main
from iris_lightning.network import IRIS_CLASSES, IrisNetwork
from tests.conftest import assert_same_weights, fails, fit, load
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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_fit_starts_from_weights(suffix: str) -> None:
    options = ["--model.standardize", "true", "--model.hidden", "[5]", "--trainer.max_epochs"]
    first = fit(*options, "2")
    main(["export", f"model{suffix}", "--ckpt_path", "last"])
    started = fit(*options, "1", "--weights", f"model{suffix}", "--model.lr", "1e-30")
    assert_same_weights(started.model.state_dict(), first.model.state_dict())
    Path(f"model{suffix}").unlink()  # the run's checkpoints have weights of their own
    resumed = main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    assert_same_weights(resumed.model.state_dict(), first.model.state_dict())
    assert load(Path("lightning_logs/version_1/checkpoints/last.ckpt"))["epoch"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--model.hidden [6]", ["model.safetensors", "hidden"]),
        ("--model.hidden [5] --model.activation tanh", ["model.safetensors", "activation"]),
        ("--model.hidden [5] --model.standardize true", ["model.safetensors", "standardize"]),
        ("--weights none.pth", ["none.pth"]),
        ("--weights model.onnx", ["model.onnx", ".pth, .safetensors"]),
    ],
)
def test_fit_with_unsuitable_weights(
    options: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--model.hidden", "[5]", "--trainer.max_epochs", "1")
    main(["export", "model.safetensors"])
    Path("model.onnx").touch()
    capsys.readouterr()
    message = fails(capsys, "fit", "--weights", "model.safetensors", *options.split())
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("command", ["fit", "predict in.csv", "export out.pth"])
def test_weights_of_another_shape(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(IrisNetwork(in_features=5).state_dict(), "model.pth")
    Path("in.csv").write_text(FLOWER)
    message = fails(capsys, *command.split(), "--weights", "model.pth")
    assert "model.pth" in message
    assert "5" in message
