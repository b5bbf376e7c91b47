"""README's commands run, and print README's figures."""

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
        command.replace(f"${found[1]}", value) for value in found[2].split() for command in found[3].split(" && ")
    ),
    README,
    flags=re.MULTILINE,
)
COMMANDS = re.findall(r"^python (-m iris_lightning|-c) (.*)$", LOOPS, re.MULTILINE)
BEST = re.compile(r"^best: .* loss/val (\S+), accuracy/val (\S+) ", re.MULTILINE)

RECIPE = "--config configs/iris_record.yaml"  # whose training takes half a minute


def run(commands: list[tuple[str, str]], folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
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
    return {f"fit --config {config}": [float(value) for value in values] for config, *values in rows}


def test_commands_run_in_their_order_and_print_the_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) >= 30
    printed = run([command for command in COMMANDS if RECIPE not in command[1]], folder, capsys)
    assert "2 pictures" in printed["plot --output figures/folds/ --run lightning_logs/version_4"]
    quoted = {"fit": figures(BEST, README), **configs()}
    assert len(quoted) == 5
    for command, values in quoted.items():
        if RECIPE not in command:
            # Not to the last digit: another processor may sum in another order.
            assert figures(BEST, printed[command]) == pytest.approx(values, abs=0.005), command


@pytest.mark.slow
def test_the_recipe_has_its_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run([command for command in COMMANDS if RECIPE in command[1]], folder, capsys)
    assert figures(BEST, printed[f"fit {RECIPE}"]) == pytest.approx(configs()[f"fit {RECIPE}"], abs=0.005)
    found = figures(re.compile(r"^iris_lightning +(\S+) ± \S+ +(\S+) ±", re.M), printed[f"crossvalidate {RECIPE}"])
    quoted = figures(re.compile(r"^\| `configs/iris_record.yaml` \| ([\d.]+), ([\d.]+) \|", re.M), README)
    assert found == pytest.approx(quoted, abs=0.002)
    assert found[0] >= 0.98
    assert found[1] <= 0.0505


@pytest.mark.filterwarnings(
    "ignore:.*number of training batches", "ignore:.*LeafSpec"
)  # Lightning's, of any small table
def test_the_snippets_do_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    trainer, folds = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(folds, {})
    assert "standard_error" in capsys.readouterr().out
    exec(trainer, {})
    printed = capsys.readouterr().out
    assert all(re.search(rf"{name}/test +0\.\d+", printed) for name in ("loss", "accuracy", "macro_f1"))


def test_the_places_named_in_the_table_exist() -> None:
    table = README.partition("## Where each line of the lesson went")[2].partition("\n## ")[0]
    places = re.findall(r"`(\w+\.py)`: ([^;|]*)", table)
    modules = ("data", "network", "classifier", "metrics", "predictor", "sharing")
    assert {file for file, _ in places} == {f"{module}.py" for module in modules}
    for file, names in places:
        source = (REPOSITORY / "iris_lightning" / file).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            assert re.search(rf"(class|def) {name.split('.')[-1]}\b", source), name


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "pip install -q -e '.[test]' && pytest" in README
    assert "README.md" in (REPOSITORY / ".ci" / "run").read_text()
