"""Entry point of `python -m iris_lightning` and of the script `iris-lightning`."""

import gc
import os
import sys

from iris_lightning.cli import main


def run() -> None:
    """Runs the command in `sys.argv`.

    It returns nothing, because the script would use the returned value as its exit status.
    """
    # Writing files needs no interactive backend, and one that is not installed raises an error.
    os.environ.pop("MPLBACKEND", None)
    # Garbage collection during imports would take a quarter of the time of a `fit`. `main` enables
    # it again.
    gc.disable()
    main()


if __name__ == "__main__":
    sys.argv[0] = "iris_lightning"  # shown in the help instead of __main__.py
    run()
