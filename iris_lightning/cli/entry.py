"""Where the command line starts. Nothing heavy is imported before the command is known."""

import gc
import importlib
import inspect
import os
import re
import signal
import sys
from typing import Any

from iris_lightning import __version__
from iris_lightning.cli.streams import discard_output, prepare_streams
from iris_lightning.errors import UserError, closest
from iris_lightning.runs.signals import SIGNALS, Stopped, set_handlers, stop

__all__ = ["main"]

COMMANDS = {
    "fit": "trains, and writes lightning_logs/version_N/ with checkpoints, curves and config.yaml",
    "validate": "evaluates a checkpoint on the validation split that it was trained with",
    "test": "evaluates a checkpoint on the test split that it was trained with",
    "crossvalidate": "cross-validates: accuracy, log-loss and F1 with standard errors",
    "predict": "predicts the class of every row of a table",
    "export": "writes a trained network as .pth, .safetensors or .onnx",
    "plot": "writes the pictures of a checkpoint or a run as .png and .svg",
}
FUNCTIONS = {  # commands that do without LightningCLI, and their modules
    "predict": "iris_lightning.cli.commands",
    "export": "iris_lightning.cli.commands",
    "plot": "iris_lightning.cli.plot",
}
USAGE = """usage: python -m iris_lightning COMMAND [options]

{}

COMMAND --help lists its options; --version prints the version. For example:

  python -m iris_lightning fit
  python -m iris_lightning fit --config configs/accurate.yaml --data.path wine.csv
  python -m iris_lightning predict flowers.csv --output predictions.csv"""


def main(args: list[str] | None = None) -> Any:
    """Runs the command that the arguments give, by default those of the process.

    Returns the `IrisCLI` of `fit`, `validate` and `test`, with its `trainer`, `model` and
    `datamodule`, and the `CrossValidation` of `crossvalidate`. Exits with 2 after a user's mistake,
    which is told on stderr, and with 130 or 143 after a signal.
    """
    if args is None:
        args = sys.argv[1:]
    command, *options = args or ["--help"]
    prepare_streams()
    before = set_handlers(dict.fromkeys(SIGNALS, stop))  # so that nothing half-written is left
    try:
        return _run(command, options)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        discard_output()
    except (UserError, OSError, UnicodeError, MemoryError, RuntimeError, ImportError) as error:
        # Neither torch nor the loader of its libraries raises MemoryError.
        out_of_memory = re.search("out of memory|allocate memory|failed to map", str(error))
        if isinstance(error, RuntimeError | ImportError) and not out_of_memory:
            raise
        print(f"iris_lightning: error: {_message(error, command)}", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as stopped:
        if int(os.environ.get("LOCAL_RANK", 0)) > 0:  # the process that launched this one says it
            raise SystemExit(0) from None
        name = signal.Signals(stopped.number).name
        print("; ".join(filter(None, [f"stopped by {name}", stopped.remedy])), file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None
    finally:
        set_handlers(before)


def _run(command: str, options: list[str]) -> Any:
    " ".join(options).encode()  # file names in other encodings than UTF-8 are not supported
    if command in ("-h", "--help"):
        lines = [f"  {name:15}{purpose}" for name, purpose in COMMANDS.items()]
        return print(USAGE.format("\n".join(lines)))
    if command == "--version":
        return print(f"iris_lightning {__version__}")
    if command not in COMMANDS:
        message = f"unknown command {command!r}; expected one of {', '.join(COMMANDS)}"
        match = closest(command, COMMANDS)
        if match:
            message += f"; did you mean {match}?"
        raise UserError(message)
    if sys.stdout.isatty():
        # For the seconds that the imports take; the next line covers it.
        print("starting …", end="\r", flush=True)
    if command not in FUNCTIONS:
        return _import("iris_lightning.cli.training").run(command, options)
    function = getattr(_import(FUNCTIONS[command]), command)
    return _import("iris_lightning.cli.parsing").call(function, options)


def _import(name: str) -> Any:
    """Imports a module, and turns the garbage collector on, which `__main__` has turned off."""
    module = importlib.import_module(name)
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    return module


def _message(error: Exception, command: str) -> str:
    """Returns an error in one or two lines, with the options for the parameters that it names."""
    text = str(error) or "out of memory"
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, UserError):
        text, *second = error.message.splitlines()
        if error.parameter:
            text = f"{_option(error.parameter, command)}: {text}"
        if error.remedy:
            name, value = error.remedy
            text += f"; try {_option(name, command)} {value}"
        text = "\n".join([text, *second])
    lines = [" ".join(line.split())[:500] for line in text.splitlines()[:2]]
    return "\n".join(lines)


def _option(parameter: str, command: str) -> str:
    if command not in FUNCTIONS:
        from iris_lightning.data import IrisDataModule  # the command has imported it

        if parameter in inspect.signature(IrisDataModule).parameters:
            return f"--data.{parameter}"
    return f"--{parameter}"
