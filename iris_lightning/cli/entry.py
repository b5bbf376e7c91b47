"""Entry point of the command line. Heavy packages are imported once the command is known."""

import gc
import importlib
import inspect
import os
import re
import sys
from functools import partial
from typing import Any

from iris_lightning import __version__
from iris_lightning.cli.streams import discard_output, prepare_streams
from iris_lightning.errors import UserError, did_you_mean, shorten
from iris_lightning.runs.signals import SIGNALS, StopHandler, Stopped, set_handlers

COMMANDS = {  # the module of `iris_lightning.cli`, and what the command does
    "fit": ("training", "train a classifier; writes checkpoints and curves"),
    "validate": ("training", "evaluate a checkpoint on its validation split"),
    "test": ("training", "evaluate a checkpoint on its test split"),
    "crossvalidate": ("crossvalidation", "cross-validate; prints metrics with standard errors"),
    "predict": ("commands", "predict the class of every row of a table"),
    "export": ("commands", "write a trained network as .pth, .safetensors or .onnx"),
    "plot": ("plot", "write the plots of a checkpoint or run as .png and .svg"),
}
USAGE = """usage: python -m iris_lightning COMMAND [options]

{}

COMMAND --help lists the options of a command, and --version prints the version. Examples:

  python -m iris_lightning fit
  python -m iris_lightning fit --config accurate --data.path wine.csv
  python -m iris_lightning predict flowers.csv --output predictions.csv"""


def main(args: list[str] | None = None) -> Any:
    """Runs a command.

    After an error the user can fix, it prints a message to stderr and exits with status 2. After
    SIGINT or SIGTERM, it exits with status 130 or 143; all but the main process exit with 0.

    Args:
        args: The command and its options; by default `sys.argv[1:]`.

    Returns:
        An `IrisCLI` with `trainer`, `model` and `datamodule` for `fit`, `validate` and `test`; a
        `CrossValidation` for `crossvalidate`; `None` for all other commands.
    """
    if args is None:
        args = sys.argv[1:]
    command, *options = args or ["--help"]
    prepare_streams()
    handler = StopHandler()
    before = set_handlers(dict.fromkeys(SIGNALS, handler))
    try:
        result = _run(command, options)
        handler.check()  # Python may have discarded the exception that the handler raised
        return result
    except BrokenPipeError:  # the reader has stopped reading, like `head`
        discard_output()
    except (UserError, OSError, UnicodeError, MemoryError, RuntimeError, ImportError) as error:
        # If memory runs out, torch raises RuntimeError, or ImportError during its import.
        out_of_memory = re.search("out of memory|allocate memory|failed to map", str(error))
        if isinstance(error, RuntimeError | ImportError) and not out_of_memory:
            raise
        if sys.flags.dev_mode:
            raise
        print(f"iris_lightning: error: {_message(error, command)}", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as stopped:
        if os.environ.get("LOCAL_RANK", "0") != "0":  # the main process prints the message
            raise SystemExit(0) from None
        print(stopped, file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None
    finally:
        set_handlers(before)


def _run(command: str, options: list[str]) -> Any:
    if command in ("-h", "--help"):
        lines = [f"  {name:15}{purpose}" for name, (_, purpose) in COMMANDS.items()]
        return print(USAGE.format("\n".join(lines)))
    if command == "--version":
        return print(f"iris_lightning {__version__}")
    if command not in COMMANDS:
        message = f"unknown command {command!r}; expected one of {', '.join(COMMANDS)}"
        raise UserError(message + did_you_mean(command, COMMANDS))
    module = importlib.import_module(f"iris_lightning.cli.{COMMANDS[command][0]}")
    if not gc.isenabled():  # disabled by `__main__`
        gc.freeze()
        gc.enable()
    function = getattr(module, command)
    if "args" in inspect.signature(function).parameters:  # it parses them itself
        return function(options)
    from iris_lightning.cli.parsing import call  # imports jsonargparse

    return call(function, options)


def _message(error: Exception, command: str) -> str:
    """Formats an error and its notes as one or two lines, with options named as they are typed."""
    text = str(error) or "out of memory"
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, UserError):
        text = error.describe(partial(_option, command), " ")
    lines = (text, *getattr(error, "__notes__", ()))
    return "\n".join(shorten(line, 500) for line in lines)


def _option(command: str, parameter: str) -> str:
    if COMMANDS[command][0] in ("training", "crossvalidation"):
        from iris_lightning.data import IrisDataModule  # already imported by the command
        from iris_lightning.hyperparameters import option_names

        if parameter in option_names(IrisDataModule):
            return f"--data.{parameter}"
    return f"--{parameter}"
