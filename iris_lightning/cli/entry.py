"""Where the command line starts. Nothing heavy is imported before the command is known."""

import gc
import importlib
import io
import logging
import os
import signal
import sys
from typing import Any

from iris_lightning import __version__
from iris_lightning.errors import UserError, closest
from iris_lightning.runs.signals import Stopped, set_handlers, stop

__all__ = ["main"]

COMMANDS = {
    "fit": "trains, and writes lightning_logs/version_N/ with checkpoints, curves and config.yaml",
    "validate": "evaluates a checkpoint on the validation split that it was trained with",
    "test": "evaluates a checkpoint on the test split that it was trained with",
    "crossvalidate": "repeated cross-validation, all folds at once: accuracy, log-loss and F1 with standard errors",
    "predict": "predicts the class of every row of a table",
    "export": "writes a trained network as .pth, .safetensors or .onnx",
    "plot": "writes the pictures of a checkpoint or a run, which TensorBoard shows, as .png and .svg",
}
SYNONYMS = {
    "train": "fit",
    "eval": "test",
    "evaluate": "test",
    "val": "validate",
    "save": "export",
    "cv": "crossvalidate",
    "draw": "plot",
}
FUNCTIONS = {  # commands that do without LightningCLI, and their modules
    "predict": "iris_lightning.cli.commands",
    "export": "iris_lightning.cli.commands",
    "plot": "iris_lightning.cli.plot",
}
PLAIN = {"ckpt_path", "weights", "optimizer", "lr_scheduler"}  # options that belong to no group
PLAIN |= {"name", "figures", "threads", "folds", "repeats", "fold_seed", "max_parallel"}
USAGE = f"""usage: python -m iris_lightning COMMAND [options]

{chr(10).join(f"  {command:15}{purpose}" for command, purpose in COMMANDS.items())}

COMMAND --help lists its options; --version prints the version. For example:

  python -m iris_lightning fit
  python -m iris_lightning fit --config configs/accurate.yaml --data.path wine.csv
  python -m iris_lightning predict flowers.csv --output predictions.csv"""


def main(args: list[str] | None = None) -> Any:
    """Runs the command that the arguments give, by default those of the process.

    Returns the `IrisCLI` of `fit`, `validate` and `test`, with its `trainer`, `model` and `datamodule`, and the
    `CrossValidation` of `crossvalidate`; exits with 2 after a user's mistake, which is told on stderr, and with 130 or
    143 after a signal.
    """
    command, *options = (sys.argv[1:] if args is None else args) or [""]
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()  # either may be closed (`>&-`)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of missing fonts and caches
    try:
        if command in ("-h", "--help"):
            return print(USAGE)
        if command == "--version":
            return print(f"iris_lightning {__version__}")
        if command.startswith("-"):
            raise UserError("the command comes first, as in: fit --config FILE")
        if command not in COMMANDS:
            found = f"unknown command {command!r}" if command else "no command"
            match = SYNONYMS.get(command) or closest(command, COMMANDS)
            hint = f"; did you mean {match}?" if match else ""
            raise UserError(f"{found}; expected one of {', '.join(COMMANDS)}{hint}")
        if sys.stdout.isatty():
            print("starting …", end="\r", flush=True)  # for the seconds that the imports take; the next line covers it
        if command in FUNCTIONS:
            before = set_handlers({signal.SIGTERM: stop})  # so that nothing half-written is left
            try:
                function = getattr(_imported(FUNCTIONS[command]), command)
                return importlib.import_module("iris_lightning.cli.parsing").call(function, options)
            finally:
                set_handlers(before)
        return _imported("iris_lightning.cli.training").run(command, options)
    except BrokenPipeError:  # who reads standard output, as `head` does, has read enough
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
    except (UserError, OSError) as error:
        print(f"iris_lightning: error: {_message(error, command)}", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, Stopped) as stopped:
        number = signal.SIGINT if isinstance(stopped, KeyboardInterrupt) else stopped.args[0]
        begun = "; no run was begun" if command in ("fit", "crossvalidate") else ""
        print(f"stopped by {signal.Signals(number).name}{begun}", file=sys.stderr)
        raise SystemExit(128 + number) from None


def _imported(name: str) -> Any:
    """Imports a module, and from then on looks for garbage, but among what the imports leave."""
    module = importlib.import_module(name)
    if not gc.isenabled():  # by `__main__`
        gc.freeze()
        gc.enable()
    return module


def _message(error: UserError | OSError, command: str) -> str:
    """Returns a mistake in one or two lines, with the options behind the parameters that it names."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)

    def option(parameter: str) -> str:
        plain = command in FUNCTIONS or parameter in PLAIN
        return f"--{parameter}" if plain else f"--data.{parameter}"

    first, *second = error.message.splitlines()[:2]
    text = f"{option(error.parameter)}: {first}" if error.parameter else first
    text += f"; try {option(error.remedy[0])} {error.remedy[1]}" if error.remedy else ""
    return "\n".join(" ".join(line.split())[:500] for line in (text, *second))
