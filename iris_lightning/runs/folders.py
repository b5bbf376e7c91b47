"""Run folders: `lightning_logs/version_N` and `lightning_logs/NAME/version_N`.

Every run gets the next number, whatever its name.
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
SUMMARY = "summary.json"  # written when `crossvalidate` has finished
NETWORKS = "networks.safetensors"  # of all folds, with `crossvalidate --keep true`
# A name must not look like a run, nor like the folder of all runs.
NAME_PATTERN = rf"(?i)(?!version_|{RUNS})\w[\w.=+-]*"


def _numbered_runs(root: Path) -> list[tuple[int, Path]]:
    """Returns the number and the folder of each run, sorted by number."""
    runs = []
    for pattern in ("version_*", "*/version_*"):
        for path in (root / RUNS).glob(pattern):
            match = re.fullmatch(r"version_(\d+)", path.name)
            if match:
                runs.append((int(match[1]), path))
    return sorted(runs)


def logs_folder(run: Path) -> Path:
    """Returns the folder that holds all runs: `lightning_logs/`, unless the run was moved."""
    return next((folder for folder in run.parents if folder.name == RUNS), run.parent)


def claim_run(root: Path, name: str | None = None) -> Path:
    """Creates the folder of a new run, with a higher number than all other runs.

    Args:
        root: Folder that contains `lightning_logs/`.
        name: Name of the run.
    """
    folder = root / RUNS
    if name is not None:
        if not re.fullmatch(NAME_PATTERN, name):
            expected = (
                f"a letter, digit or _, then any of these or . = + -; not version_… or {RUNS}…"
            )
            raise UserError(f"expected {expected}; got {name!r}", "name")
        folder = folder / name
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [number for number, _ in _numbered_runs(root)]
        run = folder / f"version_{max(numbers, default=-1) + 1}"
        # Another process may create this folder first, or remove the empty folder above.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            run.mkdir()
            return run


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
    try:
        lock = FileLock(run / ".lock").acquire(timeout=0)
    except Timeout:
        raise UserError(f"{relative_path(run)}: another process is training this run") from None
    with lock:
        yield
