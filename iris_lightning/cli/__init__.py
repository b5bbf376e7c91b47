"""The command line: a parser per command, what is printed, how errors are reported."""

from iris_lightning.cli.entry import main

__all__ = ["main"]
