"""`export` and `--model.weights`: weights out and in."""

import json
import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import nn

import iris_lightning
from iris_lightning.cli import main
from tests.conftest import assert_same_weights, fails, fit, load
from tests.test_lesson import LessonNetwork

NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
CLASSES = ["setosa", "versicolor", "virginica"]
SUFFIXES = [".pth", ".safetensors", ".onnx"]


def export(output: str, run: Path = Path("lightning_logs/version_0")) -> None:
    main(["export", "--ckpt_path", str(run / "checkpoints" / "best.ckpt"), "--output", output])


def network(run: Path) -> dict[str, torch.Tensor]:
    state = load(run / "checkpoints" / "best.ckpt")["state_dict"]
    return {name.removeprefix("network."): tensor for name, tensor in state.items()}


def test_the_lessons_class_loads_our_pth(default_run: Path) -> None:
    export("model.pth", default_run)
    lesson = LessonNetwork()
    lesson.load_state_dict(torch.load("model.pth"))
    assert_same_weights(dict(lesson.state_dict()), network(default_run))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("activation", ["null", "relu", "tanh", "gelu", "silu"])
def test_round_trips(suffix: str, activation: str, capsys: pytest.CaptureFixture[str]) -> None:
    fit("--model.standardize", "true", "--model.activation", activation, "--trainer.max_epochs", "1")
    export(f"model{suffix}")
    assert re.search(rf"^model\{suffix}: 8 tensors, read back and equal", capsys.readouterr().out, re.MULTILINE)
    original = iris_lightning.load("lightning_logs/version_0/checkpoints/best.ckpt")
    back = iris_lightning.load(f"model{suffix}")
    assert_same_weights(dict(back.state_dict()), dict(original.state_dict()))
    assert back.classes_.tolist() == CLASSES
    assert back.feature_names_in_.tolist() == NAMES
    rows = np.random.default_rng(0).uniform(0, 8, (1000, 4)).astype("float32")
    np.testing.assert_array_equal(back.predict_proba(rows), original.predict_proba(rows))
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession("model.onnx")
        (found,) = session.run(["probabilities"], {"features": rows})
        np.testing.assert_allclose(found, original.predict_proba(rows), atol=1e-6, rtol=0)
        assert session.run(None, {"features": rows[:1]})[0].shape == (1, 3)
        metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    elif suffix == ".safetensors":
        with safe_open("model.safetensors", framework="pt") as file:
            metadata = file.metadata()
    else:
        return
    assert json.loads(metadata["feature_names"]) == NAMES
    assert json.loads(metadata["class_names"]) == CLASSES


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_the_lesson_saved(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    lesson = LessonNetwork()
    if suffix == ".pth":
        torch.save(lesson.state_dict(), "model.pth")
    else:
        from safetensors.torch import save_file

        save_file(lesson.state_dict(), "model.safetensors")
    weights = ["--model.weights", f"model{suffix}"]
    for verb in ("validate", "test"):
        cli = main([verb, *weights])
        assert_same_weights(dict(cli.model.network.state_dict()), dict(lesson.state_dict()))
        assert len(cli.datamodule.rows["test"]) == 15
    assert capsys.readouterr().out.count(f"weights: model{suffix}\nloss/") == 2
    Path("in.csv").write_text("petal_length,petal_width,sepal_length,sepal_width\n1.4,0.2,5.1,3.5\n")
    main(["predict", *weights, "--data.predict_path", "in.csv", "--output", "out.csv"])
    expected = CLASSES[int(lesson(torch.tensor([[5.1, 3.5, 1.4, 0.2]])).argmax())]
    assert f",{expected}," in Path("out.csv").read_text()
    assert iris_lightning.load(f"model{suffix}").predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == [expected]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_fit_starts_from_weights(suffix: str) -> None:
    options = ["--model.standardize", "true", "--model.hidden", "[5]", "--model.activation", "tanh"]
    fit(*options)
    export(f"model{suffix}")
    weights = ["--model.weights", f"model{suffix}"]
    started = fit(*options, *weights, "--model.lr", "1e-30", "--trainer.max_epochs", "1")
    assert_same_weights(dict(started.model.network.state_dict()), network(Path("lightning_logs/version_0")))
    Path(f"model{suffix}").unlink()  # the run's checkpoints have weights of their own
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    main(["test"])


class Unlike(nn.Module):
    """A network that is not the lesson's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.Linear(16, 8), nn.Linear(8, 3))


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict", "export"])
def test_weights_of_another_shape(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Unlike().state_dict(), "model.pth")
    Path("in.csv").touch()
    extra = {"predict": ["--data.predict_path", "in.csv"], "export": ["--output", "out.onnx"]}.get(verb, [])
    message = fails(capsys, verb, "--model.weights", "model.pth", *extra)
    assert "--model.weights model.pth: layers.0.weight is (16, 5) there and (16, 4)" in message


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("", ["layers.0.bias is (5,) there and (16,)"]),
        ("--model.hidden [5] --model.activation tanh", ["activation relu, got tanh"]),
        ("--ckpt_path last", ["--model.weights", "no effect beside the weights of"]),
    ],
)
def test_fit_with_weights_that_do_not_fit(options: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fit("--model.hidden", "[5]", "--model.activation", "relu", "--trainer.max_epochs", "1")
    export("model.pth")
    capsys.readouterr()
    message = fails(capsys, "fit", "--model.weights", "model.pth", *options.split())
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("output", "parts"),
    [
        ("model.pt", ["--output model.pt", ".pth, .safetensors, .onnx"]),
        ("no/model.pth", ["no folder no"]),
        ("sub.pth", ["is a folder"]),
        ("/dev/null.pth/x.pth", ["no folder"]),
    ],
)
def test_bad_outputs(
    output: str, parts: list[str], default_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub.pth").mkdir()
    checkpoint = str(default_run / "checkpoints" / "best.ckpt")
    message = fails(capsys, "export", "--ckpt_path", checkpoint, "--output", output)
    for part in parts:
        assert part in message


def test_the_output_is_required_and_no_input(capsys: pytest.CaptureFixture[str], default_run: Path) -> None:
    checkpoint = str(default_run / "checkpoints" / "best.ckpt")
    assert "--output: expected the file to write" in fails(capsys, "export", "--ckpt_path", checkpoint)
    torch.save(LessonNetwork().state_dict(), "model.pth")
    message = fails(capsys, "export", "--model.weights", "model.pth", "--output", "model.pth")
    assert "--output model.pth: is the input as well" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file(suffix: str, default_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"model{suffix}").write_text("of yesterday")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        checkpoint = str(default_run / "checkpoints" / "best.ckpt")
        message = fails(capsys, "export", "--ckpt_path", checkpoint, "--output", f"model{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"--output model{suffix}: File too large" in message
    assert Path(f"model{suffix}").read_text() == "of yesterday"


def test_without_the_onnx_packages_the_error_says_how_to_get_them(
    default_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    checkpoint = str(default_run / "checkpoints" / "best.ckpt")
    message = fails(capsys, "export", "--ckpt_path", checkpoint, "--output", "model.onnx")
    assert "pip install 'iris_lightning[onnx]'" in message
