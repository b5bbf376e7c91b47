"""Files in and out: a file from elsewhere is data and of bounded size, and a file appears whole or not at all."""

import contextlib
import os
import pickletools
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from iris_lightning.errors import UserError

__all__ = ["check_output", "read_torch", "whole_file"]

# What the pickle of a checkpoint needs to name, storages such as `torch FloatStorage` aside. torch's `weights_only`
# lets more pass, by which a small file could ask for any amount of memory (`bytearray`, `torch.Tensor`).
GLOBALS = {
    "collections OrderedDict",
    "collections Counter",
    "collections defaultdict",
    "builtins dict",
    "builtins set",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}


def read_torch(path: Path, what: str) -> Any:
    """Reads what `torch.save` wrote, as data: nothing in it can run, and it takes no more memory than the file's size.

    Args:
        path: The file.
        what: What it should be, for messages.

    Raises:
        UserError: If the file is anything else.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_tensors(content, set())
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # whatever bytes the file holds, the user's remedy is the same
        raise UserError(f"{path}: not {what}, or a damaged one ({type(error).__name__})") from error
    return content


def _check_archive(path: Path) -> None:
    """Refuses, before torch reads it, an archive that would grow, or whose pickle names more than tensors need."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if sum(entry.file_size for entry in entries) > path.stat().st_size or len(set(names)) < len(names):
            raise UserError(f"{path}: holds compressed data, which torch.save never writes; refused")
        for name in names:
            if not name.endswith("data.pkl"):
                continue
            for opcode, argument, _ in pickletools.genops(archive.read(name)):
                named = argument if opcode.name == "GLOBAL" else opcode.name
                storage = str(argument).startswith("torch ") and str(argument).endswith("Storage")
                if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST") and named not in GLOBALS and not storage:
                    raise UserError(f"{path}: names {str(named).replace(' ', '.')}, which is no data; refused")


def _check_tensors(content: Any, seen: set[int]) -> None:
    """Refuses tensors that would grow when used: sparse ones, and those that repeat few numbers over a large shape."""
    if id(content) in seen:  # a list may hold another twice, and so on: a small file, a long walk
        return
    seen.add(id(content))
    if isinstance(content, Tensor):
        if content.layout != torch.strided or content.is_meta or not content.is_contiguous():
            raise ValueError("not a dense tensor")
    elif isinstance(content, dict):
        for value in content.values():
            _check_tensors(value, seen)
    elif isinstance(content, list | tuple):
        for value in content:
            _check_tensors(value, seen)


def check_output(option: str, path: Path, *inputs: Path) -> None:
    """Refuses a path that no file can or should be written to, before any work is done.

    Args:
        option: What the user typed the path after.
        path: The file to be written. A regular file of that name will be replaced.
        inputs: Files that it must not replace.

    Raises:
        UserError: If the path is no place for the output.
    """
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}")
    if path.is_symlink():
        raise UserError(f"{option} {path}: is a symbolic link; expected a file of its own")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{option} {path}: {'is a folder' if path.is_dir() else 'is not a regular file'}")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise UserError(f"{option} {path}: is the input as well; expected another file")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes its name, and the place of an older one, only once the block has ended well.

    On Linux it has no name until then, so that even a killed process leaves nothing behind.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    # In the same folder, since only within a file system a name is given at once.
    part = path.with_name(f".iris_lightning.{os.getpid()}.part")
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
        nameless = True
    except (AttributeError, OSError):  # another system, or a file system that cannot
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        nameless = False
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            if nameless:
                new = path if not path.exists() else part  # a name can be given at once, but not taken over
                # `src_dir_fd` makes Python ask for the file behind the link; else it would name the link.
                os.link(f"/proc/self/fd/{descriptor}", new, src_dir_fd=descriptor)
        if part.exists():
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
