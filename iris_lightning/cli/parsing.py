"""Parsing, and how mistakes in the options are told: one line instead of the usage and a dump of types."""

import itertools
import os
import re
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from iris_lightning.cli.help import help_of
from iris_lightning.errors import UserError, closest

__all__ = ["as_user_error", "call", "parse", "simplified"]

# Types as jsonargparse's messages call them, and as a user would.
KINDS = {"int": "an integer", "float": "a number", "bool": "true or false", "NoneType": "null", "str": "text"}
KINDS |= {"Sequence": "a list", "list": "a list", "Iterable": "a list"}

SYNONYMS = {"epochs": "max_epochs", "seed": "seed_everything", "learning_rate": "lr", "checkpoint": "ckpt_path"}
# Where classes are named without their module, and the base classes that jsonargparse names where none was.
CLASSES = ("torch.optim", "torch.optim.lr_scheduler", "lightning.pytorch.callbacks", "lightning.pytorch.loggers")
BASES = {
    "Optimizer": "--optimizer SGD --optimizer.lr 0.1, or use --model.lr",
    "LRScheduler": "--lr_scheduler StepLR --lr_scheduler.step_size 2",
}


def call(function: Callable[..., Any], args: Sequence[str]) -> None:
    """Calls the function of a command, whose parameters are the options."""
    if {"-h", "--help"} & {*args}:
        print(help_of(function))
        raise SystemExit(0)
    parser = ArgumentParser(prog=f"iris_lightning {function.__name__}", exit_on_error=False, allow_abbrev=False)
    parser.add_function_arguments(function, as_positional=True)
    function(**parse(parser, args))


@contextmanager
def simplified(prefix: str = "", names: Sequence[str] = ()) -> Iterator[None]:
    """Simplifies jsonargparse's messages; `names` are the options that a misspelt one may mean."""
    try:
        yield
    except (ArgumentError, ValueError, TypeError, KeyError) as error:
        raise UserError(prefix + _simplify(str(error), names)) from error


def parse(parser: ArgumentParser, args: Sequence[str], defaults: bool = True) -> Namespace:
    """Parses the arguments of a command, with or without defaults; a mistake in a YAML file names the file."""
    pairs = [*itertools.pairwise(args), *((option, value) for option, _, value in (arg.partition("=") for arg in args))]
    files = [value for option, value in pairs if option == "--config" and value]
    for option, value in pairs:
        if option == "--config" or (option.startswith("--") and value.endswith((".yaml", ".yml"))):
            _check_config(Path(value))
    try:
        return _parse(parser, list(args), defaults)
    except UserError as error:
        for path in files:
            try:
                _parse(parser, ["--config", path], defaults)
            except UserError as own:
                named = str(own) if path in str(own) else f"{path}: {own}"
                raise UserError(named) from error
        raise


def _check_config(path: Path) -> None:
    """Refuses a key that stands twice, of which YAML keeps the last without a word, and an anchor within itself."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # which the parser tells
        return
    _check_node(path, root, [], [])


def _check_node(path: Path, node: yaml.Node | None, above: list[yaml.Node], checked: list[yaml.Node]) -> None:
    if node in above:
        raise UserError(f"{path}: line {node.start_mark.line + 1}: an anchor stands within itself")
    if (
        isinstance(node, yaml.ScalarNode)
        and (file := path.parent / node.value).suffix in (".yaml", ".yml")
        and file != path
    ):
        _check_config(file)  # a file in the place of a group of options
    if not isinstance(node, yaml.CollectionNode) or node in checked:
        return
    checked.append(node)
    keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    names = [key.value for key in keys]
    for i, key in enumerate(keys):
        if key.value in names[:i]:
            raise UserError(f"{path}: line {key.start_mark.line + 1}: {key.value} stands twice")
    for value in [value for _, value in node.value] if keys else node.value:
        _check_node(path, value, [*above, node], checked)


def _parse(parser: ArgumentParser, args: list[str], defaults: bool) -> Namespace:
    empty = [option for option, value in itertools.pairwise(args) if option.startswith("--") and value == ""]
    empty += [arg[:-1] for arg in args if re.fullmatch(r"--[\w.]+\+?=", arg)]
    if empty:
        raise UserError(f"{empty[0]}: expected a value, got ''")
    names = [f"--{name}" for name, _ in parser.get_defaults().items()]
    with simplified(names=names):
        options = parser.parse_args(args, defaults=defaults)
    for group in ("model", "data", "trainer"):
        value = options.get(group, Namespace())
        if not isinstance(value, Namespace):
            raise UserError(f"{group}: expected options of its own, got {value}")
        if defaults and any(name.startswith(f"--{group}.") and name[2:] not in options for name in names):
            raise UserError(f"{group}: expected options of its own in the file")
    return options


def _simplify(message: str, names: Sequence[str]) -> str:
    """Returns the line of a message of jsonargparse's that says what is wrong."""
    if match := re.match(r"unrecognized arguments: ([^\s=]+)", message):
        known = match[1].startswith("-")
        return f"unknown option {match[1]}{_hint(match[1], names)}" if known else f"unexpected argument {match[1]!r}"
    if match := re.match(r"(?:Group '(.*)' does not accept o|O)ption '(.*)'", message):
        name = f"{match[1]}.{match[2]}" if match[1] else match[2]
        return f"unknown option {name}{_hint(name, names)}".replace("--", "")
    if match := re.match(r'Parser key "([^"]*)":\s*(.*)', message, re.DOTALL):
        lacking, typed = "the following arguments are required: ", f"expected --{match[1]}."
        return f"--{match[1]}: {_simplify_value(match[2]).replace(lacking, typed)}"
    if match := re.match(r"Unexpected config: (.*)", message, re.DOTALL):
        return f"expected options, as in 'trainer: {{max_epochs: 5}}', got {match[1].strip() or 'nothing'}"
    return " ".join(message.removeprefix("argument ").split())


