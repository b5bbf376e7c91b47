"""Files that appear whole or not at all."""

import contextlib
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from iris_lightning.errors import UserError

__all__ = ["atomic_write", "check_output", "remove_leftovers"]


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a path to write to, whose file takes the place of `path` once the block has ended well.

    The file keeps its name, in a temporary folder beside its place: within a file system, a rename is atomic. What a
    killed process leaves behind is removed by the next one that writes there. An error leaves an older file as it was.
    """
    remove_leftovers(path.parent, path.name)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as folder:
        new = Path(folder, path.name)
        yield new
        if path.exists():
            shutil.copymode(path, new)
        with open(new, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(new, path)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left of the file with this name, or of all files."""
    for part in folder.glob(f".{'*' if name is None else glob.escape(name)}.????????.part"):
        shutil.rmtree(part, ignore_errors=True)


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
