"""Atomic file writes, standard streams in place of files, and checks of files and paths."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from iris_lightning.errors import UserError

CHUNK_CHARACTERS = 2**20  # read from a text file at once


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and moves that file to `path` when the block ends.

    If the block raises an error, `path` is left as it was. An error of the operating system then
    names `path` instead of the temporary file.

    The temporary file is in a folder next to `path`, since renaming is atomic only within a file
    system. The folder is left behind if the process is killed.
    """
    try:
        with TemporaryDirectory(
            dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".part"
        ) as folder:
            new = Path(folder, path.name)
            yield new
            if path.exists():
                shutil.copymode(path, new)
            with open(new, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(new, path)
    except OSError as error:
        if error.errno:  # set by the operating system
            error.filename = str(path)
        raise


@contextmanager
def open_input(path: str) -> Iterator[tuple[str, str]]:
    """Yields the file to read, and its name for messages; `-` is CSV from standard input.

    Standard input is copied to a temporary file, because polars needs to seek.
    """
    if path != "-":
        yield path, path
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder, "table.csv")
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield str(copy), "standard input"


@contextmanager
def open_output(path: str) -> Iterator[Any]:
    """Yields where to write: a path, or for `-` an open file, which is copied to standard output.

    The output appears once the block has ended without an error.
    """
    if path != "-":
        with atomic_write(Path(path)) as new:
            yield new
        return
    with TemporaryFile() as copy:
        yield copy
        copy.seek(0)
        sys.stdout.flush()
        with suppress(BrokenPipeError):  # the reader has closed the pipe, as `head` does
            shutil.copyfileobj(copy, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def is_text(path: str) -> bool:
    """Returns whether a file is UTF-8 text without NUL characters; false for a compressed file."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for text in iter(partial(file.read, CHUNK_CHARACTERS), ""):
                if "\0" in text:
                    return False
    except UnicodeError:
        return False
    return True


def relative_path(path: Path) -> str:
    """Returns a path for messages: relative if it is in the current folder, else unchanged."""
    with suppress(ValueError):  # if it is elsewhere
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
