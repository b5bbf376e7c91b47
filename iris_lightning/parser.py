"""How the command line tells mistakes: one line or two instead of the usage and a dump of types."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from iris_lightning.errors import UserError, closest

__all__ = ["IrisArgumentParser", "fail", "reason", "telling"]

# Types as jsonargparse's messages call them, and as a user would.
KINDS = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "list": "a list like [16, 8]",
    "collections.abc.Sequence": "a list like [16, 8]",
    "tuple": "a list like [0.7, 0.2, 0.1]",
}


def fail(message: str) -> NoReturn:
    """Prints a mistake to stderr and exits with status 2."""
    print(f"iris_lightning: error: {message}", file=sys.stderr)
    raise SystemExit(2)


class IrisArgumentParser(LightningArgumentParser):
    """A parser whose errors name the option or file, what was given and what is allowed."""

    _file: ClassVar[str | None] = None  # the YAML file being read
    arguments: ClassVar[list[str]] = []  # the command line, to name options in errors

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the mistake and exits with status 2."""
        fail((f"{self._file}: " if self._file else "") + self._retell(message))

    def parse_path(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Namespace:
        """Parses a YAML file. Any mistake in it names the file, which the base class does not."""
        outer = self._file
        IrisArgumentParser._file = str(path)
        try:
            config: Namespace = super().parse_path(path, *args, **kwargs)
            names = self._names()
            for key, value in config.items():
                if any(name.startswith(f"{key}.") for name in names):
                    self.error(f"{key}: expected options of its own, got {value}")
                if key not in names and not any(key.startswith(f"{name}.") for name in names):
                    self.error(f"unknown key {key!r}{closest(key, names)}")
        except (UnicodeDecodeError, OSError, TypeError, KeyError) as error:
            self.error(str(error))
        finally:
            IrisArgumentParser._file = outer
        return config

    def _names(self) -> list[str]:
        """The options with a value of their own; that of an option with a class has keys of its own."""
        names = [option[2:] for option in self._option_string_actions if not option.endswith(".help")]
        names = [name for name in names if name not in self.__dict__.get("_linked", ())]
        for verb, parser in getattr(self._subcommands_action, "choices", {}).items():
            names += [f"{verb}.{name}" for name in parser._names()]
        return [name for name in names if not any(other.startswith(f"{name}.") for other in names)]

    def link_arguments(self, source: Any, target: str, *args: Any, **kwargs: Any) -> None:
        """Links an option to another one; it can no more be given."""
        super().link_arguments(source, target, *args, **kwargs)
        self.__dict__.setdefault("_linked", set()).add(target)

    def _typed(self, name: str) -> str:
        """The whole name of an option of a class, which jsonargparse's messages leave out."""
        typed = [argument.split("=")[0].removeprefix("--") for argument in self.arguments]
        return next((whole for whole in typed if whole.endswith(f".{name}")), name)

    def _retell(self, message: str) -> str:
        """Words an error of jsonargparse's for a user."""
        if match := re.match(r"unrecognized arguments: (\S+)", message):
            name = match[1].split("=")[0]
            if not name.startswith("-"):
                return f"unexpected argument {name!r}"
            return f"unknown option {name}{closest(name, list(self._option_string_actions))}"
        if match := re.match(r"argument subcommand: invalid choice: '(.*)' \(choose from (.*)\)", message):
            names = match[2].replace("'", "")
            return f"unknown subcommand {match[1]!r}; expected one of {names}{closest(match[1], names.split(', '))}"
        if match := re.match(r'expected "subcommand" to be one of {(.*)}', message):
            return f"no subcommand; expected one of {match[1].replace(',', ', ')} (--help says more)"
        if match := re.match(r'Parser key "([^"]*)":\s*(.*)', message, re.DOTALL):
            return f"--{self._typed(match[1])}: {reason(match[2])}"
        if match := re.match(r"Option '(.*)' is not accepted", message):
            whole = self._typed(match[1])
            name = repr(whole) if whole == match[1] else f"--{whole}"
            return f"{name}: no such option of the class it belongs to"
        if match := re.match(r'Linked "([^"]*)"', message):
            return f"--{match[1]}: follows from the table, and cannot be set"
        if re.match(r"the following arguments are required: \S*output$", message):
            return "--output: expected the file to write"
        if match := re.match(r"the following arguments are required: (.*)", message):
            return f"a class among the options lacks its {match[1]}; give it as --NAME.{match[1]} after --NAME CLASS"
        if match := re.match(r"Unexpected config: (.*)", message, re.DOTALL):
            return f"expected options, as in 'trainer: {{max_epochs: 5}}', got {_one_line(match[1]) or 'nothing'}"
        return _one_line(message)


def reason(text: str) -> str:
    """Shortens what jsonargparse says of a value, or puts any other message on one line."""
    if match := re.search(r"(File does not exist|Path is not a file): '(.*)'", text):
        return f"{'no such file' if 'exist' in match[1] else 'not a file'}: {os.path.relpath(match[2])}"
    if match := re.search(r"Problem with given class_path '(\S*)':\s*(.*)\n", text):
        return f"{match[1].rsplit('.', 1)[-1]}: {match[2]}"
    if match := re.search(r"Expected a dot import path string: (.*)", text):
        return f"there is no class {match[1]!r}"
    given = re.search(r"(?:Got|Given) value: (.*)", text)
    kinds = re.findall(r"Expected (?:an? )?(?:<class ')?(.*?)'?>?(?:\. Got value|\n|$)", text)
    if given and kinds:
        return f"expected {' or '.join(_kind(kind) for kind in kinds)}, got {given[1]}"
    return _one_line(text)


def _kind(name: str) -> str:
    if match := re.match(r"typing.Literal\[(.*)\]", name):
        return match[1]
    return KINDS.get(name, name)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) < 300 else line[:300] + " …"


@contextmanager
def telling(prefix: str = "", unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Tells what torch or Lightning raise as a mistake in the options. What our own code raises is a bug of ours."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = list(traceback.walk_tb(error.__traceback__))
        if str(frames[-1][0].f_globals["__name__"]).startswith("iris_lightning") or unless():
            raise
        raise UserError(prefix + (reason(str(error)) or type(error).__name__)) from error
