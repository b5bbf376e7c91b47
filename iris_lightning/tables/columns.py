"""Finds the role of each column in a table: a number, a category, an identifier and so on."""

import re
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from iris_lightning.errors import UserError
from iris_lightning.table import Column
from iris_lightning.tables.formats import (
    FORMATTED,
    SAMPLE_ROWS,
    Cells,
    TableFile,
    to_number,
)

MAX_CATEGORIES = 100
MIN_ID_DISTINCT = 0.9  # fraction of the values; applies to columns named like an ID
MIN_CATEGORY_ROWS = 2  # per category, on average
MAX_MERGED = 0.01  # fraction of the distinct numbers that may be equal in float32
MAX_CHUNKS = 20  # parts of a long column that are searched for numbers equal in float32
UNITS = r"[$€£¥%]"
THOUSANDS = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"  # 1.234 may also be a decimal
TEXTS = pl.all().str
# Names of ID columns and row numbers.
ID_NAME = re.compile(
    r"unnamed: ?\d+|__index_level_\d+__|row[ _.]?(names?|id|num(ber)?)|index|(.*[\W_])?id|id[\W_].*"
    r"|(?-i:.*[a-z0-9]I[dD])",
    re.IGNORECASE,
)
# Dates such as 2026-11-30, 30.11.26 or 11/30/2026, with or without a time; and times alone.
DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})|\d{1,2}:\d{2})"
    r"([T :].*)?$"
)


def find_role(
    name: str, kind: str, num_values: int, num_distinct: int, numbers: NDArray[np.float64]
) -> tuple[str, str]:
    """Returns the role of a column and the reason for it.

    Args:
        name: The column.
        kind: `number`, `text` or `date`.
        num_values: Number of its values.
        num_distinct: Number of distinct values.
        numbers: Its finite values, if they are numbers.
    """
    if num_distinct == 0:
        return "empty", "no values"
    if num_distinct == 1:
        return "constant", "one value only"
    if not name:
        return "identifier", "no name"
    if kind == "date":
        return "date", "dates or times"
    is_distinct = num_distinct >= MIN_ID_DISTINCT * num_values
    may_identify = is_distinct and ID_NAME.fullmatch(name) is not None
    if kind == "number":
        steps = np.diff(numbers)
        counts_up = numbers[0] in (0, 1) and (steps == 1).all()
        are_whole = (numbers % 1 == 0).all()
        may_identify = counts_up or (may_identify and are_whole)
    if may_identify:
        return "identifier", "identifies the rows"
    if kind == "number":
        if float32_merges(pl.Series(numbers)):
            return "inexact", "numbers too close for float32; subtract their minimum"
        return "number", "numbers"
    if num_distinct > MAX_CATEGORIES:
        return "text", f"more than {MAX_CATEGORIES} distinct texts"
    if num_values < MIN_CATEGORY_ROWS * num_distinct:
        return "text", "hardly any text occurs twice"
    return "category", f"{num_distinct} categories"


def find_columns(file: TableFile, target: str, categorical: Sequence[str]) -> dict[str, Column]:
    """Returns the columns of a table with their roles, by name.

    Args:
        file: The table.
        target: The target column.
        categorical: Columns to treat as categories, even if they hold numbers.
    """
    mark_numbers(file)
    as_labels = {target, *categorical}
    columns = _measure(file, file.sample.lazy(), file.names, as_labels)
    if file.sample.height == SAMPLE_ROWS:  # then the file may have more rows
        undecided = []  # columns whose role may yet change
        for name, column in columns.items():
            has_many = len(column.categories) > MAX_CATEGORIES
            is_decided = has_many or column.role in ("number", "date")
            if name == target:  # `read_table` collects the classes of all rows
                is_decided = bool(column.categories)
            if name in categorical or not is_decided:
                undecided.append(name)
        columns |= _measure(file, file.rows, undecided, as_labels)
    column = columns[target]
    if not column.categories or column.role == "date":
        found = f"{file.name}: column {target!r} holds {column.reason}, not classes"
        raise UserError(found, remedy=("target", "COLUMN"))
    for name in categorical:
        if columns[name].categories:
            columns[name] = columns[name]._replace(role="category", reason="as given")
    columns[target] = column._replace(role="target", reason="it is the class")
    return {name: columns[name] for name in file.names}


