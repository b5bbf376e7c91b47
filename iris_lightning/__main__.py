"""Entry point of `python -m iris_lightning` and of the script `iris-lightning`."""

import gc
import os

from iris_lightning.cli import main


def run() -> None:
    """Runs the command in `sys.argv`.

    It returns nothing, because the script would use the returned value as its exit status.
    """
    # Plots are written to files only. A backend that is not installed would raise an error.
    os.environ.pop("MPLBACKEND", None)
    # Garbage collection during imports would take a quarter of the time of a `fit`. `main` enables
    # it again.
    gc.disable()
    main()


if __name__ == "__main__":
    run()
