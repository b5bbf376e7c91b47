"""README's commands run, and print README's figures."""

import re
import shlex
from pathlib import Path

import pytest

from iris_lightning.cli import main
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
COMMANDS = re.findall(r"^python (-m iris_lightning|-c) (.*)$", README, re.MULTILINE)
BEST = re.compile(r"^best: .* loss/val (\S+), accuracy/val (\S+) ", re.MULTILINE)


def test_commands_run_in_their_order_and_print_the_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    printed: dict[str, list[float]] = {}
    assert len(COMMANDS) >= 14
    for how, command in COMMANDS:
        if how == "-c":
            exec(shlex.split(command)[0], {})
            continue
        main(shlex.split(command))
        if best := BEST.search(capsys.readouterr().out):
            printed.setdefault(command, [float(value) for value in best.groups()])
    quoted = {"fit": BEST.findall(README)[0]}
    for config, *values in re.findall(r"^\| `(configs/\S+)` .* \| (\S+) \| (\S+) \|$", README, re.MULTILINE):
        quoted[f"fit --config {config}"] = values
    assert len(quoted) == 4
    for command, values in quoted.items():
        # Not to the last digit: another processor may sum in another order.
        assert printed[command] == pytest.approx([float(value) for value in values], abs=0.005), command


def test_the_places_named_in_the_table_exist() -> None:
    places = re.findall(r"`(\w+\.py)`: ([^;|]*)", README)
    assert len(places) > 8
    for file, names in places:
        source = (REPOSITORY / "iris_lightning" / file).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            assert re.search(rf"(class|def) {name.split('.')[-1]}\b|\"{name}\"|^{name} =", source, re.MULTILINE), name


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "pip install -q -e '.[test]' && pytest" in README
    assert "README.md" in (REPOSITORY / ".ci" / "run").read_text()
