"""What is between the columns of a CSV file."""

import csv
from collections.abc import Sequence

from iris_lightning.tables.table import SEPARATORS

__all__ = ["find_separator", "ragged_row"]


def find_separator(lines: Sequence[str], decimal_comma: bool) -> str:
    """Returns what splits the first lines of a file into most columns, the same number in each; in doubt, the comma.

    With decimal commas, it is the comma only where nothing else splits them, as where all numbers stand in quotes.
    """
    counts = {mark: _cells(lines, mark) for mark in SEPARATORS.values()}
    alike = [mark for mark in counts if len(set(counts[mark])) == 1 and counts[mark][0] > 1]
    if decimal_comma and alike != [","]:
        alike = [mark for mark in alike if mark != ","] or [";"]
    return max(alike or counts, key=lambda mark: max(counts[mark][:1], default=0))


def _cells(lines: Sequence[str], separator: str) -> list[int]:
    """Returns the numbers of cells of the first ten rows that are not blank."""
    rows = csv.reader((line.replace("\r", "") + "\n" for line in lines), delimiter=separator)
    try:
        return [len(row) for row in rows if row][:10]
    except csv.Error:  # a cell as long as a book
        return []


def ragged_row(path: str, separator: str, width: int) -> int | None:
    """Returns the first row, the one below the header being 1, with more cells than the header, if it can be told."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter=separator)
            return next((number for number, row in enumerate(rows) if len(row) > width), None)
    except (csv.Error, ValueError):  # a compressed file
        return None
