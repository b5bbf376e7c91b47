"""What an epoch and a start may cost, counted and not timed: a test fails when one of the counts grows."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from iris_lightning.runs import checkpoint_io
from iris_lightning.sharing import Batches, BatchLoader
from tests.conftest import fit

COUNTED: dict[str, tuple[type, str]] = {
    "self.log": (L.LightningModule, "log"),
    "item": (torch.Tensor, "item"),
    "float": (torch.Tensor, "__float__"),
    "fetches": (Batches, "__getitem__"),
    "loaders": (BatchLoader, "__iter__"),
    "checkpoints": (L.Trainer, "save_checkpoint"),
    "written": (checkpoint_io.AtomicCheckpointIO, "_write"),
}


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts calls that cost, and has no time pass between two checkpoints."""
    found: Counter[str] = Counter()

    def counted(name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return original(*args, **kwargs)

        return call

    for name, (owner, function) in COUNTED.items():
        monkeypatch.setattr(owner, function, counted(name, getattr(owner, function)))
    monkeypatch.setattr(checkpoint_io, "SECONDS", float("inf"))
    return found


def test_calls_in_an_epoch(counts: Counter[str]) -> None:
    options = ["--model.lr", "0.01", "--trainer.max_epochs"]  # each epoch is the best so far
    fit(*options, "3")
    three = Counter(counts)
    counts.clear()
    fit(*options, "5")
    epoch = {name: (counts[name] - three[name]) / 2 for name in COUNTED}
    most = {
        "self.log": 0,
        "item": 138,
        "float": 18,
        "fetches": 14,
        "loaders": 2,
        "checkpoints": 1,
        "written": 0,
    }
    # Of the items, 132 are Adam's, of the numbers of its steps; a fetch is a batch; the checkpoint is best and last.
    assert {name: number for name, number in epoch.items() if number > most[name]} == {}
    assert counts["written"] == 4, "at the start and at the end"


def test_hooks_of_each_batch() -> None:
    cli = fit("--trainer.max_epochs", "1")
    callbacks: list[Callback] = vars(cli.trainer)["callbacks"]
    hooks = [name for name in vars(Callback) if "batch" in name or "backward" in name or "optimizer_step" in name]
    own = {
        f"{type(item).__name__}.{name}"
        for item in callbacks
        for name in hooks
        if type(item).__module__.startswith("iris_lightning")
        and getattr(type(item), name) is not getattr(Callback, name)
    }
    best = "BestCheckpoint.on_train_batch_end"  # which does nothing, where Lightning's would
    assert own == {"StopOnSignal.on_train_batch_end", "StopOnSignal.on_validation_batch_end", best}
    assert len(callbacks) <= 8


HEAVY = ("torch", "lightning", "torchmetrics", "sklearn", "tensorboard", "polars", "jsonargparse", "onnx", "skorch")
COMMANDS = {
    "--help": set(),
    "fitt": set(),
    "fit": {"torch", "lightning", "torchmetrics", "sklearn", "tensorboard", "jsonargparse"},
    "validate": {"torch", "lightning", "torchmetrics", "sklearn", "jsonargparse"},
    "predict": {"torch", "polars", "jsonargparse"},
    "export": {"torch", "jsonargparse"},
}
CODE = """
import gc, json, os, sys
from iris_lightning.cli import main
gc.disable()
for args in {commands}:
    if args == {commands}[2]:
        import torch  # once, for all that follow
    reader, writer = os.pipe()
    if os.fork() == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        try:
            main(args)
        except SystemExit as stop:
            assert args == ["fitt"], stop
        os.write(writer, json.dumps([name for name in {heavy} if name in sys.modules]).encode())
        os._exit(0)
    os.close(writer)
    assert os.wait()[1] == 0, args
    print(args[0], os.read(reader, 1000).decode())
"""


def test_what_each_command_imports(default_run: Path, folder: Path) -> None:
    (folder / "flowers.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n")
    checkpoint = ["--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")]
    options = {"fit": ["--figures=false"], "validate": checkpoint, "predict": ["flowers.csv", *checkpoint]}
    options["export"] = ["model.pth", *checkpoint]
    commands = [[name, *options.get(name, [])] for name in COMMANDS]
    code = CODE.format(commands=commands, heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = {
        name: set(json.loads(names)) for name, names in (line.split(" ", 1) for line in result.stdout.splitlines())
    }
    assert found == COMMANDS
