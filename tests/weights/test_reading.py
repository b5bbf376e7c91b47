"""`--weights FILE`: weights of `export` and of the lesson in place of a checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import iris_lightning
from iris_lightning.cli import main
from iris_lightning.network import IRIS_CLASSES
from tests.conftest import assert_same_weights, fails, fit, load
from tests.test_lesson import LessonNetwork


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_the_lesson_saved(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    lesson = LessonNetwork()
    (torch.save if suffix == ".pth" else save_file)(lesson.state_dict(), f"model{suffix}")
    weights = ["--weights", f"model{suffix}"]
    for command in ("validate", "test"):
        cli = main([command, *weights])
        assert_same_weights(dict(cli.model.network.state_dict()), dict(lesson.state_dict()))
        assert len(cli.datamodule.rows["test"]) == 15
    said = capsys.readouterr().out
    for rows in (30, 15):
        unknown = "by --data.split_seed; the file does not say which rows it was trained on"
        assert f"weights: model{suffix}\nIris: {rows} of 150 rows, {unknown}\nloss/" in said
    Path("in.csv").write_text("petal_length,petal_width,sepal_length,sepal_width\n1.4,0.2,5.1,3.5\n")
    main(["predict", "in.csv", *weights, "--output", "out.csv"])
    expected = IRIS_CLASSES[int(lesson(torch.tensor([[5.1, 3.5, 1.4, 0.2]])).argmax())]
    assert f",{expected}," in Path("out.csv").read_text()
    assert iris_lightning.load(f"model{suffix}").predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == [expected]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_fit_starts_from_weights_and_evaluation_takes_their_shape_from_them(suffix: str) -> None:
    options = ["--model.standardize", "true", "--model.hidden", "[5]", "--model.activation", "tanh"]
    first = fit(*options, "--trainer.max_epochs", "2")
    main(["export", f"model{suffix}", "--ckpt_path", "last"])
    found = main(["test", "--weights", f"model{suffix}"]).trainer.callback_metrics
    assert found == main(["test", "--ckpt_path", "last"]).trainer.callback_metrics
    started = fit(*options, "--weights", f"model{suffix}", "--model.lr", "1e-30", "--trainer.max_epochs", "1")
    assert_same_weights(started.model.state_dict(), first.model.state_dict())
    Path(f"model{suffix}").unlink()  # the run's checkpoints have weights of their own
    resumed = main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    assert_same_weights(resumed.model.state_dict(), first.model.state_dict())
    assert load(Path("lightning_logs/version_1/checkpoints/last.ckpt"))["epoch"] == 1


def test_the_columns_of_weights_are_those_that_they_were_trained_with() -> None:
    Path("table.csv").write_text("a,b,kind,c\n" + "1,2,x,7\n3,5,y,6\n" * 10)
    fit("--data.path", "table.csv", "--data.target", "kind", "--data.features", "[c,a]", "--trainer.max_epochs", "1")
    main(["export", "model.pth"])
    found = main(["test", "--weights", "model.pth", "--data.path", "table.csv", "--data.target", "kind"])
    assert found.datamodule.feature_names == ["c", "a"]
    assert found.trainer.callback_metrics == main(["test"]).trainer.callback_metrics


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--model.hidden [6] --model.activation relu", ["model.pth: another network", "layers.0.weight"]),
        ("--model.hidden [5] --model.activation tanh", ["model.pth", "activation relu, got tanh"]),
        ("--model.hidden [5] --model.activation relu --model.standardize true", ["model.pth", "mean"]),
        ("--ckpt_path last", ["--weights", "no effect beside a checkpoint"]),
        ("--weights none.pth", ["none.pth", "No such file"]),
        ("--weights model.onnx", ["model.onnx", ".pth, .safetensors"]),
    ],
)
def test_fit_with_weights_that_do_not_fit(options: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fit("--model.hidden", "[5]", "--model.activation", "relu", "--trainer.max_epochs", "1")
    main(["export", "model.pth"])
    Path("model.onnx").touch()
    capsys.readouterr()
    message = fails(capsys, "fit", "--weights", "model.pth", *options.split())
    for part in parts:
        assert part in message


class Unlike(nn.Module):
    """A network that is not the lesson's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.Linear(16, 8), nn.Linear(8, 3))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict in.csv", "export out.pth"])
def test_weights_of_another_shape_without_names(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Unlike().state_dict(), "model.pth")
    Path("in.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5,3,1,0\n")
    message = fails(capsys, *command.split(), "--weights", "model.pth")
    assert "model.pth" in message
    assert "5" in message, "it has five features"
