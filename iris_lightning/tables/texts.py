"""Detects the encoding of a CSV file, its column delimiter, and lines before its header."""

import codecs
import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from iris_lightning.errors import UserError
from iris_lightning.table import SEPARATORS

START_LINES = 100  # read to detect the delimiter
QUOTED = r'"[^"]*"'
FALLBACK = "cp1252"  # the default of Windows in Western Europe and America
MARKS = {  # byte order marks; UTF-32 comes first, as its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass
class Start:
    """The start of a CSV file.

    Attributes:
        lines: The header and the first rows.
        separator: The column delimiter given by a line such as `sep=;`.
        skipped_lines: Number of lines before the header.
        notes: Notes for the user.
    """

    lines: list[str]
    separator: str | None = None
    skipped_lines: int = 0
    notes: list[str] = field(default_factory=list)

    def find_separator(self, decimal_comma: bool | None) -> str:
        """Returns the delimiter that occurs most often.

        Args:
            decimal_comma: Whether commas between digits are decimal commas.
        """
        if self.separator is not None:
            return self.separator
        text = re.sub(QUOTED, "", "\n".join(self.lines))
        if decimal_comma:
            text = re.sub(r"\d,\d", "", text)
        lines = text.split("\n")
        counts = {}
        for separator in SEPARATORS.values():
            width = lines[0].count(separator)
            # If a row has more than the header, the others belong to texts in cells.
            counts[separator] = sum(min(width, line.count(separator)) for line in lines)
        return max(counts, key=counts.__getitem__)


def read_start(source: str | bytes, name: str) -> Start:
    """Reads the start of a CSV file, after checking that it is text in UTF-8.

    Args:
        source: The file, or its content.
        name: Name of the table, for messages.

    Raises:
        polars.exceptions.ComputeError: If the file is not in UTF-8.
        UserError: If a line has a NUL character.
    """
    lines = pl.scan_lines(source, glob=False)
    has_nul = pl.col("line").str.contains("\0", literal=True)
    damaged = lines.with_row_index("number", offset=1).filter(has_nul).head(1)
    for number, _ in damaged.collect(engine="streaming").iter_rows():
        found = f"{name}: line {number} has a NUL character: the file is damaged, or in UTF-16"
        raise UserError(found, remedy=("encoding", "utf-16-le or utf-16-be"))
    first = lines.head(START_LINES).collect().to_series()
    start = Start(first.str.strip_prefix("\ufeff").to_list())
    _skip_lines(start)
    return start


def _skip_lines(start: Start) -> None:
    """Skips blank lines, comments and a line such as `sep=;` before the header."""
    while start.lines:
        line = start.lines[0].strip()
        named = re.fullmatch(r'"?sep=(.)"?', line)
        rows = [row for row in start.lines[1:] if row.strip() and not row.startswith("#")]
        is_header = rows and _has_same_cells(line, rows[0])
        is_comment = line.startswith("#") and not is_header
        if named:
            start.separator = named[1]
        elif line and not is_comment:
            return
        if line:
            start.notes.append(f"skipped line {start.skipped_lines + 1}: {line[:50]!r}")
        start.skipped_lines += 1
        del start.lines[0]


def _has_same_cells(line: str, row: str) -> bool:
    """Returns whether two lines have the same number of cells, with any delimiter."""
    return any(0 < line.count(mark) == row.count(mark) for mark in SEPARATORS.values())


def to_utf8(path: str, name: str, encoding: str | None) -> tuple[bytes, str]:
    """Returns the content of a file in UTF-8, and the encoding it had.

    Args:
        path: The file.
        name: Name of the table, for messages.
        encoding: Its encoding; by default that of its byte order mark, else Windows-1252.
    """
    content = Path(path).read_bytes()
    if path.lower().endswith(".gz"):
        content = gzip.decompress(content)
    if encoding is None:
        encoding = FALLBACK
        for mark, marked in MARKS.items():
            if content.startswith(mark):
                encoding = marked
                break
    try:
        return content.decode(encoding).encode(), encoding
    except LookupError as error:
        raise UserError(f"unknown encoding {encoding!r}", "encoding") from error
    except UnicodeError as error:
        raise UserError(f"{name}: is not in {encoding}: {error}", "encoding") from error
