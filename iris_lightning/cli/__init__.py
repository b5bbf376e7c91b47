"""The command line: parsing options, printing results and reporting errors."""

from iris_lightning.cli.entry import main

__all__ = ["main"]
