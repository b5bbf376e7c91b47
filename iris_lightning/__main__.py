"""`python -m iris_lightning`, and the console script `iris-lightning`."""

from iris_lightning.cli import main


def run() -> None:
    """Runs the command line given in `sys.argv`; what `main` returns is not an exit status."""
    main()


if __name__ == "__main__":
    run()
