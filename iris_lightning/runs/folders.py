"""The folders of runs, `lightning_logs/version_N`: how one is claimed, and which is the newest. Needs no Lightning."""

import re
from pathlib import Path

__all__ = ["RUNS", "claim_run", "newest_run"]

RUNS = "lightning_logs"


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
    """Returns the folder of the newest run under `root`, a run being what has a `config.yaml`, or `None`."""
    runs = {number: path for number, path in _numbered(root).items() if (path / "config.yaml").is_file()}
    return runs[max(runs)] if runs else None
