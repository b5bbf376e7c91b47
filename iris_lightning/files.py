"""Files that appear whole or not at all."""

import contextlib
import glob
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from iris_lightning.errors import UserError

__all__ = ["atomic_write", "check_output", "remove_leftovers", "same_file", "shown"]

LOCK = ".lock"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a path to write to, whose file takes the place of `path` once the block has ended well.

    The file keeps its name, in a temporary folder beside its place: within a file system, a rename is atomic. What a
    killed process leaves behind is removed by the next one that writes there. An error leaves an older file as it was.
    """
    remove_leftovers(path.parent, path.name)
    name: dict[str, Any] = {"prefix": f".{path.name}.", "suffix": ".part", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(dir=path.parent, **name) as folder, FileLock(Path(folder, LOCK)):
        new = Path(folder, path.name)
        yield new
        if path.exists():
            shutil.copymode(path, new)
        with open(new, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(new, path)


def remove_leftovers(folder: Path, name: str | None = None, alone: bool = False) -> None:
    """Removes what killed processes left of the file with this name, or of all files; `alone`, none can be at work."""
    for part in folder.glob(f".{'*' if name is None else glob.escape(name)}.????????.part"):
        with contextlib.suppress(Timeout, OSError):  # a living process holds the lock, or has ended there
            if alone or (part / LOCK).exists() or time.time() - part.stat().st_mtime > 60:  # else it may be just made
                with FileLock(part / LOCK, timeout=0):
                    pass
                shutil.rmtree(part, ignore_errors=True)


def shown(path: Path) -> str:
    """Returns a path as messages show it: as seen from the current folder, if it lies in there."""
    here = Path.cwd()
    inside = path.is_absolute() and path != here and path.is_relative_to(here)
    return str(path.relative_to(here) if inside else path)


def same_file(one: str | None, other: str | None) -> bool:
    """Whether two paths mean the same file, however they are written, or both none."""
    return one == other or (one is not None and other is not None and os.path.realpath(one) == os.path.realpath(other))


def check_output(path: Path, *inputs: Path) -> None:
    """Refuses, before any work is done, a path where no file can be written, or where one of the inputs is."""
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    if path.is_symlink():
        raise UserError(f"{path}: is a symbolic link; expected a file of its own")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'is not a regular file'}")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise UserError(f"{path}: is the input as well; expected another file")
