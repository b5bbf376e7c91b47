"""READMEs: commands and snippets run, figures are those that are printed, links lead somewhere."""

import glob
import re
import shlex
from pathlib import Path

import pytest

from iris_lightning.cli import main
from tests.conftest import REPOSITORY, wine

PATHS = [
    "README.md",
    "configs/README.md",
    "iris_lightning/ensemble/README.md",
    "iris_lightning/runs/README.md",
    "iris_lightning/tables/README.md",
    "iris_lightning/weights/README.md",
]
LINKING = [*PATHS, "tests/benchmarks/README.md", ".github/CONTRIBUTING.md"]
TEXTS = {path: (REPOSITORY / path).read_text(encoding="utf-8") for path in LINKING}
README = TEXTS["README.md"]
BEST = re.compile(r"^best: .* loss/val (\S+)  accuracy/val (\S+) ", re.MULTILINE)


def commands_in(text: str) -> list[tuple[str, str]]:
    """Returns how each command is run, as a module or as code, and its arguments."""
    unrolled = re.sub(r"^for (\w+) in (.*); do (.*); done$", unroll, text, flags=re.MULTILINE)
    return re.findall(r"^python (-m iris_lightning|-c) (.*)$", unrolled, re.MULTILINE)


def unroll(loop: re.Match[str]) -> str:
    """Returns the commands of a loop of the shell, one a line."""
    variable, values, body = loop.groups()
    lines = []
    for value in values.split():
        for command in body.split(" && "):
            lines.append(command.replace(f"${variable}", value))
    return "\n".join(lines)


def run(text: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Runs the commands of a text, and returns what each printed when it was first run."""
    printed: dict[str, str] = {}
    for how, command in commands_in(text):
        words = shlex.split(command)
        if how == "-c":
            exec(words[0], {})
            continue
        arguments = []
        for word in words:
            arguments.extend(glob.glob(word) if "*" in word else [word])
        main(arguments)
        printed.setdefault(command, capsys.readouterr().out)
    return printed


def figures(pattern: str | re.Pattern[str], text: str) -> list[float]:
    """Returns the numbers that a pattern captures in a text."""
    found = re.search(pattern, text)
    assert found, text
    return [float(value) for value in found.groups()]


def expected_bests(path: str) -> dict[str, list[float]]:
    """Returns the best `loss/val` and `accuracy/val` that a README gives for a command."""
    if path == "README.md":
        return {"fit": figures(BEST, README)}
    bests = {}
    rows = re.findall(r"^\| \[`(\w+)`\].* \| ([\d.]+) \| ([\d.]+) \|$", TEXTS[path], re.MULTILINE)
    for preset, *values in rows:
        bests[f"fit --config {preset}"] = [float(value) for value in values]
    return bests


@pytest.mark.parametrize("path", PATHS)
def test_commands_run_in_their_order_and_print_the_figures(
    path: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "wine.csv" in TEXTS[path] and path != "README.md":
        wine(folder / "wine.csv")
    printed = run(TEXTS[path], capsys)
    assert printed
    for command, values in expected_bests(path).items():
        # Not to the last digit: another processor may sum in another order.
        assert figures(BEST, printed[command]) == pytest.approx(values, abs=0.005), command
    if path == "iris_lightning/ensemble/README.md":
        accuracy = figures(r"accuracy of (\S+), although", TEXTS[path])
        first = next(iter(printed.values()))
        assert figures(r"iris_lightning +(\S+)", first) == pytest.approx(accuracy, abs=0.02)


def test_presets_have_their_figures() -> None:
    assert len(expected_bests("configs/README.md")) == 3


@pytest.mark.filterwarnings(
    "ignore:.*number of training batches", "ignore:.*LeafSpec"
)  # Lightning's, of any small table
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README.md", [r"loss/test +0\.\d+", r"accuracy/test +0\.\d+", r"macro_f1/test +0\.\d+"]),
        ("iris_lightning/ensemble/README.md", ["mean", "std", "standard_error"]),
        ("iris_lightning/runs/README.md", []),
    ],
)
def test_snippets_do_what_they_say(
    path: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for snippet in re.findall(r"```python\n(.*?)```", TEXTS[path], re.DOTALL):
        exec(snippet, {})
    printed = capsys.readouterr().out
    for pattern in expected:
        assert re.search(pattern, printed), printed


def test_places_named_in_tables_exist() -> None:
    places = re.findall(r"`([\w/]+\.py)`: ([^;|]*)", README)
    assert len(places) > 20
    for file, names in places:
        source = (REPOSITORY / "iris_lightning" / file).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            last = name.rpartition(".")[2]
            assert re.search(rf"((class|def) {last}\b)|(^{last}\b)", source, re.MULTILINE), name


def anchors(text: str) -> set[str]:
    """Returns what links to the headings of a text end in, as on GitHub."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", LINKING)
def test_links_lead_to_files_and_headings(path: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[path]):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        linked = REPOSITORY / path
        if file:
            linked = (linked.parent / file).resolve()
        assert linked.exists(), target
        if heading:
            assert heading in anchors(linked.read_text(encoding="utf-8")), target


def test_versions_are_those_of_the_project() -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    workflow = (REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    (torch,) = re.findall(r'"torch(<[\d.]+)"', README)
    assert re.search(rf'"torch>=[\d.]+,{torch}"', pyproject)
    (oldest,) = re.findall(r"Python (3\.\d+) or newer", README)
    assert f'python: ["{oldest}", ' in workflow
