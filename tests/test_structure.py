"""The rules of the house: what imports what, which heavy packages come with it, and how long a module is."""

import ast
import importlib
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "iris_lightning"
FILES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
HEAVY = ("torch", "lightning", "torchmetrics", "sklearn", "tensorboard", "polars", "jsonargparse", "matplotlib")
LIGHT = (
    "errors",
    "__main__",
    "cli",
    "cli.entry",
    "crossvalidation",
    "runs",
    "runs.signals",
    "tables",
    "weights",
)  # none of the heavy packages
WITH_LIGHTNING = (
    *("data", "classifier", "metrics"),
    *(f"runs.{name}" for name in ("callbacks", "checkpoint_io", "fast", "logger", "report", "saving")),
    *("cli.console", "cli.crossvalidation", "cli.lightning_cli", "cli.options", "cli.trainer", "cli.training"),
    *(f"crossvalidation.{name}" for name in ("baselines", "folds", "result", "saving", "stack", "training")),
)


def _imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever and however it does, and the names that it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and str(node.value).startswith("iris_lightning."):
            found.add(str(node.value))  # imported by its name, with importlib
    return found


def _room(module: str) -> str:
    """A folder is a room, and so is each module beside them."""
    return ".".join(module.split(".")[1:2]) or "the package"


def test_imports_between_modules_and_between_rooms_run_one_way() -> None:
    modules = {module: _imports(path) & FILES.keys() for module, path in FILES.items()}
    rooms: dict[str, set[str]] = {}
    for module, below in modules.items():
        rooms.setdefault(_room(module), set()).update({_room(name) for name in below} - {_room(module)})
    assert sum(len(below) for below in rooms.values()) > 20, "imports are found"
    for graph in (modules, rooms):
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    assert {room for room, below in rooms.items() if "cli" in below} == {"__main__"}
    assert rooms["plots"] == {"calibration"}
    assert rooms["runs"] <= {"plots", "weights", "files", "hyperparameters", "errors", "classifier", "metrics"}
    assert rooms["tables"] <= {"predictor", "features", "files", "errors"}
    assert rooms["weights"] <= {"network", "files", "errors"}
    assert {room for room, below in rooms.items() if "crossvalidation" in below} == {"cli", "the package"}
    assert "classifier" not in rooms["data"]
    assert "data" not in rooms["classifier"]


def test_the_network_needs_torch_alone() -> None:
    assert {name.partition(".")[0] for name in _imports(PACKAGE / "network.py")} - sys.stdlib_module_names == {"torch"}


IMPORT = """
import gc, importlib, json, os, sys
gc.disable()
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


def test_version_help_and_a_misspelt_command_import_nothing_heavy() -> None:
    code = (
        "import sys, contextlib; from iris_lightning.cli import main; main(['--version']); main(['--help']);\n"
        "with contextlib.suppress(SystemExit): main(['fitt'])\n"
        f"print({{*{HEAVY}}} & {{*sys.modules}})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "set()"
    assert "did you mean fit?" in result.stderr


def test_what_needs_no_lightning_imports_none() -> None:
    others = {module.removeprefix("iris_lightning.") for module in FILES if module != "iris_lightning"}
    modules = tuple(sorted(others - {*LIGHT, *WITH_LIGHTNING}))
    assert {"predictor", "cli.commands", "weights.export", "tables.predictions", "runs.checkpoints"} <= {*modules}
    for module, found in _heavy_packages(modules, "torch").items():
        allowed = {"polars"} if module.startswith("tables.") else {"jsonargparse"} if module == "cli.parsing" else set()
        assert found <= allowed, module


def test_each_module_can_be_imported_first() -> None:
    once = ("torch", "lightning", "lightning.pytorch.cli", "torch.utils.tensorboard", "sklearn.metrics", "polars")
    assert len(_heavy_packages(WITH_LIGHTNING, *once)) == len(WITH_LIGHTNING)


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
    rooms: dict[str, int] = {}
    for module, path in FILES.items():
        lines = len(path.read_text().splitlines())
        assert lines <= limits.get(str(path.relative_to(PACKAGE)), 250), path
        room = _room(module) if path.parent != PACKAGE else "the modules beside the rooms"
        rooms[room] = rooms.get(room, 0) + lines
    bounds = {"cli": 1748, "crossvalidation": 947, "runs": 1304, "tables": 840, "weights": 250}
    assert {room for room, lines in rooms.items() if lines > bounds.get(room, 1541)} == set(), rooms


def test_each_folder_says_what_belongs_there_and_is_installed() -> None:
    folders = {path.parent for path in FILES.values()} - {PACKAGE}
    assert {folder.name for folder in folders} >= {"cli", "runs", "tables", "weights"}
    for folder in folders:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder
        assert f'"iris_lightning.{folder.name}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_it_runs_on_any_system_and_only_the_command_line_knows_options() -> None:
    for module, path in FILES.items():
        source = path.read_text()
        assert not [word for word in ("/proc", "/dev", "os.O_", "os.fork") if word in source], module
        if _room(module) != "cli":
            texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
            assert not [text for text in texts if isinstance(text, str) and "--" in text], module


def test_public_names_exist() -> None:
    for name, path in FILES.items():
        module = importlib.import_module(name)
        if name == "iris_lightning" or path.stem not in ("__init__", "__main__"):
            assert module.__all__, name
        assert [public for public in getattr(module, "__all__", []) if not hasattr(module, public)] == [], name
