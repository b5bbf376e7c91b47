"""Run folders: `lightning_logs/version_N` and `lightning_logs/NAME/version_N`.

Every run gets the next free number, whatever its name.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from iris_lightning.errors import UserError
from iris_lightning.files import relative_path

RUNS = "lightning_logs"
RESULTS = "results.yaml"  # written when `fit` has finished
SUMMARY = "summary.json"  # written when `crossvalidate` has finished
NETWORKS = "networks.safetensors"  # of all folds, with `crossvalidate --keep true`
VERSION_PATTERN = r"version_(\d+)"
# Not allowed as names: our own folders, and devices of Windows.
RESERVED_PATTERN = rf"({VERSION_PATTERN}|{RUNS}|con|prn|aux|nul|com\d|lpt\d)(\.|$)"
NAME_PATTERN = rf"(?!{RESERVED_PATTERN})\w([\w.=+-]{{0,98}}[\w=+-])?"


def _check_name(name: str) -> None:
    """Raises an error unless a run's name is a valid folder name on every operating system."""
    if not re.fullmatch(NAME_PATTERN, name, re.IGNORECASE) or len(name.encode()) > 100:
        expected = "expected at most 100 bytes: letters, digits and _ . = + -, not version_N or con"
        raise UserError(f"{expected}; got {name[:110]!r}", "name")


def _numbered_runs(root: Path) -> list[tuple[int, Path]]:
    """Returns the number and the folder of each run, sorted by number."""
    runs = []
    for pattern in ("version_*", "*/version_*"):
        for path in (root / RUNS).glob(pattern):
            match = re.fullmatch(VERSION_PATTERN, path.name)
            if match:
                runs.append((int(match[1]), path))
    return sorted(runs)


def logs_folder(run: Path) -> Path:
    """Returns the folder that holds all runs: `lightning_logs/`, unless the run was moved."""
    if run.parent.parent.name == RUNS and run.parent.name != RUNS:
        return run.parent.parent
    return run.parent


def claim_run(root: Path, name: str | None = None) -> Path:
    """Creates the folder of a new run, with a number that no other run has.

    Args:
        root: Folder that contains `lightning_logs/`.
        name: Name of the run.
    """
    if name is not None:
        _check_name(name)
    logs = root / RUNS
    while True:
        logs.mkdir(parents=True, exist_ok=True)
        # Another run may take the number first, or remove a folder that it leaves empty.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            run = _claim_next_number(root, logs)
            if name is None:
                return run
            return _move_into(logs / name, run)


def _claim_next_number(root: Path, logs: Path) -> Path:
    numbers = [number for number, _ in _numbered_runs(root)]
    number = max(numbers, default=-1) + 1
    run = logs / f"version_{number}"
    run.mkdir()
    numbers = [number for number, _ in _numbered_runs(root)]
    if numbers.count(number) > 1:  # another run took it, and has moved to a named folder since
        run.rmdir()
        raise FileExistsError(run)
    return run


def _move_into(folder: Path, run: Path) -> Path:
    try:
        folder.mkdir(exist_ok=True)
        return run.rename(folder / run.name)
    except OSError as error:
        remove_run(run)
        if isinstance(error, FileNotFoundError):
            raise
        found = f"{relative_path(folder)}: {error.strerror}"
        raise UserError(f"{found}; expected a folder for runs", "name") from error


def remove_run(run: Path) -> None:
    """Removes the folder of a run, and the folders above it if they are empty then."""
    shutil.rmtree(run, ignore_errors=True)
    with contextlib.suppress(OSError):  # not empty
        run.parent.rmdir()
        logs_folder(run).rmdir()


def newest_run(root: Path) -> Path | None:
    """Returns the folder of the newest run of `fit`, or `None`."""
    for _, path in reversed(_numbered_runs(root)):
        if (path / "config.yaml").is_file() and not (path / SUMMARY).exists():
            return path
    return None


@contextlib.contextmanager
def training_alone(run: Path) -> Iterator[None]:
    """Locks the folder of a run, so that no other process trains it at the same time."""
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{relative_path(run)}: another process is training this run") from None
    try:
        yield
    finally:
        lock.release()
