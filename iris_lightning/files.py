"""Atomic file writes, and checks of paths."""

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
    """Yields a path to write to, and replaces `path` with that file when the block ends.

    An error leaves `path` as it was. The new file has the same name, in a temporary folder next to
    `path`, since a rename is atomic only within a file system. What a killed process left there is
    removed by the next one that writes this file.
    """
    remove_leftovers(path.parent, path.name)
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


def remove_leftovers(folder: Path, name: str | None = None, alone: bool = False) -> None:
    """Removes what killed processes left of one file, or of all files in a folder.

    Args:
        folder: Folder of the file.
        name: Name of the file, by default any.
        alone: Whether no other process can be writing there.
    """
    files = "*" if name is None else glob.escape(name)
    for part in folder.glob(f".{files}.????????.part"):
        lock = part / LOCK
        # A living process holds the lock, or is about to make it, or has removed it just now.
        with contextlib.suppress(Timeout, OSError):
            if alone or lock.exists():
                with FileLock(lock, timeout=0):
                    pass
                shutil.rmtree(part, ignore_errors=True)


def relative_path(path: Path) -> str:
    """Returns a path for a message: relative to the current folder if it is inside."""
    with contextlib.suppress(ValueError):  # it is elsewhere
        return str(path.relative_to(Path.cwd()))
    return str(path)


def same_file(one: str | None, other: str | None) -> bool:
    """Whether two paths mean the same file, or both are `None`."""
    if one is None or other is None:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)


def check_output(path: Path, *inputs: Path) -> None:
    """Refuses a path that cannot be written, or is one of the inputs, before any work is done."""
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder")
    if not path.exists():
        return
    if path.is_symlink() or not path.is_file():
        raise UserError(f"{path}: is not a regular file")
    for source in inputs:
        if source.exists() and path.samefile(source):
            raise UserError(f"{path}: is the input as well; expected another file")
