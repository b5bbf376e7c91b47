"""`python -m iris_lightning`, and the console script `iris-lightning`."""

import gc
import os
import sys

from iris_lightning.cli import main


def run() -> None:
    """Runs the command line given in `sys.argv`; what `main` returns is not an exit status."""
    # No window is opened, and a backend that is not installed would end in a traceback.
    os.environ.pop("MPLBACKEND", None)
    # Until `main` has imported the command: no module is garbage, and looking for it took a
    # quarter of a `fit`.
    gc.disable()
    main()


if __name__ == "__main__":
    sys.argv[0] = "iris_lightning"  # in place of __main__.py, for the help of a class
    run()
