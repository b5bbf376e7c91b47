"""Checks of a table's values; errors name the column and the row."""

from collections.abc import Collection, Sequence

import polars as pl
import polars.selectors as cs

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature, categories_by_column
from iris_lightning.table import Column
from iris_lightning.tables.columns import merges, share
from iris_lightning.tables.formats import (
    CLASS,
    MISSING,
    SAMPLE_ROWS,
    Cells,
    TableFile,
    columns,
    to_number,
)

MAX_FLOAT32 = 3.4028235e38
CODES = (-9, -99, -999, -9999)  # often mean missing where all other numbers are positive
THOUSANDS_OR_DECIMALS = r"^[+-]?[1-9]\d{0,2}[.,]\d{3}$"  # 1,234 or 1.234 may be either


def check_header(file: TableFile, columns: Sequence[Column], target: str) -> None:
    """Raises an error if the header looks like a row: numbers and values of their columns."""
    if not file.is_csv or not file.csv.header:
        return
    are_numbers = pl.Series(file.names).cast(pl.Float64, strict=False).is_not_null()
    alike = 0
    for column, is_number in zip(columns, are_numbers, strict=True):
        is_value = column.name in column.categories
        if column.name == target and not is_value:
            return
        alike += is_value or is_number
    if 2 * alike >= len(columns):
        found = f"{file.name}: the header looks like a row: {join_names(file.names)}"
        raise UserError(found, remedy=("header", "false"))


def check_number_marks(file: Cells, names: Collection[str]) -> list[str]:
    """Raises an error for numbers with the other decimal mark or with an ambiguous comma.

    Returns:
        Notes on ambiguous points.
    """
    is_european = file.csv_format.get("separator") == ";" and file.csv.decimal_comma is None
    if not is_european:
        names = set(names).difference(file.numeric)
    texts = [name for name in names if file.kinds[name] == pl.String]
    sample = file.sample.select(file.texts(cs.by_name(*texts)))
    decimal_comma = not file.csv.decimal_comma
    other = share(sample, to_number(pl.all(), decimal_comma).is_finite())
    thousands = share(sample, pl.all().str.contains(THOUSANDS_OR_DECIMALS))
    marked = share(sample, pl.all().str.contains("[.,]"))
    notes = []
    for name in texts:
        value = str(decimal_comma).lower()
        is_invalid = name not in file.numeric and other[name] >= 0.5
        is_ambiguous = is_european and 0 < marked[name] == thousands[name]
        if is_ambiguous and name in file.formatted:
            value = "true, or false for thousands"
            is_invalid = True
        if is_invalid:
            example = sample[name].drop_nulls()[0]
            found = f"{file.name}: column {name!r} holds numbers such as {example!r}"
            raise UserError(found, remedy=("decimal_comma", value))
        if is_ambiguous and name in file.numeric and marked[name] < 1:
            notes.append(f"{name!r} has whole numbers and ones such as 1.000, read as 1")
    return notes


def check_values(
    file: Cells,
    inputs: pl.LazyFrame,
    features: Sequence[Feature],
    missing: str,
    is_training: bool = True,
) -> None:
    """Raises an error for the first row with an invalid value.

    Args:
        file: The file, for error messages.
        inputs: Its rows, as returned by `Cells.inputs`.
        features: The features.
        missing: `error` makes a missing value invalid; `drop` and `mean` allow it.
        is_training: Whether the user can still change how missing values are handled.
    """
    numbers = pl.exclude(CLASS, MISSING).cast(pl.Float32)
    invalid = pl.any_horizontal(numbers.is_infinite()).fill_null(False)
    if missing == "error":
        invalid = invalid | columns(MISSING)
    marked = inputs.select(invalid=invalid).with_row_index("row")
    found = marked.filter("invalid").head(1).collect(engine="streaming")
    if not found.is_empty():
        error = _invalid_value(file, found.item(0, "row"), features)
        if not is_training and error.remedy:
            error.message += ", which this network cannot fill in; see --data.missing of fit"
            error.remedy = None
        raise error


def _invalid_value(file: Cells, row: int, features: Sequence[Feature]) -> UserError:
    """Returns the error for the first invalid value in a row, else for its first missing value."""
    cells = file.rows.slice(row, 1).collect(engine="streaming")
    values = cells.select(file.values(features))
    missing = None
    for feature in features:
        value = values.item(0, feature.column)
        place = f"{file.name}: column {feature.column!r}, row {row + file.first_row}"
        if value is None:
            missing = missing or f"{place}: missing value"
        elif feature.category is None and abs(value) > MAX_FLOAT32:
            check_number_marks(file, [feature.column])
            text = str(cells.item(0, feature.column)).strip()[:80]
            return UserError(f"{place}: expected a finite number, got {text!r}")
    return UserError(str(missing), remedy=("missing", "mean or drop"))


def notes_on_values(
    file: TableFile, frame: pl.DataFrame, features: Sequence[Feature], target: str
) -> list[str]:
    """Returns notes on missing values, codes such as -999, and labels that differ only in case.

    Raises an error if a class with a name such as `None` would be read as missing.
    """
    labels = categories_by_column(features)
    notes = []
    if frame[MISSING].any() or frame[CLASS].has_nulls():
        notes += _notes_on_missing(file, [*labels, target], target)
    for values in frame.select(pl.col(pl.Float64)).iter_columns():
        if frame.height > SAMPLE_ROWS and merges(values):
            notes.append(
                f"{values.name!r} holds numbers that are equal in float32; subtract an offset"
            )
        code = values.min()
        if code in CODES and (values.filter(values != code) >= 0).all():
            remedy = f"if it means missing: --data.na_values '[{code:g}]'"
            notes.append(f"{values.name!r} holds {code:g}; {remedy}")
    labels[target] = frame[CLASS].unique().drop_nulls().cast(pl.String).to_list()
    for name, found in labels.items():
        if len(set(map(str.casefold, found))) < len(found):
            notes.append(f"{name!r} has labels that differ only in case")
    return notes


def _notes_on_missing(file: TableFile, names: Sequence[str], target: str) -> list[str]:
    """Returns a note on texts such as `NA`, after checking that they are not classes."""
    texts = [text for text in file.missing if text]
    cells = file.rows.select(cs.by_name(*names) & cs.string()).select(pl.all().str.strip_chars())
    found = cells.unpivot().filter(pl.col("value").is_in(texts))
    counts = found.group_by("variable", "value").len().sort("variable", "value")
    counted = []
    for name, text, number in counts.collect(engine="streaming").iter_rows():
        if name == target and file.csv.na_values is None:
            meaning = f"{number} rows have the class {text!r}, which is read as missing by default"
            raise UserError(f"{file.name}: {meaning}", remedy=("na_values", "'[]'"))
        counted.append(f"{number} cells {text!r} in {name!r}")
    if not counted:
        return []
    return [f"read as missing: {join_names(counted)}; --data.na_values to change"]
