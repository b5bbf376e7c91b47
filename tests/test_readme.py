"""README's commands run, and print README's figures."""

import re
import shlex
from pathlib import Path

import pytest

from iris_lightning.cli import main
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
COMMANDS = re.findall(r"^python -m iris_lightning (.*)$", README, re.MULTILINE)


def test_commands_run_in_their_order_and_print_the_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    assert len(COMMANDS) >= 9
    for command in COMMANDS:
        main(shlex.split(command))
    best = re.findall(r"^best: .* loss/val (\S+), accuracy/val (\S+) ", capsys.readouterr().out, re.MULTILINE)
    quoted = re.findall(r"^\| `configs/\S+` .* \| (\S+) \| (\S+) \|$", README, re.MULTILINE)
    quoted.append(*re.findall(r"^best: .* loss/val (\S+), accuracy/val (\S+) ", README, re.MULTILINE))
    # Not to the last digit: another processor may sum in another order.
    for found, expected in zip([best[-2], best[-1], best[0]], quoted, strict=True):
        assert [float(x) for x in found] == pytest.approx([float(x) for x in expected], abs=0.005)


def test_the_places_named_in_the_table_exist() -> None:
    places = re.findall(r"`(\w+\.py)`: ([^;|]*)", README)
    assert len(places) > 8
    for file, names in places:
        source = (REPOSITORY / "iris_lightning" / file).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            assert re.search(rf"(class|def) {name.split('.')[-1]}\b|{name.split('.')[-1]}\b.*=|\"{name}\"", source), (
                name
            )
