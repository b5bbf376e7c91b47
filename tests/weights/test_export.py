"""`export`: a trained network as a file for others."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open

import iris_lightning
from iris_lightning.cli import main
from iris_lightning.network import ACTIVATIONS, IRIS_CLASSES, IRIS_FEATURES, IrisNetwork
from iris_lightning.weights.export import export
from iris_lightning.weights.reading import Weights
from tests.conftest import assert_same_weights, fails, load
from tests.test_files import full_disk
from tests.test_lesson import LessonNetwork

FEATURES, CLASSES = list(IRIS_FEATURES), list(IRIS_CLASSES)
SUFFIXES = [".pth", ".safetensors", ".onnx"]


def names_of(network: IrisNetwork) -> Weights:
    """Returns weights with the names of Iris."""
    return Weights(network.state_dict(), FEATURES, CLASSES, network.activation)


def trained(activation: str | None = None, standardize: bool = True) -> IrisNetwork:
    """Returns a network whose weights are not those of its start."""
    torch.manual_seed(0)
    network = IrisNetwork(hidden=[7, 5], activation=activation, standardize=standardize)
    if standardize:
        network.fit_scaler(torch.rand(50, 4) * torch.tensor([1.0, 10.0, 100.0, 0.1]))
    return network.eval()


def test_the_lessons_class_loads_our_pth(default_run: Path) -> None:
    main(["export", "model.pth", "--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")])
    lesson = LessonNetwork()
    lesson.load_state_dict(torch.load("model.pth"))
    state = load(default_run / "checkpoints" / "best.ckpt")["state_dict"]
    assert_same_weights({f"network.{name}": tensor for name, tensor in lesson.state_dict().items()}, state)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_knows_its_names_and_says_what_was_checked(
    suffix: str, default_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(default_run / "checkpoints" / "best.ckpt")
    main(["export", f"model{suffix}", "--ckpt_path", checkpoint])
    used, checked = capsys.readouterr().out.splitlines()
    assert used == f"checkpoint: {checkpoint} (epoch 4)"
    assert checked.startswith(
        f"model{suffix}: {'probabilities of 1000 rows within' if suffix == '.onnx' else '6 tensors'}"
    )
    if suffix == ".pth":
        model = iris_lightning.load("model.pth")
        assert [model.feature_names_in_.tolist(), model.classes_.tolist()] == [FEATURES, CLASSES]
        return
    metadata: Mapping[str, str]
    if suffix == ".onnx":
        metadata = onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map
    else:
        with safe_open("model.safetensors", framework="pt") as file:
            metadata = file.metadata()
    assert [json.loads(metadata[key]) for key in ("feature_names", "class_names")] == [FEATURES, CLASSES]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("standardize", [False, True])
def test_round_trips(suffix: str, activation: str | None, standardize: bool) -> None:
    network = trained(activation, standardize)
    export(network, names_of(network), Path(f"model{suffix}"))
    back = iris_lightning.load(f"model{suffix}")
    assert_same_weights(back.network.state_dict(), network.state_dict())
    rows = torch.rand(100, 4) * 8
    with torch.inference_mode():
        assert torch.equal(back.network(rows), network(rows))
    assert [back.feature_names_in_.tolist(), back.classes_.tolist()] == [FEATURES, CLASSES]


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_onnx_gives_the_probabilities_of_the_plain_network(activation: str | None) -> None:
    network = trained(activation)
    export(network, names_of(network), Path("model.onnx"))
    session = onnxruntime.InferenceSession("model.onnx")
    for count in (0, 1, 1000):
        rows = torch.rand(count, 4) * torch.tensor([1.0, 10.0, 100.0, 0.1])
        (found,) = session.run(["probabilities"], {"features": rows.numpy()})
        with torch.inference_mode():
            expected = network(rows).softmax(dim=1).numpy()
        assert found.shape == (count, 3)
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_a_graph_that_differs_does_not_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris_lightning.weights.export.TOLERANCE", -1.0)  # nothing is that near
    with pytest.raises(iris_lightning.UserError, match=r"model\.onnx: its probabilities would differ"):
        export(trained(), names_of(trained()), Path("model.onnx"))
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("", ["required: output"]),
        ("model.pt", ["model.pt", ".pth, .safetensors, .onnx"]),
        ("no/model.pth", ["no folder no"]),
        ("sub.pth", ["is a folder"]),
        ("weights.pth --weights weights.pth", ["weights.pth: is the input as well"]),
        ("model.pth --weights weights.pth --ckpt_path best", ["--weights", "no effect beside a checkpoint"]),
        ("model.pth --ckpt_path none.ckpt", ["--ckpt_path", "none.ckpt: no such file"]),
        ("model.pth --output other.pth", ["unknown option --output"]),
    ],
)
def test_bad_commands(command: str, parts: list[str], default_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub.pth").mkdir()
    torch.save(LessonNetwork().state_dict(), "weights.pth")
    source = [] if "--" in command else ["--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")]
    message = fails(capsys, "export", *command.split(), *source)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file(suffix: str, default_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"model{suffix}").write_text("of yesterday")
    with full_disk(100):
        checkpoint = str(default_run / "checkpoints" / "best.ckpt")
        message = fails(capsys, "export", f"model{suffix}", "--ckpt_path", checkpoint)
    assert f"model{suffix}: cannot be written: File too large" in message
    assert Path(f"model{suffix}").read_text() == "of yesterday"


def test_without_the_onnx_packages_the_error_says_how_to_get_them(
    default_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    message = fails(capsys, "export", "model.onnx", "--ckpt_path", str(default_run / "checkpoints" / "best.ckpt"))
    assert "pip install 'iris_lightning[onnx]'" in message
