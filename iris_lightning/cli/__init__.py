"""The command line: commands, options, what is printed, how mistakes are told. The work itself is done elsewhere."""

from iris_lightning.cli.entry import main

__all__ = ["main"]
