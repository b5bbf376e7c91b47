"""Files from elsewhere are data: nothing in them runs or writes, and the error is one clear line."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import iris_lightning
from iris_lightning.errors import UserError
from tests.conftest import fails
from tests.conftest import load as read


class Bomb:
    """A pickle that calls a function when it is loaded as code."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


RUNS = Bomb(os.system, "touch exploded")
WRITES = Bomb(open, "exploded", "w")


def _with(**changes: object) -> Callable[[dict[str, Any]], object]:
    """Replaces entries of a checkpoint; `a__b` is the entry `b` of the entry `a`."""

    def change(checkpoint: dict[str, Any]) -> object:
        for path, value in changes.items():
            group, _, key = path.partition("__")
            if key:
                checkpoint[group][key] = value
            else:
                checkpoint[group] = value
        return checkpoint

    return change


def _without(group: str, key: str = "") -> Callable[[dict[str, Any]], object]:
    def change(checkpoint: dict[str, Any]) -> object:
        del (checkpoint[group] if key else checkpoint)[key or group]
        return checkpoint

    return change


def _split(**changes: object) -> Callable[[dict[str, Any]], object]:
    """Changes what a checkpoint says of its table and split, in both places."""
    places = ("trained_on", "IrisDataModule")
    return _with(**{f"{place}__{name}": value for place in places for name, value in changes.items()})


def _weight(tensor: torch.Tensor) -> Callable[[dict[str, Any]], object]:
    def change(checkpoint: dict[str, Any]) -> object:
        checkpoint["state_dict"]["network.layers.0.weight"] = tensor
        return checkpoint

    return change


CLASS = {"class_path": "os.system", "init_args": {"command": "touch exploded"}}
CHECKPOINTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a pickle that runs": (_with(epoch=RUNS), "not a checkpoint"),
    "a pickle that writes": (_with(hyper_parameters__lr=WRITES), "not a checkpoint"),
    "_instantiator": (_with(hyper_parameters___instantiator="os.system"), "'_instantiator' is missing or unknown"),
    "_class_path": (_with(hyper_parameters___class_path="os.system"), "'_class_path' is missing or unknown"),
    "a class of data": (_with(datamodule_hyper_parameters__class_path="os.system"), "'class_path' is missing or"),
    "a class in the model": (_with(hyper_parameters__activation=CLASS), "activation is no plain value"),
    "a class in the data": (_with(datamodule_hyper_parameters__path=CLASS), "path is no plain value"),
    "a class in a list": (_with(hyper_parameters__hidden=[16, [CLASS]]), "hidden is no plain value"),
    "a class for an activation": (_with(hyper_parameters__activation="os.system"), "activation: expected one of relu"),
    "a null learning rate": (_with(hyper_parameters__lr=None), "lr: expected a"),
    "a learning rate in words": (_with(hyper_parameters__lr="fast"), "lr: expected a number, got fast"),
    "a list": (lambda checkpoint: [1, 2], "not a checkpoint"),
    "weights": (lambda checkpoint: checkpoint["state_dict"], "not a checkpoint"),
    "no seed of the split": (_without("datamodule_hyper_parameters", "split_seed"), "'split_seed' is missing or"),
    "no loops": (_without("loops"), "not a checkpoint"),
    "no class names": (_without("hyper_parameters", "class_names"), "it has no class_names"),
    "another network": (_weight(torch.zeros(5, 4)), "another network"),
    "another size": (_with(hyper_parameters__hidden=[10**9, 8]), "its weights are not those of its options"),
    "a tensor of absurd size": (_weight(torch.zeros(1).expand(10**6, 10**6)), "no tensor of numbers"),
    "a sparse tensor": (_weight(torch.eye(4).to_sparse()), "no tensor of numbers"),
    "a split in words": (_split(split="all"), "--data.split: expected a list, got all"),
    "a seed in words": (_split(split_seed="three"), "--data.split_seed: expected an integer, got three"),
    "another split for Lightning": (_with(IrisDataModule__split_seed=3), "does not know its table"),
    "columns that are no names": (_split(feature_names=[1, 2]), "does not know its table"),
    "metrics that are none": (_with(metrics=[CLASS]), "not a checkpoint"),
    "a metric in words": (_with(callback_metrics={"loss/val": "low"}), "not a checkpoint"),
}
COMMANDS = {
    "fit": ["--trainer.max_epochs", "9"],
    "validate": [],
    "test": [],
    "predict": ["flowers.csv", "--output", "predictions.csv"],
    "export": ["model.pth"],
    "load": [],
}


@pytest.fixture
def checkpoint(default_run: Path, folder: Path) -> Path:
    """A copy of a good checkpoint in a copy of its run."""
    shutil.copytree(default_run, folder / "run")
    (folder / "flowers.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n")
    return folder / "run" / "checkpoints" / "last.ckpt"


