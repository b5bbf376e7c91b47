"""Atomic file writes, and checks of paths."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Limits the size of all files this process writes, in bytes."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write(name: str, text: str) -> None:
    with atomic_write(Path(name)) as new:
        new.write_text(text)


@pytest.mark.parametrize("name", ["out.csv", "a[1].csv", "*.csv", "a b ä.csv"])
def test_file_appears_when_complete(name: str) -> None:
    path = Path(name)
    with atomic_write(path) as new:
        new.write_text("first")
        assert not path.exists()
    with atomic_write(path) as new:
        new.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert os.listdir() == [name]


@pytest.mark.parametrize("broken", [(Path, "write_text"), (os, "fsync"), (os, "replace")])
def test_an_error_leaves_the_old_file(
    broken: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError("broken")

    write("out.csv", "of yesterday")
    monkeypatch.setattr(*broken, fail)
    for name in ("out.csv", "new.csv"):
        with pytest.raises(OSError, match="broken"):
            write(name, "half")
    assert os.listdir() == ["out.csv"]
    assert Path("out.csv").read_text() == "of yesterday"


def kill_while_writing(name: str) -> None:
    """Kills a process while it is writing a file."""
    code = (
        "import pathlib, sys, time; from iris_lightning.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as new:\n"
        "    new.write_text('half'); print(flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == b""
        process.kill()
    assert process.returncode, "it should have been writing still"


@pytest.mark.parametrize("name", ["out.csv", "*.csv"])
def test_leftovers_of_a_killed_writer_are_removed(name: str) -> None:
    write(name, "of yesterday")
    kill_while_writing(name)
    assert Path(name).read_text() == "of yesterday"
    assert len(os.listdir()) == 2
    write(name, "of today")
    assert Path(name).read_text() == "of today"
    assert os.listdir() == [name]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_follow_the_old_file_or_the_umask() -> None:
    path = Path("out.csv")
    umask = os.umask(0o027)
    try:
        write("out.csv", "")
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        write("out.csv", "")
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(umask)


OUTPUTS = {
    "no/out.csv": "no folder no",
    "in.csv/out.csv": "no folder in.csv",
    "folder.csv": "is a folder",
    "in.csv": "is also the input",
    "twin.csv": "is also the input",
    "link.csv": "is not a regular file",
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_invalid_outputs_raise_an_error(output: str) -> None:
    Path("in.csv").touch()
    Path("folder.csv").mkdir()
    os.link("in.csv", "twin.csv")
    Path("link.csv").symlink_to("in.csv")
    with pytest.raises(UserError, match=f"{output}: .*{OUTPUTS[output]}"):
        check_output(Path(output), Path("none.csv"), Path("in.csv"))
