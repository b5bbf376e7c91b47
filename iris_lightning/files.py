"""Atomic file writes and checks of paths."""

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from iris_lightning.errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and moves that file to `path` when the block ends.

    If the block raises an error, `path` is left as it was. The temporary file is in a folder next
    to `path`, since renaming is atomic only within a file system. If the process is killed, the
    next one that writes `path` removes that folder.
    """
    _remove_leftovers(path)
    with TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part", ignore_cleanup_errors=True
    ) as folder:
        new = Path(folder, path.name)
        with FileLock(Path(folder, LOCK)):
            yield new
            if path.exists():
                shutil.copymode(path, new)
            with open(new, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(new, path)


def _remove_leftovers(path: Path) -> None:
    """Removes the temporary folders of killed processes: those whose lock nobody holds."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.????????.part"):
        lock = folder / LOCK
        if not lock.exists():  # its process is about to create the lock, or has just removed it
            continue
        with contextlib.suppress(Timeout, OSError):
            with FileLock(lock, timeout=0):
                pass
            shutil.rmtree(folder, ignore_errors=True)


def relative_path(path: Path) -> str:
    """Returns a path for messages: relative if it is in the current folder, else unchanged."""
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path)


def same_file(one: str | None, other: str | None) -> bool:
    """Returns whether two paths lead to the same file, or both are `None`."""
    if one is None or other is None:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)


def check_output(path: Path, *inputs: Path) -> None:
    """Raises an error if a path cannot be written or is one of the inputs.

    It is called before any work is done, so that no time is lost.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder")
    if not path.exists():
        return
    if path.is_symlink() or not path.is_file():
        raise UserError(f"{path}: is not a regular file")
    for source in inputs:
        if source.exists() and path.samefile(source):
            raise UserError(f"{path}: is also the input; expected another file")
