"""Finds the role of each column in a table: a number, a category, an identifier and so on.

All columns are measured together; `find_role` decides from the measurements of one column.
"""

import re
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl
import polars.selectors as cs

from iris_lightning.errors import UserError
from iris_lightning.table import Column
from iris_lightning.tables.formats import (
    FORMATTED,
    SAMPLE_ROWS,
    SIGNS,
    UNREADABLE,
    Cells,
    TableFile,
    to_number,
)

MAX_CATEGORIES = 100
MIN_ID_DISTINCT = 0.9  # fraction of the values; applies to columns named like an ID
MIN_CATEGORY_ROWS = 2  # per category, on average
MAX_MERGED = 0.01  # fraction of the distinct numbers that may be equal in float32
THOUSANDS_OR_DECIMALS = r"^[+-]?[1-9]\d{0,2}[.,]\d{3}$"  # 1,234 or 1.234 may be either
MAX_EXACT = 2**53  # whole numbers beyond it are merged already in float64
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


def find_role(name: str, kind: str, values: pl.Series) -> tuple[str, str]:
    """Returns the role of a column and the reason for it.

    Args:
        name: The column.
        kind: `number`; `float`, for a data type that row numbers do not have; `text` or `date`.
        values: Its values, without missing ones.
    """
    num_distinct = values.n_unique()
    if num_distinct == 0:
        return "empty", "no values"
    is_huge = kind == "number" and abs(values[0]) > MAX_EXACT
    if num_distinct == 1 and not is_huge:
        return "constant", "one value only"
    counts_up = False
    may_identify = kind == "text"
    if kind == "number":
        counts_up = values[0] in (0, 1) and (values.diff().drop_nulls() == 1).all()
        may_identify = (values % 1 == 0).all()
    is_named = not name or ID_NAME.fullmatch(name) is not None
    is_distinct = num_distinct >= MIN_ID_DISTINCT * len(values)
    if counts_up or (may_identify and is_named and is_distinct):
        return "identifier", "identifies the rows"
    if not name:
        return "identifier", "no name"
    if kind == "date":
        return "date", "dates or times"
    if kind != "text" and (num_distinct == 1 or merges(values)):
        return "inexact", "numbers that are equal in float32; subtract an offset first"
    if kind != "text":
        return "number", "numbers"
    if num_distinct > MAX_CATEGORIES:
        return "text", f"more than {MAX_CATEGORIES} distinct texts"
    if len(values) < MIN_CATEGORY_ROWS * num_distinct:
        return "text", "few texts occur more than once"
    return "category", f"{num_distinct} categories"


def find_columns(file: TableFile, target: str, categorical: Sequence[str]) -> list[Column]:
    """Returns the columns of a table with their roles.

    Args:
        file: The table.
        target: The target column.
        categorical: Columns to treat as categories, even if they hold numbers.
    """
    find_numbers(file)
    labels = {target, *categorical}
    found = _measure(file, file.sample.lazy(), file.names, labels)
    if file.sample.height == SAMPLE_ROWS:
        undecided = []
        for name, column in found.items():
            if name in labels or column.role not in ("number", "text", "date"):
                undecided.append(name)
        found |= _measure(file, file.rows, undecided, labels)
    if not found[target].categories or found[target].role == "date":
        kind = f"{file.name}: column {target!r} holds {found[target].reason}, not classes"
        raise UserError(kind, remedy=("target", "COLUMN"))
    for name in categorical:
        found[name] = found[name]._replace(role="category", reason="as given")
    found[target] = found[target]._replace(role="target", reason="the class")
    return [found[name] for name in file.names]


