"""Detects the column delimiter of a CSV file."""

import re
from collections.abc import Sequence

from iris_lightning.table import SEPARATORS


def find_separator(lines: Sequence[str], decimal_comma: bool) -> str:
    """Returns the delimiter that occurs most often in the first lines of a file.

    Args:
        lines: The header and some rows.
        decimal_comma: Whether a comma between two digits is part of a number.
    """
    text = re.sub(r'"[^"]*"', "", "\n".join(lines))
    if decimal_comma:
        text = re.sub(r"\d,\d", "", text)
    header, *rows = text.split("\n")
    best = ","
    most = 0
    for separator in SEPARATORS.values():
        width = header.count(separator)
        total = width
        for row in rows:
            total += min(width, row.count(separator))  # texts in cells may contain more of them
        if total > most:
            best = separator
            most = total
    return best
