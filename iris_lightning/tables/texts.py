"""Detects the encoding of a CSV file, its column delimiter, and lines before its header."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from iris_lightning.errors import UserError
from iris_lightning.files import is_text
from iris_lightning.table import SEPARATORS

START_LINES = 300  # read to find the header and to detect the delimiter
QUOTED = r'"[^"]*"'
BYTE_ORDER_MARKS = {  # UTF-32 comes last: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
}


def find_row(rows: pl.LazyFrame, condition: pl.Expr) -> int | None:
    """Returns the number of the first row that meets a condition, counted from 0."""
    number = rows.select(condition.arg_true().first())
    found: int | None = number.collect(engine="streaming").item()
    return found


def read_start(source: str | bytes, name: str) -> tuple[str, list[str]]:
    """Returns the column delimiter of a CSV file, and the lines before its header.

    Those are blank lines, comments and a line such as `sep=;`.

    Args:
        source: The file, or its content.
        name: Name of the table, for messages.

    Raises:
        polars.exceptions.ComputeError: If the file is not in UTF-8.
        UserError: If a line has a NUL character.
    """
    file = pl.scan_lines(source, glob=False)
    # `is_text` is faster than polars, and true for most files.
    if isinstance(source, bytes) or not is_text(source):
        has_nul = pl.col("line").str.contains("\0")
        damaged = find_row(file, has_nul)
        if damaged is not None:
            found = f"{name}: line {damaged + 1} has a NUL character: damaged, UTF-16 or compressed"
            raise UserError(found, remedy=("encoding", "utf-16-le or utf-16-be"))
    first = file.head(START_LINES).collect().to_series()
    lines = first.str.strip_chars("\ufeff \r").to_list()
    separator = None
    skipped: list[str] = []
    for line in lines:
        named = re.fullmatch(r'(?i)"?sep=([ -~\t])"?', line)
        if named:
            separator = named[1]
        elif line.strip('",;|\t') and line[0] != "#":  # blank rows may have delimiters
            break
        skipped.append(line)
    rows = lines[len(skipped) :]
    separator = separator or _find_separator(rows)
    if rows and skipped and skipped[-1].startswith("#"):
        width = rows[0].count(separator)
        # `#,name,class` directly above a row with numbers is the header.
        if width and re.search(r"\b\d", rows[0]) and skipped[-1].count(separator) == width:
            skipped.pop()
    return separator, skipped


def _find_separator(lines: Sequence[str]) -> str:
    """Returns the delimiter that occurs most often."""
    text = re.sub(QUOTED, "", "\n".join(lines))
    rows = text.split("\n")
    counts = {}
    for separator in SEPARATORS.values():
        width = rows[0].count(separator)
        # Any beyond `width` are inside cells.
        counts[separator] = sum(min(width, row.count(separator)) for row in rows)
    return max(counts, key=counts.__getitem__)


def to_utf8(path: str, name: str, encoding: str | None) -> tuple[bytes, str]:
    """Returns the content of a file in UTF-8, and the encoding it had.

    Args:
        path: The file.
        name: Name of the table, for messages.
        encoding: Its encoding; by default that of its byte order mark, else Windows-1252.
    """
    content = Path(path).read_bytes()
    if encoding is None:
        encoding = "cp1252"  # the default of Windows in Western Europe and America
        for mark, marked_encoding in BYTE_ORDER_MARKS.items():
            if content.startswith(mark):
                encoding = marked_encoding
    try:
        return content.decode(encoding).encode(), encoding
    except (LookupError, UnicodeError) as error:
        raise UserError(f"{name}: not in {encoding}: {error}", "encoding") from error
