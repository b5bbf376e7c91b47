"""What README says of copies: its core works alone, and the other parts need what it lists."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.test_structure import FILES, PACKAGE, imports_of

SECTION = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## What to keep")[2]
CORE = re.findall(r"`(\w+\.py)`", SECTION.partition("**The core:**")[2].partition("\n\n")[0])
ROWS = re.findall(r"^\| (`.*) \| .* \|(.*)\|$", SECTION, re.MULTILINE)

USE = """
import iris_lightning
import lightning as L
from iris_lightning import IrisClassifier, IrisDataModule

options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
trainer = L.Trainer(max_epochs=1, accelerator="cpu", **options)
trainer.fit(IrisClassifier(), IrisDataModule())
assert 0 < trainer.callback_metrics["loss/val"] < 3
print(iris_lightning.__file__)
"""


def test_the_core_trains_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "iris_lightning"
    package.mkdir()
    for name in CORE:
        shutil.copy(PACKAGE / name, package)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    command = [sys.executable, "-c", USE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.splitlines()[-1]).parent == package


def parts(names: str) -> set[str]:
    """Returns the modules and folders that a cell of README's table names."""
    return {name.removesuffix(".py") for name in re.findall(r"`(\w+)(?:\.py|/)`", names)}


def test_the_other_parts_need_what_readme_lists() -> None:
    core = {name.removesuffix(".py") for name in CORE}
    needs = {}
    for cells in ROWS:
        for part in parts(cells[0]):
            needs[part] = parts(cells[1])
    found: dict[str, set[str]] = {}
    for module, path in FILES.items():
        part = (*module.split("."), "__init__")[1]
        used = {name.split(".")[1] for name in imports_of(path) & FILES.keys() if "." in name}
        found.setdefault(part, set()).update(used - core - {part})
    assert found.keys() == core | needs.keys()
    for part in needs.keys() - {"cli", "__main__"}:  # which need all others
        assert found[part] == needs[part], part
