"""The standard streams of a command."""

import io
import os
import sys


def prepare_streams() -> None:
    """Replaces closed streams, as by `>&-`, and has characters escaped that cannot be encoded."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "r+")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def discard_output() -> None:
    """Discards what is written to standard output from now on."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