def _measure(
    file: TableFile, rows: pl.LazyFrame, names: Sequence[str], labels: Collection[str]
) -> dict[str, Column]:
    columns = {}
    numbers = []
    texts = []
    unreadable = file.sample.select(UNREADABLE).columns
    for name in names:
        if name in unreadable:
            reason = f"values of type {file.kinds[name].base_type()}"
            columns[name] = Column(name, "text", reason)
        elif name in file.numeric and name not in labels:
            numbers.append(name)
        else:
            texts.append(name)
    finite = pl.when(pl.all().is_finite()).then(pl.all())
    parsed = rows.select(file.numbers(numbers)).select(finite).collect(engine="streaming")
    for name in numbers:
        kind = "float" if file.kinds[name].is_float() else "number"
        columns[name] = Column(name, *find_role(name, kind, parsed[name].drop_nulls()))
    dates = share(file.sample.select(file.texts(cs.by_name(*texts))), pl.all().str.contains(DATE))
    parsed = rows.select(file.labels(*texts).cast(pl.Categorical)).collect(engine="streaming")
    for name in texts:
        kind = "text"
        if file.kinds[name].is_temporal() or dates[name] == 1:
            kind = "date"
        values = parsed[name].drop_nulls()
        categories = values.unique().cast(pl.String).sort().to_list()
        columns[name] = Column(name, *find_role(name, kind, values), categories)
    return columns


def find_numbers(cells: Cells) -> None:
    """Sets `numeric`, `formatted`, `doubtful` and `notes` of a table.

    A text column counts as numeric if at least half of its first values are numbers, so that a
    stray text in it is reported as an error.
    """
    texts = cells.sample.select(cells.texts(cs.string()))
    _find_numbers(cells, texts)
    # All rows are read for columns whose first values are all missing.
    empty = [column.name for column in texts if column.null_count() == len(column)]
    if empty and texts.height == SAMPLE_ROWS:
        rows = cells.rows.select(cells.texts(cs.by_name(*empty)))
        _find_numbers(cells, rows.collect(engine="streaming"))


def _find_numbers(cells: Cells, texts: pl.DataFrame) -> None:
    decimal_comma = bool(cells.csv.decimal_comma)
    plain = share(texts, to_number(pl.all(), decimal_comma).is_finite())
    numeric = {name for name, fraction in plain.items() if fraction >= 0.5}
    others = texts.drop(numeric)
    formatted = share(others, pl.all().str.contains(FORMATTED))
    signed = share(others, pl.all().str.contains(SIGNS))
    converted = share(others, to_number(pl.all(), not decimal_comma).is_finite())
    ambiguous = set()
    if cells.csv_format.get("separator") == ";" and cells.csv.decimal_comma is None:
        marked = share(texts, pl.all().str.contains("[.,]"))
        thousands = share(texts, pl.all().str.contains(THOUSANDS_OR_DECIMALS))
        ambiguous = {name for name in texts.columns if 0 < marked[name] == thousands[name]}
    doubtful = {}
    for name in others.columns:
        if formatted[name] == 1 and signed[name] in (0, 1) and not decimal_comma:
            cells.formatted.add(name)
            if name in ambiguous:
                doubtful[name] = "true, or false for thousands"
        elif converted[name] >= 0.5:
            doubtful[name] = str(not decimal_comma).lower()
    for name, value in doubtful.items():
        cells.doubtful[name] = (texts[name].drop_nulls()[0], value)
    for name in sorted(numeric & ambiguous):
        if plain[name] > thousands[name]:
            cells.notes.append(f"{name!r} has whole numbers and ones such as 1.000, read as 1")
    cells.numeric |= numeric | cells.formatted


def share(texts: pl.DataFrame, condition: pl.Expr) -> dict[str, float]:
    """Returns the fraction of each column that meets a condition, ignoring nulls."""
    if texts.width == 0:
        return {}
    fraction = condition.sum() / pl.all().count()
    return texts.select(fraction.fill_nan(0)).row(0, named=True)


def merges(column: pl.Series) -> bool:
    """Returns whether float32 merges many of the distinct numbers anywhere in a column.

    A long column of precise measurements has numbers that merge, too, so that only numbers that are
    near each other in the table are compared.
    """
    values = column.to_numpy()
    for chunk in np.array_split(values, len(values) // SAMPLE_ROWS + 1):
        distinct = np.unique(chunk)
        with np.errstate(over="ignore"):
            kept = np.unique(distinct.astype(np.float32))
        if len(kept) < (1 - MAX_MERGED) * len(distinct):
            return True
    return False
