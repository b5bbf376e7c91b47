"""The one exception for what a user can mend."""

__all__ = ["UserError"]


class UserError(ValueError):
    """A user's mistake, told in one or two lines that name the option or file, what was found and what was expected.

    The command line prints its message, without a traceback, and exits with status 2.
    """
