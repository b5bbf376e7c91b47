"""Errors the user can fix, and helpers for their wording."""

import difflib
from collections.abc import Iterable, Sequence

LISTED = 8  # names in a message


class UserError(ValueError):
    """A user's mistake: the command line prints it without a traceback, and exits with status 2.

    Args:
        message: One or two lines: where it is, what was found and what was expected.
        parameter: The parameter that holds the mistake, where it is not in a file.
        remedy: A parameter that would help, and its value as in YAML.
    """

    def __init__(
        self, message: str, parameter: str | None = None, remedy: tuple[str, str] | None = None
    ) -> None:
        super().__init__(message, parameter, remedy)
        self.message = message
        self.parameter = parameter
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.message
        if self.parameter:
            text = f"{self.parameter}: {text}"
        if self.remedy:
            name, value = self.remedy
            text += f"; try {name}: {value}"
        return text


def closest(name: str, names: Iterable[str]) -> str | None:
    """Returns the most similar of some names, ignoring case, or `None` if none is similar."""
    known = {other.lower(): other for other in names}
    matches = difflib.get_close_matches(name.lower(), known, n=1)
    if not matches:
        return None
    return known[matches[0]]


def join_names(names: Sequence[str]) -> str:
    """Returns the first names of a list, and how many more there are, for a message."""
    text = ", ".join(names[:LISTED])
    if len(names) > LISTED:
        text += f" and {len(names) - LISTED} more"
    return text