def _refused(command: str, option: str, path: Path, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if command == "load":
        with pytest.raises(UserError) as refused:
            iris_lightning.load(path)
        told = str(refused.value)
    else:
        told = fails(capsys, command, option, str(path), *COMMANDS[command])
    assert message in told
    assert path.name in told or "--model." in told
    assert len(told.splitlines()) == 1
    assert len(told) < 600
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", CHECKPOINTS)
def test_hostile_checkpoints(content: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = CHECKPOINTS[content]
    torch.save(change(read(checkpoint)), checkpoint)
    _refused("test", "--ckpt_path", checkpoint, message, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pickle_runs_in_no_command(command: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_with(epoch=RUNS)(read(checkpoint)), checkpoint)
    _refused(command, "--ckpt_path", checkpoint, "not a checkpoint", capsys)
    torch.save({"layers.0.weight": RUNS}, "model.pth")
    _refused(command, "--weights", Path("model.pth"), "not a state dict", capsys)


def test_weights_without_the_state_of_their_optimizer_are_not_resumed(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(_without("optimizer_states")(read(checkpoint)), checkpoint)
    _refused("fit", "--ckpt_path", checkpoint, "optimizer", capsys)


def test_the_commands_that_need_no_options_ignore_unknown_ones(checkpoint: Path) -> None:
    torch.save(_with(hyper_parameters___instantiator="os.system")(read(checkpoint)), checkpoint)
    assert iris_lightning.load(checkpoint).predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == ["setosa"]
    for command in ("predict", "export"):
        iris_lightning.cli.main([command, *COMMANDS[command], "--ckpt_path", str(checkpoint)])
        assert Path(COMMANDS[command][-1]).exists()


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".safetensors"])
@pytest.mark.parametrize("content", ["empty", "text", "bytes", "truncated"])
def test_files_of_other_kinds(suffix: str, content: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(f"model{suffix}")
    if suffix == ".ckpt":
        shutil.copy(checkpoint, path)
    else:
        iris_lightning.cli.main(["export", str(path), "--ckpt_path", str(checkpoint)])
    good = path.read_bytes()
    others = {"empty": b"", "text": b"species,1\n", "bytes": bytes(range(256)), "truncated": good[: len(good) // 2]}
    path.write_bytes(others[content])
    _refused("load", "", path, "cannot be read as safetensors" if suffix == ".safetensors" else "not a", capsys)


NETWORKS = {
    "no rows": {"layers.0.weight": torch.zeros(0, 4), "layers.0.bias": torch.zeros(0)},
    "no matrix": {"layers.0.weight": torch.zeros(4)},
    "whole numbers": {"layers.0.weight": torch.zeros(3, 4, dtype=torch.int64)},
    "a long number": {f"layers.{'9' * 5000}.weight": torch.zeros(3, 4)},
    "no finite number": {"layers.0.weight": torch.full((3, 4), torch.nan), "layers.0.bias": torch.zeros(3)},
    "an absurd size": {"layers.0.weight": torch.zeros(1).expand(10**6, 10**6)},
    "names that are no text": {1: torch.zeros(3, 4)},
    "no tensors": {"layers.0.weight": [1.0, 2.0]},
    "nothing": {},
}


@pytest.mark.parametrize("content", NETWORKS)
def test_weights_of_no_network(content: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(NETWORKS[content], "model.pth")
    _refused("load", "", Path("model.pth"), "", capsys)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "metadata",
    [
        {"feature_names": "[1, 2"},
        {"feature_names": "[1, 2, 3, 4]", "class_names": '["a", "b", "c"]'},
        {"feature_names": '["a", "b", "c", "d"]', "class_names": '["a", "b"]'},
        {"feature_names": '["a", "b", "c", "d"]', "class_names": '["a", "b", "c"]', "activation": '"os.system"'},
        {"feature_names": '["a", "b", "c", "d"]', "class_names": '{"class_path": "os.system"}'},
        {"feature_names": "[" * 100_000},
    ],
)
def test_names_that_export_never_wrote(
    suffix: str, metadata: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.nn.Sequential(torch.nn.Linear(4, 3)).state_dict(prefix="layers.")
    if suffix == ".pth":
        state.__dict__["_metadata"] = {"": metadata}
        torch.save(state, "model.pth")
    else:
        save_file(state, "model.safetensors", metadata)
    _refused("load", "", Path(f"model{suffix}"), "", capsys)


def test_safetensors_of_absurd_size(capsys: pytest.CaptureFixture[str]) -> None:
    header = b'{"layers.0.weight":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    Path("model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    _refused("load", "", Path("model.safetensors"), "cannot be read as safetensors", capsys)
