"""The commands in README work, and print the numbers in README."""

import re
import shlex
from pathlib import Path

import pytest

from iris_lightning.cli import main
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
LOOPS = re.sub(
    r"^for (\w+) in (.*); do (.*); done$",
    lambda found: "\n".join(
        command.replace(f"${found[1]}", value)
        for value in found[2].split()
        for command in found[3].split(" && ")
    ),
    README,
    flags=re.MULTILINE,
)
COMMANDS = re.findall(r"^python (-m iris_lightning|-c) (.*)$", LOOPS, re.MULTILINE)
BEST = re.compile(r"^best: .* loss/val (\S+), accuracy/val (\S+) ", re.MULTILINE)


def run(
    commands: list[tuple[str, str]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, str]:
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    printed: dict[str, str] = {}
    for how, command in commands:
        if how == "-c":
            exec(shlex.split(command)[0], {})
        else:
            main(shlex.split(command))
            printed.setdefault(command, capsys.readouterr().out)
    return printed


def figures(pattern: re.Pattern[str], text: str) -> list[float]:
    found = pattern.search(text)
    assert found, text
    return [float(value) for value in found.groups()]


def configs() -> dict[str, list[float]]:
    rows = re.findall(r"^\| `(configs/\S+)` .* \| (\S+) \| (\S+) \|$", README, re.MULTILINE)
    return {
        f"fit --config {config}": [float(value) for value in values] for config, *values in rows
    }


def test_commands_run_in_their_order_and_print_the_figures(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(COMMANDS, folder, capsys)
    for command, values in {"fit": figures(BEST, README), **configs()}.items():
        # Not to the last digit: another processor may sum in another order.
        assert figures(BEST, printed[command]) == pytest.approx(values, abs=0.005), command


@pytest.mark.filterwarnings(
    "ignore:.*number of training batches", "ignore:.*LeafSpec"
)  # Lightning's, of any small table
def test_the_snippets_do_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    trainer, folds = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(folds, {})
    assert "standard_error" in capsys.readouterr().out
    exec(trainer, {})
    printed = capsys.readouterr().out
    assert all(
        re.search(rf"{name}/test +0\.\d+", printed) for name in ("loss", "accuracy", "macro_f1")
    )


def test_the_places_named_in_tables_exist() -> None:
    for file, names in re.findall(r"`(\w+\.py)`: ([^;|]*)", README):
        source = (REPOSITORY / "iris_lightning" / file).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            last = name.rpartition(".")[2]
            assert re.search(rf"((class|def) {last}\b)|(^{last}\b)", source, re.M), name


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "pip install -q -e '.[test]' && pytest" in README
    assert "README.md" in (REPOSITORY / ".ci" / "run").read_text()
