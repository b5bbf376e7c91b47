"""Finds the role of each column in a table: a number, a category, an identifier and so on.

All columns are measured together; `find_role` decides from the measurements of one column.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from iris_lightning.errors import UserError
from iris_lightning.table import Column
from iris_lightning.tables.formats import FORMATTED, SAMPLE_ROWS, SIGNS, TableFile, to_number

MAX_CATEGORIES = 100
MIN_ID_DISTINCT = 0.9  # fraction of the values; applies to columns named like an ID
MIN_CATEGORY_ROWS = 2  # per category, on average
MAX_MERGED = 0.01  # fraction of the distinct numbers that may be equal in float32
# Names of ID columns and row numbers.
ID_NAME = re.compile(
    r"unnamed: ?\d+|__index_level_\d+__|row[ _.]?(names?|id|num(ber)?)|index|(.*[\W_])?id|id[\W_].*"
    r"|(?-i:.*[a-z0-9]I[dD])",
    re.IGNORECASE,
)
# Dates such as 2026-11-30, 30.11.26 or 11/30/2026, with or without a time; and times alone.
DATE = (
    r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})|\d{1,2}:\d{2})"
    r"([T :].*)?$"
)


class Measured(NamedTuple):
    """Measurements of a column.

    Attributes:
        kind: `number`, `text`, `date` or the name of another type.
        num_values: Number of values that are not missing.
        num_distinct: Number of distinct values.
        is_whole: Whether all values are whole numbers.
        is_index: Whether the values count up from 0 or 1, row by row.
        is_exact: Whether distinct numbers stay distinct in float32.
        categories: The distinct texts, sorted.
    """

    kind: str
    num_values: int
    num_distinct: int
    is_whole: bool = False
    is_index: bool = False
    is_exact: bool = True
    categories: Sequence[str] = ()


def find_role(name: str, column: Measured) -> tuple[str, str]:
    """Returns the role of a column and the reason for it."""
    if column.num_values == 0:
        return "empty", "no values"
    if column.num_distinct == 1:
        return "constant", "one value only"
    is_named = not name or ID_NAME.fullmatch(name) is not None
    is_distinct = column.num_distinct >= MIN_ID_DISTINCT * column.num_values
    if column.is_index or (is_named and is_distinct and (column.kind == "text" or column.is_whole)):
        return "identifier", "identifies the rows"
    if not name:
        return "identifier", "no name"
    if column.kind == "number" and not column.is_exact:
        return "inexact", "numbers that are equal in float32; subtract an offset first"
    if column.kind == "number":
        return "number", "numbers"
    if column.kind == "date":
        return "date", "dates or times"
    if column.kind != "text":
        return "text", f"values of type {column.kind}"
    if column.num_distinct > MAX_CATEGORIES:
        return "text", f"more than {MAX_CATEGORIES} distinct texts"
    if column.num_values < MIN_CATEGORY_ROWS * column.num_distinct:
        return "text", "few texts occur more than once"
    return "category", f"{column.num_distinct} categories"


def find_columns(file: TableFile, target: str, categorical: Sequence[str]) -> list[Column]:
    """Returns the columns of a table with their roles.

    Args:
        file: The table.
        target: The target column.
        categorical: Columns to treat as categories, even if they hold numbers.
    """
    measured = _measure(file, {target, *categorical})
    found = []
    for name in file.names:
        column = measured[name]
        if name == target and column.kind == "date":
            found_dates = f"{file.name}: column {name!r} holds dates or times, not classes"
            raise UserError(found_dates, remedy=("target", "COLUMN"))
        if name == target:
            role, reason = "target", "the class"
        elif name in categorical:
            role, reason = "category", "as given"
        else:
            role, reason = find_role(name, column)
        found.append(Column(name, role, reason, column.categories))
    return found


def _measure(file: TableFile, labels: Collection[str]) -> dict[str, Measured]:
    find_numbers(file)
    sample = file.sample
    dates = share(sample.select(file.texts()), pl.all().str.contains(DATE))
    measured = {}
    numbers = []
    texts = {}
    for name, kind in file.kinds.items():
        if kind.is_nested() or kind == pl.Binary:
            measured[name] = Measured(str(kind), 2, 2)
        elif name in file.numeric and name not in labels:
            numbers.append(name)
        elif kind.is_temporal() or dates[name] == 1:
            texts[name] = "date"
        else:
            texts[name] = "text"
    measured |= _measure_numbers(file, sample.lazy(), numbers)
    measured |= _measure_texts(file, sample.lazy(), texts)
    if sample.height < SAMPLE_ROWS:
        return measured
    # Later rows may change the role of these columns.
    numbers = [name for name in numbers if find_role(name, measured[name])[0] != "number"]
    measured |= _measure_numbers(file, file.rows, numbers)
    few = {}
    for name in texts:
        if name in labels or measured[name].num_distinct <= MAX_CATEGORIES:
            few[name] = texts[name]
    return measured | _measure_texts(file, file.rows, few)


def find_numbers(file: TableFile) -> None:
    """Sets `numeric` and `formatted` of a table.

    A text column counts as numeric if at least half of its first values are numbers, so that a
    stray text in it is reported as an error.
    """
    names = [name for name in file.names if file.kinds[name] == pl.String]
    # All rows are read for columns whose first values are all missing.
    for rows in (file.sample.lazy(), file.rows):
        if not names:
            break
        texts = rows.select(file.texts(cs.by_name(*names))).collect(engine="streaming")
        plain = share(texts, to_number(pl.all(), file.csv.decimal_comma).is_finite())
        formatted = share(texts, pl.all().str.contains(FORMATTED))
        signed = share(texts, pl.all().str.contains(SIGNS))
        for name, fraction in plain.items():
            if fraction >= 0.5:
                file.numeric.add(name)
            elif formatted[name] == 1 and signed[name] in (0, 1) and not file.csv.decimal_comma:
                file.numeric.add(name)
                file.formatted.add(name)
        names = [name for name in names if texts[name].null_count() == texts.height]


def share(texts: pl.DataFrame, condition: pl.Expr) -> dict[str, float]:
    """Returns the fraction of each column that meets a condition, ignoring nulls."""
    if texts.width == 0:
        return {}
    return texts.select(condition.mean().fill_null(0)).row(0, named=True)


def _measure_texts(
    file: TableFile, rows: pl.LazyFrame, kinds: Mapping[str, str]
) -> dict[str, Measured]:
    if not kinds:
        return {}
    labels = rows.select(file.labels(*kinds).cast(pl.Categorical)).collect(engine="streaming")
    measured = {}
    for name, kind in kinds.items():
        values = labels[name].drop_nulls()
        distinct = values.unique().cast(pl.String).sort()
        measured[name] = Measured(kind, len(values), len(distinct), categories=distinct.to_list())
    return measured


def _measure_numbers(
    file: TableFile, rows: pl.LazyFrame, names: Sequence[str]
) -> dict[str, Measured]:
    if not names:
        return {}
    values = rows.select(file.numbers(names)).collect(engine="streaming")
    measured = {}
    for name in names:
        number = _measure_number(values[name].drop_nulls().to_numpy())
        if file.kinds[name].is_float():  # floats are measurements, never an index
            number = number._replace(is_whole=False, is_index=False)
        measured[name] = number
    return measured


def _measure_number(values: NDArray[np.float64]) -> Measured:
    values = values[np.isfinite(values)]
    distinct = len(np.unique(values))
    with np.errstate(over="ignore"):
        kept = len(np.unique(values.astype(np.float32)))
    is_index = len(values) > 0 and values[0] in (0, 1) and bool((np.diff(values) == 1).all())
    return Measured(
        "number",
        len(values),
        distinct,
        is_whole=bool((values % 1 == 0).all()),
        is_index=is_index,
        is_exact=kept >= (1 - MAX_MERGED) * distinct,
    )