def _hint(option: str, names: Sequence[str]) -> str:
    """Returns which of the names a misspelt or shortened option may mean: by its last part, else its whole group."""
    group, _, last = option.removeprefix("--").rpartition(".")
    names = [name for name in names if name.startswith(f"--{group}.")] or list(names)
    known = {name.removeprefix("--").rpartition(".")[2]: name for name in names if name != option}
    if match := closest(SYNONYMS.get(last, last), known):
        return f"; did you mean {known[match]}?"
    return f"; expected one of {', '.join(known.values())}" if group and known else ""


def _simplify_value(text: str) -> str:
    missing = re.search(r"(?:File does not exist|Path is not a file|Unable to load config):? '(.*?)'", text)
    if missing and not Path(missing[1]).is_file():
        return f"no such file: {os.path.relpath(missing[1])}"
    if match := re.search(r"Problem with given class_path '(?:\w+\.)*(\w+)':\s*(.*)", text):
        if match[1] in BASES:
            return f"name a class first, as in {BASES[match[1]]}"
        if option := re.match(r"Option '(.*)' is not accepted", match[2]):
            return f"{match[1]} has no option {option[1]!r}"
        nested = re.match(r'Parser key "([^"]*)":$', match[2])
        return f"{match[1]}: {f'{nested[1]}: {_simplify_value(text[match.end() :])}' if nested else match[2]}"
    if text.startswith("Not of type Seed"):
        value = re.match(r"Not of type Seed: (?:.*base 10: )?(\S+)", text)
        return f"expected a whole number from 0 to {2**32 - 1}, got {value[1] if value else text}"
    given = re.search(r"(?:Got|Given) value: (.*)", text)
    kinds = re.findall(r"Expected an? (?:typing\.|<class ')(?:\w+\.)*(.*?)'?>?(?:\. Got value|$)", text, re.MULTILINE)
    match = re.search(r"Expected a dot import path string: (.*)", text)
    classes = [name for module in CLASSES for name in getattr(sys.modules.get(module), "__all__", ())]
    close = closest(match[1], classes) if match else None
    if match and match[1] in classes:
        return f"{match[1]} is a class for another option"
    if given and (base := re.search(r"does not correspond to a subclass of (\w+)", text)):
        return f"expected a class of the kind {base[1]}, got {given[1]}"
    if match and (close or set(kinds) <= {"NoneType", "list"}):
        return f"there is no class {match[1]!r}{f'; did you mean {close}?' if close else ''}"
    if given and (made := re.match(r"Namespace\(class_path='(?:\w+\.)*(\w+)'", given[1])):
        return f"{made[1]} cannot be made; is each package installed that it needs?"
    if given and (nested := re.match(r"NestedArg\(key='(.*?)'", given[1])):
        return f"has no option {nested[1]!r}"
    if given and kinds:
        words = [KINDS.get(kind, kind.removeprefix("Literal[").removesuffix("]")) for kind in kinds]
        hint = f"; a list is typed as '[{given[1]}]'" if "a list" in words else ""
        hint = "; put it in quotes" if "text" in words else hint
        return f"expected {' or '.join(words)}, got {given[1].strip() or repr(given[1])}{hint}"
    return " ".join(text.split())


@contextmanager
def as_user_error(prefix: str = "") -> Iterator[None]:
    """Treats what torch or Lightning raise as a mistake in the options.

    What our own code raises is a bug of ours.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = list(traceback.walk_tb(error.__traceback__))
        if str(frames[-1][0].f_globals["__name__"]).startswith("iris_lightning"):
            raise
        reason = _simplify_value(str(error.__cause__ or error)) or type(error).__name__
        if isinstance(error, ZeroDivisionError):
            reason = "expected a number above zero"
        raise UserError(prefix + reason) from error
