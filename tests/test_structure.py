"""The rules of the house: what imports what, which heavy packages come with it, and how long a module is."""

import ast
import importlib
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import iris_lightning
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "iris_lightning"
FILES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
HEAVY = ("torch", "lightning", "torchmetrics", "sklearn", "tensorboard", "polars", "jsonargparse")
LIGHT = ("errors", "__main__", "cli", "cli.entry", "runs", "tables", "weights")  # none of the heavy packages
WITH_LIGHTNING = (
    *("data", "classifier", "metrics", "runs.saving", "runs.callbacks"),
    *("cli.console", "cli.lightning_cli", "cli.options", "cli.training"),
)


def _imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _room(module: str) -> str:
    """A folder is a room, and so is each module beside them."""
    return ".".join(module.split(".")[:2])


def test_imports_between_rooms_run_one_way() -> None:
    rooms: dict[str, set[str]] = {}
    for module, path in FILES.items():
        own = {_room(name) for name in _imports(path) if name in FILES and name != "iris_lightning"}
        if module != "iris_lightning":  # whose imports are for type checkers
            rooms.setdefault(_room(module), set()).update(own - {_room(module)})
    assert list(TopologicalSorter(rooms).static_order())  # raises CycleError
    above = {room for room, below in rooms.items() if "iris_lightning.cli" in below}
    assert above == {"iris_lightning.__main__"}
    assert rooms["iris_lightning.network"] == set()
    assert "iris_lightning.classifier" not in rooms["iris_lightning.data"]
    assert "iris_lightning.data" not in rooms["iris_lightning.classifier"]
    assert rooms["iris_lightning.runs"] <= {"iris_lightning." + name for name in ("weights", "files", "errors")}


def test_the_network_needs_torch_alone() -> None:
    assert _imports(PACKAGE / "network.py") == {"collections.abc", "torch"}


IMPORT = """
import importlib, json, os, sys
for name in {preload}: importlib.import_module(name)
for module in {modules}:
    reader, writer = os.pipe()
    if os.fork() == 0:
        importlib.import_module("iris_lightning." + module)
        os.write(writer, json.dumps([name for name in {heavy} if name in sys.modules]).encode())
        os._exit(0)
    os.close(writer)
    assert os.wait()[1] == 0, module
    print(module, os.read(reader, 1000).decode())
"""


def _heavy_packages(modules: tuple[str, ...], *preload: str) -> dict[str, set[str]]:
    """What comes with each module, imported alone in a fresh copy of an interpreter that has some packages already."""
    code = IMPORT.format(preload=preload, modules=modules, heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = dict(line.split(" ", 1) for line in result.stdout.splitlines())
    return {module: set(json.loads(names)) - {*preload} for module, names in found.items()}


def test_what_answers_at_once_imports_nothing_heavy() -> None:
    assert set().union(*_heavy_packages(LIGHT).values()) == set()


def test_what_needs_no_lightning_imports_none() -> None:
    others = {module.removeprefix("iris_lightning.") for module in FILES if module != "iris_lightning"}
    modules = tuple(sorted(others - {*LIGHT, *WITH_LIGHTNING}))
    assert {"predictor", "cli.commands", "weights.export", "tables.predictions", "runs.checkpoints"} <= {*modules}
    for module, found in _heavy_packages(modules, "torch").items():
        allowed = {"polars"} if module.startswith("tables.") else {"jsonargparse"} if module == "cli.parsing" else set()
        assert found <= allowed, module


def test_each_module_can_be_imported_first() -> None:
    assert len(_heavy_packages(WITH_LIGHTNING, "torch", "lightning")) == len(WITH_LIGHTNING)


def test_predict_and_export_run_without_lightning(default_run: Path, folder: Path) -> None:
    (folder / "flowers.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n")
    checkpoint = ["--ckpt_path", str(default_run / "checkpoints" / "best.ckpt")]
    code = (
        "import sys; from iris_lightning.cli import main;"
        f"main(['predict', 'flowers.csv', '--output', 'out.csv', *{checkpoint}]);"
        f"main(['export', 'model.pth', *{checkpoint}]);"
        "print({'lightning', 'torchmetrics', 'sklearn', 'tensorboard'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "set()"
    assert result.stderr == ""


def test_sizes() -> None:
    limits = {"data.py": 230, "classifier.py": 160, "predictor.py": 180}
    for path in FILES.values():
        lines = len(path.read_text().splitlines())
        assert lines <= limits.get(str(path.relative_to(PACKAGE)), 250), path
    assert sum(len(path.read_text().splitlines()) for path in FILES.values()) <= 2550


@pytest.mark.parametrize("folder", ["cli", "runs", "tables", "weights"])
def test_each_folder_says_what_belongs_there(folder: str) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))


def test_it_runs_on_any_system_and_only_the_command_line_knows_options() -> None:
    for module, path in FILES.items():
        source = path.read_text()
        assert not [word for word in ("/proc", "/dev", "os.O_", "os.fork") if word in source], module
        if ".cli" not in module:
            texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
            assert not [text for text in texts if isinstance(text, str) and "--" in text], module


def test_public_names_exist() -> None:
    for module in FILES:
        names = getattr(importlib.import_module(module), "__all__", [])
        assert all(hasattr(importlib.import_module(module), name) for name in names), module
    assert all(hasattr(iris_lightning, name) for name in iris_lightning.__all__)
