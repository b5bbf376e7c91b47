"""What is wrong with a table, told by column and row."""

import math
import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from iris_lightning.errors import UserError, few
from iris_lightning.features import Feature, categories_of
from iris_lightning.tables.formats import TableFile, columns

__all__ = ["check_rows", "first_invalid_row"]


def check_rows(file: TableFile, num_rows: int | None = None) -> None:
    """Refuses rows without any value, which `rows` passes over as it does blank lines; `num_rows` were not."""
    if not file.is_csv:
        return
    if num_rows is None:
        num_rows = file.rows.select(pl.len()).collect(engine="streaming").item()
    if num_rows == file.num_lines:
        return
    separator = re.escape(file.separator)
    empty = rf'^[\s"]*{separator}[\s"{separator}]*$' if len(file.names) > 1 else r'^[\s"]*$'
    whole: dict[str, Any] = {"has_header": False, "separator": "\0", "quote_char": None, "new_columns": ["line"]}
    with file.reading():
        lines = pl.scan_csv(file.source, **{**file.options, **whole})
        found = lines.with_row_index().filter(columns("line").fill_null("").str.contains(empty))
        row = found.select(columns("index").first()).collect(engine="streaming").item()
    if row is not None:
        raise UserError(f"{file.path}: line {row + 1} has no value at all; take it out")


def first_invalid_row(
    file: TableFile, features: Sequence[Feature], target: str | None = None, missing: str = "error"
) -> UserError | None:
    """Returns what is wrong with the first row that cannot be used, if there is one; the target is for training."""
    inputs = file.inputs(features)
    invalid = [value.is_infinite() for value in inputs]
    if missing == "error":
        invalid += [value.is_null() for value in inputs]
    if missing != "drop" and target is not None:
        invalid.append(file.label(target).is_null())
    index = "row\0"  # no column's name
    with file.reading():
        found = file.rows.with_row_index(index, offset=1).filter(pl.any_horizontal(invalid)).head(1).collect()
    if found.is_empty():
        return None
    values, texts = found.select(inputs).row(0), found.row(0, named=True)
    remedy = ("missing", "drop or mean") if target is not None else None
    for feature, value in zip(features, values, strict=True):
        place, text = f"{file.path}: column {feature.column!r}, row {texts[index]}", str(texts[feature.column])[:80]
        kind = "number" if feature.category is None else "category"
        if value is None and missing == "error":
            return UserError(f"{place}: missing value; expected a {kind}", remedy=remedy)
        if value is None or math.isfinite(value):
            continue
        if feature.category is not None:
            known = few(categories_of(feature, features))
            return UserError(f"{place}: unknown category {text.strip()!r}; known: {known}")
        comma = file.dialect.decimal_comma
        try:
            float(text.replace(".", "point").replace(",", ".") if comma else text)
        except ValueError:  # three digits after a comma may be thousands
            decimal = re.fullmatch(r"\s*[+-]?\d*[.,](\d{1,2}|\d{4,})\s*", text)
            remedy = ("decimal_comma", "false" if comma else "true") if decimal else None
            return UserError(f"{place}: {text!r} is not a number", remedy=remedy)
        return UserError(f"{place}: {text!r} is not a finite number of float32")
    return UserError(f"{file.path}: column {target!r}, row {texts[index]}: no class", remedy=("missing", "drop"))
