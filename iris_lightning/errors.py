"""The one exception for what a user can mend, and help with its wording."""

import difflib
from collections.abc import Sequence

__all__ = ["UserError", "closest"]


class UserError(ValueError):
    """A user's mistake, told in one or two lines that name the option or file, what was found and what was expected.

    The command line prints its message, without a traceback, and exits with status 2.
    """


def closest(name: str, names: Sequence[str]) -> str:
    """Returns `; did you mean ...?` with the most similar of some names, or nothing where none is similar."""
    match = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {match[0]}?" if match else ""
