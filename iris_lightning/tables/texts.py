"""Detects the encoding of a CSV file, its column delimiter, and lines before its header."""

import codecs
import gzip
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import polars as pl

from iris_lightning.errors import UserError
from iris_lightning.table import SEPARATORS

START_BYTES = 2**16  # read to detect the format
QUOTED = r'"[^"]*"'
START_LINES = 20
FALLBACK = "cp1252"  # the default of Windows in Western Europe and America
MARKS = {  # byte order marks; UTF-32 comes first, as its mark begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8",
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
        encoding: Name of the encoding in Python.
        separator: The column delimiter given by a line such as `sep=;`.
        skipped_lines: Number of lines before the header.
        notes: Notes for the user.
    """

    lines: list[str]
    encoding: str
    notes: list[str]
    separator: str | None = None
    skipped_lines: int = 0

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


def read_start(path: str, name: str, encoding: str | None) -> Start:
    """Reads the start of a CSV file.

    Args:
        path: The file.
        name: Name of the table, for messages.
        encoding: Encoding of the file; by default UTF-8, UTF-16 or UTF-32 by byte order mark, else
            Windows-1252.
    """
    notes: list[str] = []
    if path.lower().endswith(".zst"):  # Python cannot decompress it
        lines = pl.scan_lines(path, glob=False).head(START_LINES).collect().to_series()
        return Start(lines.to_list(), "utf-8", notes)
    with _open(path) as file:
        content = file.read(START_BYTES)
    if encoding is None:
        encoding = _find_encoding(content)
        if encoding == FALLBACK:
            notes.append("not in UTF-8, so it was read as Windows-1252; --data.encoding to change")
    try:
        "".encode(encoding)  # raises LookupError for codecs that are not of text, too
        encoding = codecs.lookup(encoding).name
    except LookupError as error:
        raise UserError(f"unknown encoding {encoding!r}", "encoding") from error
    text = codecs.getincrementaldecoder(encoding)("replace").decode(content)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        found = f"{name}: line {line} has a NUL character: the file is damaged, or in UTF-16"
        order = "le" if text.index("\0") % 2 else "be"
        raise UserError(found, remedy=("encoding", f"utf-16-{order}"))
    start = Start(text.removeprefix("\ufeff").splitlines(), encoding, notes)
    _skip_lines(start)
    start.lines = start.lines[:START_LINES]
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
    line, row = (re.sub(QUOTED, "", text) for text in (line, row))
    return any(0 < line.count(mark) == row.count(mark) for mark in SEPARATORS.values())


def _find_encoding(content: bytes) -> str:
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return FALLBACK
    return "utf-8"


def transcode(path: str, name: str, encoding: str, folder: str) -> str:
    """Converts a file to UTF-8, and returns the path of the copy.

    Args:
        path: The file.
        name: Name of the table, for messages.
        encoding: Its encoding.
        folder: Folder to write to.
    """
    copy = Path(folder, "table.csv")
    with _open(path) as file, copy.open("w", encoding="utf-8", newline="") as new:
        try:
            shutil.copyfileobj(codecs.getreader(encoding)(file), new)
        except UnicodeError as error:
            raise UserError(f"{name}: is not in {encoding}: {error}", "encoding") from error
    return str(copy)


def _open(path: str) -> IO[bytes]:
    if path.lower().endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path))
    return Path(path).open("rb")
