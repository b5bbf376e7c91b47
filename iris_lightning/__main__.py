"""`python -m iris_lightning`, and the console script `iris-lightning`."""

__all__ = ["run"]


def run() -> None:
    """Runs the command line given in `sys.argv`."""
    try:
        from iris_lightning.cli import main  # here: the imports take seconds, in which Ctrl+C may come
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    main()


if __name__ == "__main__":
    run()
