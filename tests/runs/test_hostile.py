"""Untrusted files cannot run code, and errors in them are one clear line."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import iris_lightning
from iris_lightning.cli import main
from iris_lightning.errors import UserError
from tests.conftest import fails
from tests.conftest import load as read

COMMANDS = {
    "fit": [],
    "test": [],
    "predict": ["flowers.csv", "--output", "predictions.csv"],
    "export": ["model.pth"],
}


class Bomb:
    """A pickle that runs a command when it is loaded as code."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch exploded",)


@pytest.fixture
def last(default_run: Path, folder: Path) -> Path:
    """Copies a run, and returns its last checkpoint."""
    shutil.copytree(default_run, folder / "run")
    (folder / "flowers.csv").touch()
    return folder / "run" / "checkpoints" / "last.ckpt"


def refused_by_load(path: Path) -> None:
    """Asserts that `load` raises a one-line error that names the file."""
    with pytest.raises(UserError) as refused:
        iris_lightning.load(path)
    told = str(refused.value)
    assert path.name in told
    assert len(told.splitlines()) == 1
    assert len(told) < 600


@pytest.mark.parametrize("command", COMMANDS)
def test_files_cannot_run_code(
    command: str, last: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = read(last)
    checkpoint["hyper_parameters"]["lr"] = Bomb()
    torch.save(checkpoint, last)
    weights = Path("model.pth")
    torch.save({"layers.0.weight": Bomb()}, weights)
    for option, path in (("--ckpt_path", last), ("--weights", weights)):
        if option == "--ckpt_path" or command in ("predict", "export"):
            assert path.name in fails(capsys, command, *COMMANDS[command], option, str(path))
        refused_by_load(path)
    assert not Path("exploded").exists()


def _with(group: str, name: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(checkpoint: dict[str, Any]) -> dict[str, Any]:
        checkpoint[group][name] = value
        return checkpoint

    return change


WEIGHT = "network.layers.0.weight"
CHECKPOINTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a list": lambda checkpoint: [1, 2],
    "weights": lambda checkpoint: checkpoint["state_dict"],
    "no options": lambda checkpoint: {**checkpoint, "hyper_parameters": None},
    "a class": _with("iris_lightning", "network_options", {"activation": {"class_path": "os"}}),
    "another network": _with("state_dict", WEIGHT, torch.zeros(5, 4)),
    "a newer format": _with("iris_lightning", "format", 10**6),
}


@pytest.mark.parametrize("content", CHECKPOINTS)
def test_invalid_checkpoints(content: str, last: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(CHECKPOINTS[content](read(last)), last)
    assert "last.ckpt" in fails(capsys, "test", "--ckpt_path", str(last))
    refused_by_load(last)


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("hyper_parameters", "hidden", "wide"),
        ("trained_on", "split", "all"),
        ("trained_on", "class_names", [1, 2]),
        ("datamodule_hyper_parameters", "batch_size", None),
    ],
)
def test_invalid_options_in_checkpoints(
    group: str, name: str, value: object, last: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(_with(group, name, value)(read(last)), last)
    fails(capsys, "test", "--ckpt_path", str(last))


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".safetensors"])
def test_damaged_files(suffix: str, last: Path) -> None:
    path = Path(f"model{suffix}")
    shutil.copy(last, path)
    if suffix != ".ckpt":
        main(["export", str(path), "--ckpt_path", str(last)])
    good = path.read_bytes()
    for content in (b"", b"species,1\n", bytes(range(256)), good[: len(good) // 2]):
        path.write_bytes(content)
        refused_by_load(path)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {1: torch.zeros(3, 4)},
        {"layers.0.weight": [1.0, 2.0]},
        {"layers.0.weight": torch.zeros(3, 4, dtype=torch.int64)},
        {"layers.0.weight": torch.full((3, 4), torch.nan), "layers.0.bias": torch.zeros(3)},
    ],
)
def test_invalid_weights(state: dict[Any, Any]) -> None:
    torch.save(state, "model.pth")
    refused_by_load(Path("model.pth"))


@pytest.mark.parametrize(
    "names", ['["a", "b"]', '{"class_path": "os.system"}', "[1, 2", "[" * 9999]
)
def test_invalid_metadata(names: str) -> None:
    state = torch.nn.Sequential(torch.nn.Linear(4, 3)).state_dict(prefix="layers.")
    save_file(state, "model.safetensors", {"class_names": names})
    refused_by_load(Path("model.safetensors"))