def _measure(
    file: TableFile, rows: pl.LazyFrame, names: Sequence[str], as_labels: Collection[str]
) -> dict[str, Column]:
    columns = {}
    schema = file.sample.schema
    unreadable = cs.nested() | cs.binary() | cs.duration()  # polars cannot convert these to text
    for name in file.sample.select(cs.by_name(*names) & unreadable).columns:
        columns[name] = Column(name, "text", f"values of type {schema[name].base_type()}")
    numeric = [name for name in names if name in file.numeric and name not in as_labels]
    parsed = rows.select(file.numbers(numeric)).collect(engine="streaming")
    for name in parsed.columns:
        values = parsed[name].to_numpy()
        values = values[~np.isnan(values)]  # without missing values
        numbers = values[np.isfinite(values)]
        num_distinct = len(np.unique(values))
        role, reason = find_role(name, "number", len(numbers), num_distinct, numbers)
        columns[name] = Column(name, role, reason)
    texts = [name for name in names if name not in columns]
    categorical = file.labels(*texts).cast(pl.Categorical)
    labelled = rows.select(categorical).collect(engine="streaming")
    distinct = pl.all().drop_nulls().unique().cast(pl.String).sort()
    categories = labelled.select(distinct.implode())
    for name in texts:
        found = categories.item(0, name).to_list()
        kind = "text"
        if all(map(DATE.match, found)):
            kind = "date"
        num_values = labelled[name].count()
        role, reason = find_role(name, kind, num_values, len(found), np.empty(0))
        columns[name] = Column(name, role, reason, found)
    return columns


def mark_numbers(cells: Cells) -> None:
    """Sets `numeric`, `formatted` and `doubtful` of a table, and adds notes.

    A text column counts as numeric if at least half of its first values are plain numbers, or all
    are formatted alike. A stray text in it is then an error.
    """
    texts = cells.sample.select(cells.texts(cs.string()))
    _mark_numbers(cells, texts)
    # All rows are read for columns whose first values are all missing.
    empty = [column.name for column in texts if column.null_count() == SAMPLE_ROWS]
    if empty:
        rows = cells.rows.select(cells.texts(cs.by_name(*empty)))
        _mark_numbers(cells, rows.collect(engine="streaming"))


def _mark_numbers(cells: Cells, texts: pl.DataFrame) -> None:
    decimal_comma = cells.csv.decimal_comma
    # Files with semicolons often have decimal commas: 1,234 may be a decimal, and 1.000 a thousand.
    is_unclear = cells.csv_format.get("separator") == ";" and decimal_comma is None
    digits = share(texts, TEXTS.contains("[0-9]"))
    candidates = [name for name in digits if digits[name] >= 0.5]
    texts = texts.select(cs.by_name(*candidates))
    plain = share(texts, to_number(pl.all(), decimal_comma).is_finite())
    numeric = [name for name in texts.columns if plain[name] >= 0.5]
    cells.numeric.update(numeric)
    if is_unclear:
        pointed = share(texts, TEXTS.contains(".", literal=True))
        thousands = share(texts, TEXTS.contains(THOUSANDS))
        for name in numeric:
            # All points look like thousands separators, and some numbers have no point.
            if 0 < pointed[name] == thousands[name] < plain[name]:
                cells.notes.append(f"{name!r} has numbers such as 1.000, read as 1, not 1000")
    others = texts.select(cs.by_name(*(name for name in plain if plain[name] < 1)))
    with_other_mark = share(others, to_number(pl.all(), not decimal_comma).is_finite())
    formatted = share(others, TEXTS.contains(FORMATTED))
    with_unit = share(others, TEXTS.contains(UNITS))
    for name in others.columns:
        is_doubtful = plain[name] < 0.5 <= with_other_mark[name]
        if formatted[name] == 1 and with_unit[name] in (0, 1) and not decimal_comma:
            cells.numeric.add(name)
            cells.formatted.add(name)
            is_doubtful = is_unclear and with_other_mark[name] == 1
        if is_doubtful:
            cells.doubtful[name] = next(filter(None, others[name]))


def share(texts: pl.DataFrame, condition: pl.Expr) -> dict[str, float]:
    """Returns the fraction of each column that meets a condition, ignoring nulls."""
    if texts.width == 0:
        return {}
    counts = texts.select(pl.all().count()).to_numpy()
    found = texts.select(condition.sum()).to_numpy()  # polars would divide more slowly
    shares = found / counts.clip(min=1)
    return dict(zip(texts.columns, shares[0].tolist(), strict=True))


def float32_merges(numbers: pl.Series) -> bool:
    """Returns whether float32 merges many distinct numbers in any part of a column.

    Even precise measurements collide somewhere in a long column, so only numbers within chunks of
    neighboring rows are compared. Of a very long column, `MAX_CHUNKS` evenly spaced chunks are
    compared. Numbers that differ only by rounding errors count as one.
    """
    step = max(SAMPLE_ROWS, len(numbers) // MAX_CHUNKS)
    for start in range(0, len(numbers), step):
        # Without a name, as polars takes names such as `^a$` for patterns.
        chunk = numbers.slice(start, SAMPLE_ROWS).alias("")
        num_distinct = chunk.round_sig_figs(14).n_unique()  # a float64 has 16
        if chunk.cast(pl.Float32).n_unique() < (1 - MAX_MERGED) * num_distinct:
            return True
    return False
