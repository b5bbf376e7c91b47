"""Parses options and configs, and shortens error messages to one line."""

import argparse
import re
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader
from yaml import YAMLError

from iris_lightning.cli.help import format_help
from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import to_yaml

MAX_BYTES = 1_000_000  # of a config
MAX_ALIASES = 30  # in a config; more could expand to gigabytes
# Source files of the standard library and of other packages.
LIBRARY = re.compile(r"(-packages|python3\.\d+|Lib)[/\\](?!.*iris_lightning)")
GROUPS = {"model", "data", "trainer"}

CONFIG_PARSER = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
CONFIG_PARSER.add_argument("-c", "--config", action="append", default=[])

# Lines of jsonargparse's messages that do not say what is wrong.
DETAILS = re.compile(
    "Does not validate|Subtypes:|Errors:|Expected a NoneType|Expected a path|Not a valid subclass"
    r"|Subclass types|a class path|a dict |Import path \S+\.|Given value type"
    r"|Given value: \W*Namespace\("
)
# In jsonargparse's message about a class that cannot be imported.
NOT_A_CLASS = "a dot import path string: "
# Captures the name of the unknown option or class.
UNKNOWN = re.compile(rf"(?:unrecognized arguments: --|^.*[Oo]ption '|{NOT_A_CLASS})([\w.-]+)")
CLASS_MODULES = (  # whose classes can be named without the module
    "torch.optim",
    "torch.optim.lr_scheduler",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)


def call(function: Callable[..., Any], args: Sequence[str]) -> None:
    """Parses arguments and calls the function of a command; its parameters are the options."""
    prog = f"iris_lightning {function.__name__}"
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_function_arguments(function, as_positional=True)
    function(**parse(parser, args))


def parse(
    parser: ArgumentParser,
    args: Sequence[str],
    known: Iterable[str] = (),
    recorded: dict[str, Any] | None = None,
) -> Namespace:
    """Parses the arguments of a command.

    Typed options take precedence over configs, later configs over earlier ones, and all of these
    over recorded options.

    Args:
        parser: The parser of the command.
        args: The arguments.
        known: Names of the options of all commands, such as `trainer.max_epochs`. In a config,
            options of other commands are ignored.
        recorded: Options recorded in a checkpoint or a run. Options that the parser does not have
            are ignored.
    """
    if "-h" in args or "--help" in args:
        print(format_help(parser))
        raise SystemExit(0)
    own = {*parser.get_defaults().keys()}
    typed = args
    configs = []
    if recorded:
        options = _flatten(recorded)
        for name in options.keys() - own:
            del options[name]
        configs.append(f"--config={to_yaml(options)}")
    if "config" in own:
        with simplify_errors():
            found, typed = CONFIG_PARSER.parse_known_args(args)
        others = {*known} - own
        for path in map(find_config, found.config):
            with simplify_errors(own, f"{path}: "):
                options = _flatten(_read_config(path))
                for name in options.keys() & others:
                    del options[name]
                configs.append(f"--config={to_yaml(options)}")
                parser.parse_args(configs, defaults=False)  # so that errors name the file
    with simplify_errors(own):
        return parser.parse_args([*configs, *typed])


def _flatten(options: dict[str, Any]) -> dict[str, Any]:
    """Returns options by their full names, such as `model.lr` for an option of a group."""
    flat = {}
    for name, value in options.items():
        if name not in GROUPS:
            flat[name] = value
            continue
        if not isinstance(value, dict):
            raise ValueError(f"{name}: expected a mapping, got {value}")
        for key, item in value.items():
            flat[f"{name}.{key}"] = item
    return flat


def find_config(name: str) -> Path:
    """Returns the path of a config: either a preset with this name, or a file."""
    package = Path(__file__).parents[1]
    for folder in (package, package.parent):  # installed, and in the repository
        preset = folder / "configs" / f"{name}.yaml"
        if preset.is_file():
            return preset
    if not Path(name).exists():
        raise UserError(f"{name}: no such file, and no preset has this name", "config")
    return Path(name)


def _read_config(path: Path) -> dict[str, Any]:
    """Reads a config."""
    if path.stat().st_size > MAX_BYTES or not path.is_file():
        raise ValueError(f"expected a regular file of at most {MAX_BYTES} bytes")
    text = path.read_text("utf-8-sig")
    num_aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
    if num_aliases > MAX_ALIASES:
        raise ValueError(f"more than {MAX_ALIASES} aliases")
    yaml.compose(text, UniqueKeyLoader)  # raises an error for duplicate keys
    options = get_loader("yaml")(text)
    if not isinstance(options, dict):
        raise ValueError("expected a mapping, as in 'trainer: {max_epochs: 5}'")
    return options


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses duplicate keys, of which PyYAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Composes a mapping."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"line {line}: duplicate key {name!r}")
            seen.add(name)
        return node


@contextmanager
def simplify_errors(names: Iterable[str] = (), prefix: str = "") -> Iterator[None]:
    """Re-raises errors of jsonargparse and YAML as `UserError`, with a shorter message.

    Args:
        names: Names of options to suggest for a misspelt one.
        prefix: Start of the message.
    """
    try:
        yield
    except (ArgumentError, ValueError, TypeError, KeyError, RecursionError, YAMLError) as error:
        raise UserError(prefix + _reason(str(error), names)) from error


@contextmanager
def as_user_error() -> Iterator[None]:
    """Re-raises errors of libraries as `UserError`; others keep their traceback."""
    try:
        yield
    except OSError:  # `main` prints the file's name
        raise
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)  # where it was raised
        if not LIBRARY.search(frame.f_code.co_filename):
            raise
        reason = _reason(str(error)) or type(error).__name__
        if "gloo/transport" in reason:
            reason = "another process of this run has ended"
        raise UserError(reason) from error


def _reason(message: str, names: Iterable[str] = ()) -> str:
    """Returns what is wrong according to a message, and suggests similar names."""
    reasons: list[str] = []
    for line in message.splitlines():
        reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", line).strip().removeprefix("- ")
        reason = re.sub(f"{NOT_A_CLASS}.*", "a class", reason)
        if reason and reason not in reasons and not DETAILS.match(reason):
            reasons.append(reason)
    text = "; ".join(reasons).replace(":;", ":")
    text = re.sub('^Parser key "(.*?)"', r"--\1", text)
    return text + _did_you_mean(message, names)


def _did_you_mean(message: str, names: Iterable[str]) -> str:
    """Suggests options or classes with names similar to an unknown one."""
    unknown = UNKNOWN.search(message)
    if unknown is None:
        return ""
    known = {name.rpartition(".")[2]: f"--{name}" for name in names}
    if unknown[0].startswith(NOT_A_CLASS):
        classes = [cls for module in CLASS_MODULES for cls in sys.modules[module].__all__]
        known = {name.lower(): name for name in classes}
    last = unknown[1].lower().replace("-", "_").rpartition(".")[2]
    matches = [known[match] for match in get_close_matches(last, known)]
    if not matches or matches[0] in message.split():  # the name is right, and something else wrong
        return ""
    return f"; did you mean {' or '.join(matches)}?"
