"""The folders of runs: `lightning_logs/version_N`, `lightning_logs/NAME/version_N`.

How one is claimed, and which is the newest. Numbers count on from run to run, whatever their names.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from iris_lightning.errors import UserError
from iris_lightning.files import relative_path

RUNS = "lightning_logs"
RESULTS = "results.yaml"  # of a finished `fit`
SUMMARY = "summary.json"  # of a cross-validation
VERSION = r"version_(\d+)"
# Names of folders on every system: Windows has devices such as `con`.
RESERVED = rf"({VERSION}|{RUNS}|con|prn|aux|nul|com\d|lpt\d)(\.|$)"
NAME = rf"(?!{RESERVED})\w([\w.=+-]{{0,98}}[\w=+-])?"


def check_name(name: str | None) -> None:
    """Refuses a name for runs that is not that of a folder on every system, or has a meaning."""
    if name is None:
        return
    if not re.fullmatch(NAME, name, re.IGNORECASE) or len(name.encode()) > 100:
        expected = "expected at most 100 bytes: letters, digits and _ . = + -, not version_N or con"
        raise UserError(f"{expected}; got {name[:110]!r}", "name")


def _runs(root: Path) -> list[tuple[int, Path]]:
    """Returns the folders of runs with their numbers, the newest last."""
    found = []
    for pattern in ("version_*", "*/version_*"):
        for path in (root / RUNS).glob(pattern):
            match = re.fullmatch(VERSION, path.name)
            if match:
                found.append((int(match[1]), path))
    return sorted(found)  # by number: as text, version_10 would come before version_2


def logs_folder(run: Path) -> Path:
    """Returns the folder that holds a run beside others: `lightning_logs/`, unless it was moved."""
    named = run.parent.parent.name == RUNS and run.parent.name != RUNS
    return run.parent.parent if named else run.parent


def claim_run(root: Path, name: str | None = None) -> Path:
    """Makes the folder of a new run under `root`, with a number that no other run has."""
    while True:
        number = max((number for number, _ in _runs(root)), default=-1) + 1
        folder = root / RUNS / f"version_{number}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except (
            FileExistsError,
            FileNotFoundError,
        ):  # another run was faster, or took away the last folder of all
            continue
        if [taken for taken, _ in _runs(root)].count(
            number
        ) > 1:  # another one was faster, and has its name by now
            folder.rmdir()
            continue
        while name is not None:
            named = folder.parent / name
            try:
                named.mkdir(exist_ok=True)
                return folder.rename(named / folder.name)
            except FileNotFoundError:  # another run took away the last folder with this name
                continue
            except OSError as error:
                remove_run(folder)
                reason = f"{relative_path(named)}: {error.strerror}; expected a folder for runs"
                raise UserError(reason, "name") from error
        return folder


def remove_run(run: Path) -> None:
    """Removes the folder of a run, and those above it that then hold no others."""
    shutil.rmtree(run, ignore_errors=True)
    with contextlib.suppress(OSError):  # it holds other runs
        run.parent.rmdir()
        logs_folder(run).rmdir()


def newest_run(root: Path) -> Path | None:
    """Returns the folder of the newest run of `fit` under `root`, or `None`."""
    for _, path in reversed(_runs(root)):
        if (path / "config.yaml").is_file() and not (path / SUMMARY).exists():
            return path
    return None


@contextlib.contextmanager
def training_alone(run: Path) -> Iterator[None]:
    """Keeps other processes from training a run at the same time."""
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{relative_path(run)}: another process is training this run") from None
    try:
        yield
    finally:
        lock.release()
