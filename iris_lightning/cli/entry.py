"""Where the command line starts. Nothing heavy is imported before the command is known."""

import gc
import importlib
import inspect
import os
import re
import sys
from typing import Any

from iris_lightning import __version__
from iris_lightning.cli.streams import discard_output, prepare_streams
from iris_lightning.errors import UserError, closest
from iris_lightning.runs.signals import SIGNALS, StopHandler, Stopped, set_handlers

COMMANDS = {  # modules of `iris_lightning.cli` and purposes
    "fit": ("training", "trains, and writes lightning_logs/version_N/: checkpoints and curves"),
    "validate": ("training", "evaluates a checkpoint on the validation split of its training"),
    "test": ("training", "evaluates a checkpoint on the test split of its training"),
    "crossvalidate": ("crossvalidation", "cross-validates: metrics with standard errors"),
    "predict": ("commands", "predicts the class of every row of a table"),
    "export": ("commands", "writes a trained network as .pth, .safetensors or .onnx"),
    "plot": ("plot", "writes the plots of a checkpoint or a run as .png and .svg"),
}
USAGE = """usage: python -m iris_lightning COMMAND [options]

{}

COMMAND --help lists its options; --version prints the version. For example:

  python -m iris_lightning fit
  python -m iris_lightning fit --config accurate --data.path wine.csv
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
    handler = StopHandler()
    before = set_handlers(dict.fromkeys(SIGNALS, handler))  # so that nothing half-written is left
    try:
        result = _run(command, options)
        handler.check()
        return result
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
        print(stopped, file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None
    finally:
        set_handlers(before)


def _run(command: str, options: list[str]) -> Any:
    " ".join(options).encode()  # file names in other encodings than UTF-8 are not supported
    if command in ("-h", "--help"):
        lines = [f"  {name:15}{purpose}" for name, (_, purpose) in COMMANDS.items()]
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
    module = importlib.import_module(f"iris_lightning.cli.{COMMANDS[command][0]}")
    if not gc.isenabled():  # turned off by `__main__`
        gc.freeze()
        gc.enable()
    function = getattr(module, command)
    if "args" in inspect.signature(function).parameters:
        return function(options)
    from iris_lightning.cli.parsing import call  # after what takes long

    return call(function, options)


def _message(error: Exception, command: str) -> str:
    """Returns an error in one or two lines, with the options for the parameters that it names."""
    text = str(error) or "out of memory"
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, UserError):
        text, *others = error.message.splitlines()
        if error.parameter:
            text = f"{_option(error.parameter, command)}: {text}"
        if error.remedy:
            name, value = error.remedy
            text += f"; try {_option(name, command)} {value}"
        text = "\n".join([text, *others])
    lines = [" ".join(line.split())[:500] for line in text.splitlines()[:2]]
    return "\n".join(lines)


def _option(parameter: str, command: str) -> str:
    if COMMANDS[command][0] in ("training", "crossvalidation"):
        from iris_lightning.data import IrisDataModule  # the command has imported it
        from iris_lightning.hyperparameters import option_names

        if parameter in option_names(IrisDataModule):
            return f"--data.{parameter}"
    return f"--{parameter}"
