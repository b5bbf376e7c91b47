"""Where the command line starts. Nothing heavy is imported before the command is known."""

import importlib
import signal
import sys
from typing import Any, NoReturn

from iris_lightning import __version__
from iris_lightning.errors import UserError, closest

__all__ = ["main"]

COMMANDS = {
    "fit": "trains, and writes lightning_logs/version_N/ with checkpoints, curves and config.yaml",
    "validate": "evaluates a checkpoint on the validation split that it was trained with",
    "test": "evaluates a checkpoint on the test split that it was trained with",
    "predict": "predicts the class of every row of a table",
    "export": "writes a trained network as .pth, .safetensors or .onnx",
}
USAGE = f"""usage: python -m iris_lightning COMMAND [options]

{chr(10).join(f"  {command:10}{purpose}" for command, purpose in COMMANDS.items())}

COMMAND --help lists its options; --version prints the version. For example:

  python -m iris_lightning fit
  python -m iris_lightning fit --config configs/accurate.yaml --data.path wine.csv
  python -m iris_lightning predict flowers.csv --output predictions.csv"""


def main(args: list[str] | None = None) -> Any:
    """Runs one command.

    Args:
        args: Command line arguments without the program's name; `None` means those of the process.

    Returns:
        For `fit`, `validate` and `test` the `IrisCLI`, with its `trainer`, `model` and `datamodule`.

    Raises:
        SystemExit: With status 2 after a mistake of the user's, which is told on stderr; 130 or 143 after a signal.
    """
    command, *options = (sys.argv[1:] if args is None else args) or [""]
    try:
        if command in ("-h", "--help"):
            return print(USAGE)
        if command == "--version":
            return print(f"iris_lightning {__version__}")
        if command.startswith("-"):
            raise UserError("the command comes first, as in: fit --config FILE")
        if command not in COMMANDS:
            found = f"unknown command {command!r}" if command else "no command"
            raise UserError(f"{found}; expected one of {', '.join(COMMANDS)}{closest(command, list(COMMANDS))}")
        if command in ("predict", "export"):
            function = getattr(importlib.import_module(f"iris_lightning.cli.{command}"), command)
            return importlib.import_module("iris_lightning.cli.parsing").call(function, options)
        return importlib.import_module("iris_lightning.cli.training").run(command, options)
    except UserError as error:
        prefix = "" if command in ("predict", "export") else "data."
        message = error.message
        if error.parameter:
            message = f"{_option(error.parameter, prefix)}: {message}"
        if error.remedy:
            message += f"; try {_option(error.remedy[0], prefix)} {error.remedy[1]}"
        _fail("\n".join(" ".join(line.split()) for line in message.splitlines()[:2])[:600])
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def _option(parameter: str, prefix: str) -> str:
    """Returns the option behind a parameter of `IrisDataModule`, or of a command."""
    return f"--{parameter}" if parameter in ("ckpt_path", "weights") else f"--{prefix}{parameter}"


def _fail(message: str) -> NoReturn:
    print(f"iris_lightning: error: {message}", file=sys.stderr)
    raise SystemExit(2) from None
