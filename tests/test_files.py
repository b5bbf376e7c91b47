"""A file appears whole or not at all, whatever happens while it is written."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output
from tests.conftest import REPOSITORY


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond a size in bytes."""
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
def test_the_file_appears_once_it_is_whole(name: str) -> None:
    for text in ("first", "second"):
        before = Path(name).read_text() if Path(name).exists() else None
        with atomic_write(Path(name)) as new:
            new.write_text(text[:3])
            assert (Path(name).read_text() if Path(name).exists() else None) == before
            new.write_text(text)
        assert Path(name).read_text() == text
        assert os.listdir() == [name]


@pytest.mark.parametrize("old", [None, "of yesterday"])
@pytest.mark.parametrize("broken", [(Path, "write_text"), (os, "fsync"), (os, "replace")])
def test_an_error_leaves_the_old_file(
    broken: tuple[Any, str], old: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError("broken")

    if old is not None:
        write("out.csv", old)
    before = os.listdir()
    monkeypatch.setattr(*broken, fail)
    with pytest.raises(OSError, match="broken"):
        write("out.csv", "half")
    assert os.listdir() == before
    assert old is None or Path("out.csv").read_text() == old


def test_a_full_disk_leaves_the_old_file() -> None:
    write("out.csv", "of yesterday")
    with full_disk(100), pytest.raises(OSError, match="File too large"):
        write("out.csv", "x" * 1000)
    assert os.listdir() == ["out.csv"]
    assert Path("out.csv").read_text() == "of yesterday"


def kill_while_writing(name: str) -> None:
    """Kills a process that has written half of a file."""
    code = (
        "import pathlib, sys, time; from iris_lightning.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as new:\n"
        "    new.write_text('half'); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == b""
        process.kill()
    assert process.returncode, "it should have been writing still"


@pytest.mark.parametrize("name", ["out.csv", "a[1].csv", "*.csv"])
def test_a_kill_leaves_the_old_file_and_the_next_writer_removes_what_it_left(name: str) -> None:
    write(name, "of yesterday")
    kill_while_writing(name)
    assert Path(name).read_text() == "of yesterday"
    assert len(os.listdir()) == 2
    write(name, "of today")
    assert Path(name).read_text() == "of today"
    assert os.listdir() == [name]


@pytest.mark.parametrize(("name", "other"), [("a[1].csv", "a1.csv"), ("*.csv", "b.csv"), ("a.csv", "a.csv.gz")])
def test_a_writer_leaves_alone_what_another_one_writes(name: str, other: str) -> None:
    with atomic_write(Path(other)) as new:
        write(name, "one")
        new.write_text("other")
    assert [Path(name).read_text(), Path(other).read_text()] == ["one", "other"]


def test_of_two_that_write_one_file_at_once_the_later_wins() -> None:
    with atomic_write(Path("out.csv")) as new:
        write("out.csv", "sooner")
        new.write_text("later")
    assert Path("out.csv").read_text() == "later"
    assert os.listdir() == ["out.csv"]


def test_what_only_looks_like_a_leftover_is_left_alone() -> None:
    Path(".out.csv.abcdefgh.part").write_text("mine")
    write("out.csv", "of today")
    assert Path(".out.csv.abcdefgh.part").read_text() == "mine"


def test_a_symbolic_link_is_replaced_and_what_it_points_to_left_alone() -> None:
    Path("precious.txt").write_text("precious")
    Path("out.csv").symlink_to("precious.txt")
    write("out.csv", "of today")
    assert Path("precious.txt").read_text() == "precious"
    assert (Path("out.csv").read_text(), Path("out.csv").is_symlink()) == ("of today", False)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_the_old_file_and_of_the_umask_for_a_new_one() -> None:
    umask = os.umask(0o027)
    try:
        write("new.csv", "")
        assert Path("new.csv").stat().st_mode & 0o777 == 0o640
        Path("new.csv").chmod(0o604)
        write("new.csv", "")
        assert Path("new.csv").stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(umask)


def test_where_nothing_can_or_should_be_written() -> None:
    Path("in.csv").write_text("1")
    Path("folder.csv").mkdir()
    os.link("in.csv", "twin.csv")
    places = {
        "no/out.csv": "no folder no",
        "in.csv/out.csv": "no folder in.csv",
        "folder.csv": "is a folder",
        "in.csv": "is the input as well",
        "twin.csv": "is the input as well",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.csv")
        places["pipe.csv"] = "is not a regular file"
    for place, message in places.items():
        with pytest.raises(UserError, match=re.escape(f"{place}: ") + f".*{message}"):
            check_output(Path(place), Path("none.csv"), Path("in.csv"))
    Path("old.csv").touch()
    for place in ("new.csv", "old.csv"):
        check_output(Path(place), Path("none.csv"), Path("in.csv"))


def test_the_package_runs_on_any_system() -> None:
    for path in (REPOSITORY / "iris_lightning").rglob("*.py"):
        found = re.search(r"/proc\b|/dev\b|os\.(O_|fork|link\b)|import (fcntl|resource|pwd)\b", path.read_text())
        assert found is None, f"{path}: {found}"
