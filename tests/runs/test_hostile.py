"""Files from elsewhere are data: nothing in them runs, grows or writes, and the error is one clear line."""

import os
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

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


def _weight(tensor: torch.Tensor) -> Callable[[dict[str, Any]], object]:
    def change(checkpoint: dict[str, Any]) -> object:
        checkpoint["state_dict"]["network.layers.0.weight"] = tensor
        return checkpoint

    return change


CLASS = {"class_path": "os.system", "init_args": {"command": "touch exploded"}}
CHECKPOINTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a pickle that writes": (_with(epoch=Bomb(open, "exploded", "w")), "open, which is no data; refused"),
    "a pickle that runs": (_with(epoch=Bomb(os.system, "touch exploded")), "system, which is no data; refused"),
    "a pickle that asks for memory": (_with(epoch=Bomb(bytearray, 10**11)), "bytearray, which is no data; refused"),
    "_instantiator": (_with(hyper_parameters___instantiator="os.system"), "unknown option '_instantiator'; refused"),
    "_class_path": (_with(hyper_parameters___class_path="os.system"), "unknown option '_class_path'; refused"),
    "a class of data": (_with(datamodule_hyper_parameters__class_path="os.system"), "option 'class_path'; refused"),
    "a class in the model": (_with(hyper_parameters__activation=CLASS), "activation is no plain value; refused"),
    "a class in the data": (_with(datamodule_hyper_parameters__path=CLASS), "path is no plain value; refused"),
    "a class for an activation": (_with(hyper_parameters__activation="os.system"), "activation: expected one of relu"),
    "a list": (lambda checkpoint: [1, 2], "not a checkpoint of iris_lightning"),
    "weights": (lambda checkpoint: checkpoint["state_dict"], "not a checkpoint of iris_lightning"),
    "no seed of the split": (_without("datamodule_hyper_parameters", "split_seed"), "not a checkpoint of this version"),
    "no loops": (_without("loops"), "not a checkpoint of iris_lightning: it has no loops"),
    "another network": (_weight(torch.zeros(5, 4)), "holds another network: layers.0.bias is (16,) there"),
    "another size": (_with(hyper_parameters__hidden=[10**9, 8]), "its weights are not those of its options"),
    "a tensor of absurd size": (_weight(torch.zeros(1).expand(10**6, 10**6)), "not a checkpoint, or a damaged one"),
    "a sparse tensor": (
        _weight(torch.eye(2).to_sparse()),
        "which is no data; refused",
    ),
    "an absurd optimizer": (
        _with(optimizer_states=[torch.zeros(1, dtype=torch.float64).expand(10**12)]),
        "not a checkpoint, or a damaged one",
    ),
}
BYTES = {"empty": b"", "text": b"species,1\n", "bytes": bytes(range(256))}
COMMANDS = {
    "fit": ["--trainer.max_epochs", "9"],
    "validate": [],
    "test": [],
    "predict": ["--data.predict_path", "flowers.csv", "--output", "predictions.csv"],
    "export": ["--output", "model.pth"],
}


@pytest.fixture
def checkpoint(default_run: Path, folder: Path) -> Path:
    """A copy of a good checkpoint in a copy of its run."""
    shutil.copytree(default_run, folder / "run")
    (folder / "flowers.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n")
    return folder / "run" / "checkpoints" / "last.ckpt"


