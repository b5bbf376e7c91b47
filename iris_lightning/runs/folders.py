"""The folders of runs, `lightning_logs/version_N`: how one is claimed, and which is the newest. Needs no Lightning."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from iris_lightning.errors import UserError
from iris_lightning.files import shown

__all__ = ["PARTS", "RUNS", "SUMMARY", "claim_run", "cross_validations", "newest_run", "training_alone"]

RUNS = "lightning_logs"
PARTS, SUMMARY = "parts", "summary.json"  # of a cross-validation, while it runs and at the end


def _numbered(root: Path) -> dict[int, Path]:
    # By number: as text, version_10 would come before version_2.
    entries = [path for path in (root / RUNS).glob("version_*") if re.fullmatch(r"version_\d+", path.name)]
    return {int(path.name.removeprefix("version_")): path for path in entries}


def claim_run(root: Path) -> Path:
    """Makes the folder of a new run under `root`, which no other run has or gets, however many start at once."""
    while True:
        folder = root / RUNS / f"version_{max(_numbered(root), default=-1) + 1}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except (FileExistsError, FileNotFoundError):  # another run was faster, or took away the last folder of all
            continue
        return folder


def newest_run(root: Path) -> Path | None:
    """Returns the folder of the newest run of `fit` under `root`, which has a `config.yaml`, or `None`."""
    others = cross_validations(root)
    runs = [path for _, path in sorted(_numbered(root).items()) if (path / "config.yaml").is_file()]
    return next((path for path in reversed(runs) if path not in others), None)


def cross_validations(root: Path) -> list[Path]:
    """Returns the folders of cross-validations under `root`, the newest first."""
    runs = [path for _, path in sorted(_numbered(root).items(), reverse=True)]
    return [path for path in runs if (path / PARTS).exists() or (path / SUMMARY).exists()]


@contextlib.contextmanager
def training_alone(run: Path) -> Iterator[None]:
    """Keeps other processes from training a run at the same time; the system frees it, also after a kill."""
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{shown(run)}: another process is training this run") from None
    try:
        yield
    finally:
        lock.release()
