"""Checks of a table's values; errors name the column and the row."""

import math
from collections.abc import Collection, Mapping, Sequence

import polars as pl
import polars.selectors as cs

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature, categories_by_column
from iris_lightning.table import Column
from iris_lightning.tables.columns import float32_merges
from iris_lightning.tables.formats import CLASS, MISSING, SAMPLE_ROWS, Cells, TableFile, stripped
from iris_lightning.tables.texts import find_row

CODES = (-9, -99, -999, -9999)  # often mean missing where no other number is negative


def check_header(file: TableFile, columns: Mapping[str, Column], target: str) -> None:
    """Raises an error if the header looks like a row.

    That is the case if the target's name is also a value of its column, and at least half of all
    names are numbers or labels. Names 0, 1, 2 and so on are exempt: pandas gives them.
    """
    numbers = pl.Series(file.names).cast(pl.Float64, strict=False)
    targets = file.sample[target].to_list()
    if target not in targets or numbers.to_list() == [*range(len(columns))]:
        return
    num_alike = numbers.count()
    for name, column in columns.items():
        num_alike += name in column.categories
    if 2 * num_alike >= len(columns):
        found = f"{file.name}: the header looks like a row: {join_names(file.names)}"
        raise UserError(found, remedy=("header", "false"))


def check_decimal_mark(file: Cells, names: Collection[str]) -> None:
    """Raises an error for numbers with the other decimal mark or with an ambiguous comma."""
    for name in file.doubtful:
        if name in names:
            found = f"{file.name}: column {name!r} holds numbers such as {file.doubtful[name]!r}"
            value = str(not file.csv.decimal_comma).lower()
            if name in file.formatted:
                value = "true, or false for thousands"
            raise UserError(found, remedy=("decimal_comma", value))


def check_values(
    file: Cells, inputs: pl.LazyFrame, features: Sequence[Feature], allows_missing: bool
) -> None:
    """Raises an error for the first row with an invalid value.

    Args:
        file: The file, for error messages.
        inputs: Its rows, as returned by `Cells.inputs`.
        features: The features.
        allows_missing: Whether missing values are valid.
    """
    numbers = pl.exclude(CLASS, MISSING).cast(pl.Float32)
    invalid = pl.any_horizontal(numbers.is_infinite()).fill_null(False)
    if not allows_missing:
        invalid = invalid | pl.col(MISSING)
    row = find_row(inputs, invalid)
    if row is None:
        return
    cells = file.rows.slice(row, 1).collect()
    values = cells.select(file.values(features)).with_columns(cs.float().cast(pl.Float32))
    for column in categories_by_column(features):  # in the order of the features
        value = values.item(0, column)
        place = f"{file.name}: column {column!r}, row {row + file.first_row}"
        if value is None and not allows_missing:
            raise UserError(f"{place}: missing value; to allow it, fit with --data.missing mean")
        if value in (math.inf, -math.inf):
            text = str(cells.item(0, column))
            raise UserError(f"{place}: expected a finite number, got {text!r}")


def notes_on_values(
    file: TableFile, frame: pl.DataFrame, columns: Mapping[str, Column]
) -> list[str]:
    """Returns notes on values that may not be what they seem.

    Raises an error if a class with a name such as `None` would be read as missing.

    Args:
        file: The file.
        frame: Its rows, as returned by `Cells.inputs`.
        columns: The target, and the columns of the features.
    """
    notes = []
    if frame[MISSING].any() or frame[CLASS].has_nulls():
        notes += _notes_on_missing(file, columns)
    for values in frame.select(pl.col(pl.Float64)).iter_columns():  # encoded categories are Float32
        # `find_role` has checked the first `SAMPLE_ROWS` rows.
        if frame.height > SAMPLE_ROWS and float32_merges(values):
            notes.append(
                f"{values.name!r} holds numbers too close for float32; subtract their minimum"
            )
        code = values.min()
        if code in CODES and (values.filter(values != code) >= 0).all():
            remedy = (
                f"if it means missing: --data.na_values '[{code:g}, NA]' (replaces the defaults)"
            )
            notes.append(f"{values.name!r} holds {code:g}; {remedy}")
    for name, column in columns.items():
        folded = set(map(str.casefold, column.categories))
        if len(folded) < len(column.categories):
            notes.append(f"{name!r} has labels that differ only in case")
    return notes


def _notes_on_missing(file: TableFile, columns: Mapping[str, Column]) -> list[str]:
    """Returns a note on texts such as `NA`, after checking that they are not classes."""
    texts = file.rows.select(stripped(cs.by_name(*columns) - cs.numeric()))
    # The spaces avoid clashes with the table's names.
    found = texts.unpivot(variable_name="column ", value_name="text ")
    found = found.filter(pl.col("text ").is_in([*filter(None, file.missing)]))
    counts = found.group_by(pl.all()).len().sort(pl.all())
    counted = []
    for name, text, number in counts.collect(engine="streaming").iter_rows():
        if columns[name].role == "target" and file.csv.na_values is None:
            meaning = f"{number} rows have the class {text!r}, which is read as missing by default"
            raise UserError(
                f"{file.name}: {meaning}",
                remedy=("na_values", f"'[]', or '[{text}]' to drop these rows"),
            )
        counted.append(f"{number} cells {text!r} in {name!r}")
    if not counted:
        return []
    return [f"read as missing: {join_names(counted)}; --data.na_values to change"]
