"""Atomic file writes and checks of paths."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from iris_lightning.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and moves that file to `path` when the block ends.

    If the block raises an error, `path` is left as it was, and an `OSError` names it. The temporary
    file is in a folder next to `path`, since renaming is atomic only within a file system. The
    folder is left behind if the process is killed.
    """
    try:
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".part") as folder:
            new = Path(folder, path.name)
            yield new
            if path.exists():
                shutil.copymode(path, new)
            with open(new, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(new, path)
    except OSError as error:
        if error.errno:  # then it also says what went wrong
            error.filename = str(path)
        raise


def relative_path(path: Path) -> str:
    """Returns a path for messages: relative if it is in the current folder, else unchanged."""
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path)


def check_output(path: Path, *inputs: Path) -> None:
    """Raises an error if a path cannot be written or is one of the inputs.

    It is called before any work is done, so that no time is lost.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: no folder {path.parent}")
    if not path.exists():
        return
    if path.is_symlink() or not path.is_file():
        raise UserError(f"{path}: is not a regular file")
    for source in inputs:
        if source.exists() and path.samefile(source):
            raise UserError(f"{path}: is also the input; expected another file")
