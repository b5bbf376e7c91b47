"""Standard input, output and error."""

import io
import os
import sys


def prepare_streams() -> None:
    """Opens the null device for closed streams, and escapes characters that cannot be encoded."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "r+")  # noqa: SIM115  # it stays open
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def discard_output() -> None:
    """Discards everything that is written to standard output from now on."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
