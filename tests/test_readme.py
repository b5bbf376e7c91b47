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
    assert len(COMMANDS) >= 18
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


@pytest.mark.filterwarnings(
    "ignore:.*number of training batches", "ignore:.*LeafSpec"
)  # Lightning's, of any small table
def test_the_snippet_of_a_plain_trainer_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(snippet, {})
    printed = capsys.readouterr().out
    assert all(re.search(rf"{name}/test +0\.\d+", printed) for name in ("loss", "accuracy", "f1"))


def test_the_places_named_in_the_table_exist() -> None:
    table = README.partition("## Where each line of the lesson went")[2].partition("\n## ")[0]
    places = re.findall(r"`(\w+\.py)`: ([^;|]*)", table)
    assert {file for file, _ in places} == {"data.py", "network.py", "classifier.py", "metrics.py", "predictor.py"}
    for file, names in places:
        source = (REPOSITORY / "iris_lightning" / file).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            assert re.search(rf"(class|def) {name.split('.')[-1]}\b", source), name


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "pip install -q -e '.[test]' && pytest" in README
    assert "README.md" in (REPOSITORY / ".ci" / "run").read_text()
