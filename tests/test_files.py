"""Atomic file writes, and checks of paths."""

import contextlib
import os
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
    "folder.csv": "is not a regular file",
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
