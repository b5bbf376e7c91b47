"""`export`: writes a trained network for other programs."""

import json
from pathlib import Path
from typing import Any

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
UNITS = torch.tensor([1.0, 10.0, 100.0, 0.1])


def export_trained(activation: str | None, path: str) -> IrisNetwork:
    """Exports a network with random weights and a fitted scale."""
    torch.manual_seed(0)
    network = IrisNetwork(hidden=[7, 5], activation=activation, standardize=True)
    network.fit_buffers(torch.rand(50, 4) * UNITS)
    weights = Weights(network.state_dict(), network.options, FEATURES, CLASSES, None)
    export(weights, Path(path))
    return network.eval()


def test_the_lesson_s_network_loads_pth(default_run: Path) -> None:
    best = default_run / "checkpoints" / "best.ckpt"
    main(["export", "model.pth", "--ckpt_path", str(best)])
    lesson = torch.nn.ModuleDict({"network": LessonNetwork()})
    lesson["network"].load_state_dict(torch.load("model.pth"))
    assert_same_weights(lesson.state_dict(), load(best)["state_dict"])
    names: Any = np.array(CLASSES)  # as scikit-learn has them
    assert iris_lightning.load("model.pth", class_names=names)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_round_trips(suffix: str, activation: str | None) -> None:
    network = export_trained(activation, f"model{suffix}")
    told = activation if suffix == ".pth" else None
    back = iris_lightning.load(f"model{suffix}", activation=told)
    assert_same_weights(back.network.state_dict(), network.state_dict())
    rows = torch.rand(100, 4) * UNITS
    with torch.inference_mode():
        assert torch.equal(back.network(rows), network(rows))


def test_safetensors_contains_names(default_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = default_run / "checkpoints" / "best.ckpt"
    main(["export", "model.safetensors", "--ckpt_path", str(best)])
    assert "model.safetensors" in capsys.readouterr().out.splitlines()[-1]
    with safe_open("model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["feature_names"]) == FEATURES
    assert json.loads(metadata["class_names"]) == CLASSES


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_onnx_equals_the_plain_network(activation: str | None) -> None:
    network = export_trained(activation, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["feature_names"]) == FEATURES
    assert json.loads(metadata["class_names"]) == CLASSES
    for count in (0, 1, 1000):
        rows = torch.rand(count, 4) * UNITS
        (found,) = session.run(["probabilities"], {"features": rows.numpy()})
        with torch.inference_mode():
            expected = network(rows).softmax(dim=1).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("model.pt", ["model.pt", ".pth, .safetensors, .onnx"]),
        ("no/model.pth", ["no folder no"]),
        ("weights.pth --weights weights.pth", ["weights.pth", "input"]),
        (
            "model.pth --weights weights.pth --ckpt_path best",
            ["only one checkpoint, weights file or run"],
        ),
        ("model.pth --ckpt_path none.ckpt", ["none.ckpt", "no such file"]),
    ],
)
def test_bad_commands(
    command: str, words: list[str], default_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(LessonNetwork().state_dict(), "weights.pth")
    best = ["--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")]
    source = [] if "--" in command else best
    message = fails(capsys, "export", *command.split(), *source)
    assert [word for word in words if word not in message] == []


def test_a_full_disk_leaves_the_old_file(
    default_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.pth").write_text("of yesterday")
    best = str(default_run / "checkpoints" / "best.ckpt")
    with full_disk(100):
        message = fails(capsys, "export", "model.pth", "--ckpt_path", best)
    assert "model.pth: File too large" in message
    assert Path("model.pth").read_text() == "of yesterday"


def test_missing_onnx_packages(
    default_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ImportError("No module named 'onnxscript'")

    monkeypatch.setattr(torch.onnx, "export", fail)
    best = str(default_run / "checkpoints" / "best.ckpt")
    message = fails(capsys, "export", "model.onnx", "--ckpt_path", best)
    assert "pip install -e '.[onnx]'" in message
