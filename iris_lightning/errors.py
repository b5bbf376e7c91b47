"""Errors the user can fix, and helpers for their wording."""

import difflib
from collections.abc import Callable, Iterable, Sequence

MAX_NAME_LENGTH = 60
MAX_LISTED_NAMES = 8


class UserError(ValueError):
    """An error the user can fix.

    The command line prints it without a traceback, and exits with status 2.

    Args:
        message: One or two lines: where the error is, what was found, and what was expected.
        parameter: The parameter with the wrong value, if there is one.
        remedy: The name of a parameter that would help, and its value in YAML.
    """

    def __init__(
        self, message: str, parameter: str | None = None, remedy: tuple[str, str] | None = None
    ) -> None:
        super().__init__(message, parameter, remedy)
        self.message = message
        self.parameter = parameter
        self.remedy = remedy

    def __str__(self) -> str:
        return self.describe(str, ": ")

    def describe(self, name_of: Callable[[str], str], separator: str) -> str:
        """Returns the whole message.

        Args:
            name_of: Returns how the user writes the name of a parameter.
            separator: What the user writes between a name and a value.
        """
        text = self.message
        if self.parameter:
            text = f"{name_of(self.parameter)}: {text}"
        if self.remedy:
            name, value = self.remedy
            text += f"; try {name_of(name)}{separator}{value}"
        return text


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns the end of a message that suggests the most similar name, if there is one."""
    known = {other.lower(): other for other in names}
    for match in difflib.get_close_matches(name.lower(), known, n=1):
        return f"; did you mean {known[match]!r}?"
    return ""


def shorten(name: str, length: int = MAX_NAME_LENGTH) -> str:
    """Returns the start of a name, without line breaks."""
    return " ".join(name.split())[:length]


def join_names(names: Sequence[str]) -> str:
    """Formats a list of names for a message; of a long list, only the first names."""
    text = ", ".join(map(shorten, names[:MAX_LISTED_NAMES]))
    if len(names) > MAX_LISTED_NAMES:
        text += f" and {len(names) - MAX_LISTED_NAMES} more"
    return text