def _refused(verb: str, path: Path, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if verb == "load":
        with pytest.raises(UserError) as refused:
            iris_lightning.load(path)
        told = str(refused.value)
    else:
        told = fails(capsys, verb, "--ckpt_path", str(path), *COMMANDS[verb])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kB"
    assert message in told
    assert len(told.splitlines()) == 1
    assert len(told) < 400
    assert not Path("exploded").exists()


@pytest.mark.parametrize("verb", [*COMMANDS, "load"])
@pytest.mark.parametrize("content", CHECKPOINTS)
def test_hostile_checkpoints(verb: str, content: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = CHECKPOINTS[content]
    torch.save(change(read(checkpoint)), checkpoint)
    _refused(verb, checkpoint, message, capsys)


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_a_value_of_the_wrong_kind(verb: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_with(hyper_parameters__lr=None)(read(checkpoint)), checkpoint)
    _refused(verb, checkpoint, "--model.lr: expected a value, got null", capsys)


def test_a_list_that_holds_itself_many_times_over(checkpoint: Path) -> None:
    nested: list[Any] = [1]
    for _ in range(60):
        nested = [nested, nested]
    torch.save({**read(checkpoint), "more": nested}, checkpoint)
    assert iris_lightning.load(checkpoint).predict([[5, 3, 1, 1]]).shape == (1,)  # 2 ** 60 steps, if all were walked


NETWORKS = {
    "no rows": {"layers.0.weight": torch.zeros(0, 4), "layers.0.bias": torch.zeros(0)},
    "no matrix": {"layers.0.weight": torch.zeros(4)},
    "whole numbers": {"layers.0.weight": torch.zeros(3, 4, dtype=torch.int64)},
    "a long number": {f"layers.{'9' * 5000}.weight": torch.zeros(3, 4)},
    "no finite number": {"layers.0.weight": torch.full((3, 4), torch.nan), "layers.0.bias": torch.zeros(3)},
}


@pytest.mark.parametrize("content", NETWORKS)
def test_weights_of_no_network(content: str) -> None:
    torch.save(NETWORKS[content], "model.pth")
    with pytest.raises(UserError, match=r"^model\.pth: "):
        iris_lightning.load("model.pth")


@pytest.mark.parametrize("verb", [*COMMANDS, "load"])
@pytest.mark.parametrize("content", [*BYTES, "truncated"])
def test_files_of_other_kinds(verb: str, content: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = checkpoint.read_bytes()
    checkpoint.write_bytes(BYTES.get(content, good[: len(good) // 2]))
    _refused(verb, checkpoint, "not a checkpoint", capsys)


@pytest.fixture(scope="session")
def zip_bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 1 GB in 1 MB."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data.pkl", "w") as file:
        for _ in range(1000):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 2e6
    return path


@pytest.mark.parametrize("verb", [*COMMANDS, "load"])
def test_a_zip_bomb(verb: str, zip_bomb: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(zip_bomb, checkpoint)
    _refused(verb, checkpoint, "holds compressed data", capsys)


@pytest.mark.parametrize("verb", [*COMMANDS, "load"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
@pytest.mark.parametrize("content", ["pickle", "bytes", "truncated", "absurd", "names"])
def test_hostile_weights(
    verb: str, suffix: str, content: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from iris_lightning.cli import main

    path = checkpoint.parent.parent.parent / f"weights{suffix}"
    if content == "truncated":
        main(["export", "--output", str(path), "--ckpt_path", str(checkpoint)])
        path.write_bytes(path.read_bytes()[:300])
        capsys.readouterr()
    elif content == "bytes":
        path.write_bytes(bytes(range(256)))
    elif suffix == ".safetensors" and content == "absurd":
        header = b'{"layers.0.weight":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    elif content == "names" and suffix == ".pth":
        state = torch.nn.Sequential(torch.nn.Linear(4, 3)).state_dict(prefix="layers.")
        state.__dict__["_metadata"] = {"": {"feature_names": "[1, 2", "class_names": {"class_path": "os.system"}}}
        torch.save(state, path)
    elif content == "absurd":
        torch.save({"layers.0.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    else:
        torch.save({"layers.0.weight": Bomb(os.system, "touch exploded")}, path)
    if verb == "load":
        with pytest.raises(UserError, match=path.name) as refused:
            iris_lightning.load(path)
        assert len(str(refused.value).splitlines()) == 1
    else:
        extra = [] if verb == "fit" else COMMANDS[verb]
        assert path.name in fails(capsys, verb, "--model.weights", str(path), *extra)
    assert not Path("exploded").exists()


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "code beside the run": (
        {"trainer": {"callbacks": [{"class_path": "hostile_module.Callback"}]}},
        "callbacks[0].class_path names hostile_module.Callback, which would be imported; refused",
    ),
    "a plugin": ({"trainer": {"plugins": ["hostile_module.Callback"]}}, "plugins[0] names hostile_module.Callback"),
    "a function": (
        {
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
            "lr_scheduler": {
                "class_path": "torch.optim.lr_scheduler.CyclicLR",
                "init_args": {"base_lr": 0.1, "max_lr": 1.0, "scale_fn": "os.system"},
            },
        },
        "lr_scheduler.init_args.scale_fn names os.system",
    ),
    "a path upwards": (
        {
            "trainer": {
                "callbacks": [
                    {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "../../x"}}
                ]
            }
        },
        "callbacks[0].init_args.dirpath is ../../x, outside the run; refused",
    ),
    "an absolute path": (
        {"trainer": {"logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "/x"}}}},
        "logger.init_args.save_dir is /x, outside the run; refused",
    ),
}


@pytest.mark.parametrize("content", CONFIGS)
def test_a_hostile_config_of_a_run(
    content: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("hostile_module.py").write_text("open('exploded', 'w')\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    config = checkpoint.parent.parent / "config.yaml"
    changes, message = CONFIGS[content]
    options = yaml.safe_load(config.read_text())
    for group, values in changes.items():
        options[group] = {**(options.get(group) or {}), **values}
    config.write_text(yaml.safe_dump(options))
    _refused("fit", checkpoint, message, capsys)


def test_a_run_elsewhere_is_resumed_where_it_is(checkpoint: Path) -> None:
    from iris_lightning.cli import main

    config = checkpoint.parent.parent / "config.yaml"
    options = yaml.safe_load(config.read_text())
    options["trainer"]["default_root_dir"] = "../elsewhere"
    config.write_text(yaml.safe_dump(options))
    main(["fit", "--ckpt_path", str(checkpoint), "--trainer.max_epochs", "6"])
    assert not Path("../elsewhere").exists()
    assert read(checkpoint)["epoch"] == 5


@pytest.mark.parametrize("verb", ["predict", "export"])
def test_a_symbolic_link_as_output(verb: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = Path("precious.txt")
    target.write_text("precious")
    output = Path(COMMANDS[verb][-1])
    output.symlink_to(target)
    _refused(verb, checkpoint, "is a symbolic link", capsys)
    assert target.read_text() == "precious"


def test_a_class_name_is_no_formula(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    from iris_lightning.cli import main

    content = read(checkpoint)
    names = ["=cmd|'/C calc'!A0", "@a,=b\n+c", "-1"]
    content["hyper_parameters"]["class_names"] = content["IrisDataModule"]["class_names"] = names
    torch.save(content, checkpoint)
    Path("flowers.csv").write_text(
        "note,sepal_length,sepal_width,petal_length,petal_width\n"
        "=1+1,5.1,3.5,1.4,0.2\n@x,6.5,3,5.5,2\n-a,5.5,2.5,4,1.3\n+b,-90,50,-90,9\n"
    )
    main(["predict", "--ckpt_path", str(checkpoint), *COMMANDS["predict"]])
    main(["predict", "--ckpt_path", str(checkpoint), *COMMANDS["predict"][:-1], "predictions.parquet"])
    table = pl.read_csv("predictions.csv", infer_schema=False)
    assert table["note"].to_list() == ["=1+1", "@x", "-a", "+b"]
    shown = {names[0]: "'=cmd|''/C calc'!A0".replace("''", "'"), names[1]: "'@a,'=b\n'+c", "-1": "-1"}
    true = pl.read_parquet("predictions.parquet")["prediction"].to_list()
    assert table["prediction"].to_list() == [shown[name] for name in true]
    assert set(true) & set(names[:2])
    assert all(name.startswith("probability_") for name in table.columns[6:])
