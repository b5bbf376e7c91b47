"""The one exception for what a user can put right, and helpers for its wording."""

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["UserError", "closest", "few"]


class UserError(ValueError):
    """A user's mistake, which the command line prints without a traceback before it exits with status 2.

    Args:
        message: One or two lines: where it is, what was found and what was expected.
        parameter: The parameter that holds the mistake, where it is not in a file.
        remedy: A parameter that would help, and its value as in YAML.
    """

    def __init__(self, message: str, parameter: str | None = None, remedy: tuple[str, str] | None = None) -> None:
        super().__init__(message, parameter, remedy)
        self.message = message
        self.parameter = parameter
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.parameter}: {self.message}" if self.parameter else self.message
        return f"{text}; try {self.remedy[0]}: {self.remedy[1]}" if self.remedy else text


def closest(name: str, names: Iterable[str]) -> str | None:
    """Returns the most similar of some names, upper and lower case alike, or `None` where none is similar."""
    known = {other.lower(): other for other in names}
    match = difflib.get_close_matches(name.lower(), known, n=1)
    return known[match[0]] if match else None


def few(names: Sequence[str]) -> str:
    """Returns the first names of a list, and how many there are beside, for a message."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
