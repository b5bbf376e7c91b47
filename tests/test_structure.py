"""Imports: no cycles, and no heavy packages where they are not needed."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "iris_lightning"
FILES = {}
for path in PACKAGE.rglob("*.py"):
    name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    FILES[name.removesuffix(".__init__")] = path


def imports_of(path: Path) -> set[str]:
    """Returns the modules and names that a file imports, except for type checking."""
    found = set()
    source = re.sub(r"^if TYPE_CHECKING:\n( .*\n)+", "", path.read_text(), flags=re.MULTILINE)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and str(node.value).startswith("iris_lightning."):
            found.add(str(node.value))  # imported by its name, with importlib
    return found


def run_folder(module: str) -> str:
    """Returns the package of a module, or the module itself if it is at the top level."""
    return ".".join(module.split(".")[:2])


def test_no_circular_imports() -> None:
    modules: dict[str, set[str]] = {}
    folders: dict[str, set[str]] = {}
    for module, path in FILES.items():
        modules[module] = (imports_of(path) & FILES.keys()) - {module}
        above = run_folder(module)
        below = {run_folder(name) for name in modules[module]}
        folders.setdefault(above, set()).update(below - {above})
    assert sum(map(len, folders.values())) > 20, "imports are found"
    for graph in (modules, folders):
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_network_imports_only_torch() -> None:
    found = {name.partition(".")[0] for name in imports_of(PACKAGE / "network.py")}
    assert found - sys.stdlib_module_names == {"torch"}


USE = """
import contextlib, sys
from iris_lightning.cli import main

checkpoint = ["--ckpt_path", sys.argv[1]]

def imported(*packages):
    assert not {*packages} & sys.modules.keys(), {*packages} & sys.modules.keys()

main(["--version"])
main(["--help"])
with contextlib.suppress(SystemExit):
    main(["fitt"])
imported("torch", "lightning", "jsonargparse")
import iris_lightning
assert len(iris_lightning.load(sys.argv[1]).predict([[5, 3, 1, 1]])) == 1
imported("lightning", "torchmetrics", "jsonargparse", "polars", "sklearn")
main(["predict", "in.csv", "--output", "out.csv", *checkpoint])
main(["export", "model.safetensors", *checkpoint])
imported("lightning", "torchmetrics", "sklearn", "tensorboard")
"""


def test_light_commands_do_not_import_lightning(default_run: Path, folder: Path) -> None:
    flowers = "sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n"
    (folder / "in.csv").write_text(flowers)
    command = [sys.executable, "-c", USE, str(default_run / "checkpoints" / "best.ckpt")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("iris_lightning: error: unknown command 'fitt'")
    assert result.stderr.count("\n") == 1
