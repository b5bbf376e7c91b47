"""Checks of a table's values; errors name the column and the row."""

from collections.abc import Sequence

import polars as pl
import polars.selectors as cs

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature
from iris_lightning.tables.columns import share
from iris_lightning.tables.formats import (
    CLASS,
    MISSING,
    TableFile,
    columns,
    to_number,
)

MAX_FLOAT32 = 3.4028235e38
CODES = (-9, -99, -999, -9999)  # often mean missing where all other numbers are positive
THOUSANDS_OR_DECIMALS = r"^[+-]?\d{1,3},\d{3}$"  # 1,234 may be either


def check_header(file: TableFile, target: str) -> None:
    """Raises an error if the header looks like a row: mostly numbers, and one of the classes."""
    if not file.is_csv or not file.csv.header:
        return
    numbers = pl.Series(file.names).cast(pl.Float64, strict=False)
    if numbers.count() < numbers.null_count():
        return
    classes = file.rows.select(file.labels(target).unique()).collect(engine="streaming")
    if target in classes.to_series():
        found = f"{file.name}: the header looks like a row: {join_names(file.names)}"
        raise UserError(found, remedy=("header", "false"))


def check_number_marks(file: TableFile, names: Sequence[str]) -> None:
    """Raises an error for numbers with the other decimal mark or with an ambiguous comma."""
    plain = file.numeric - file.formatted
    names = [name for name in names if file.kinds[name] == pl.String and name not in plain]
    sample = file.sample.select(file.texts(cs.by_name(*names)))
    decimal_comma = not file.csv.decimal_comma
    other = share(sample, to_number(pl.all(), decimal_comma).is_finite())
    ambiguous = share(sample, pl.all().str.contains(THOUSANDS_OR_DECIMALS))
    is_european = file.csv_format.get("separator") == ";" and file.csv.decimal_comma is None
    for name in names:
        value = str(decimal_comma).lower()
        if name not in file.formatted:
            is_invalid = other[name] >= 0.5
        else:
            is_invalid = is_european and ambiguous[name] == 1
            value = "true, or false for thousands"
        if not is_invalid:
            continue
        example = sample[name].drop_nulls()[0]
        found = f"{file.name}: column {name!r} holds numbers such as {example!r}"
        raise UserError(found, remedy=("decimal_comma", value))


def check_values(
    file: TableFile,
    inputs: pl.LazyFrame,
    features: Sequence[Feature],
    missing: str,
    is_training: bool = True,
) -> None:
    """Raises an error for the first row with an invalid value.

    Args:
        file: The file, for error messages.
        inputs: Its rows, as returned by `TableFile.inputs`.
        features: The features.
        missing: `error` makes a missing value invalid; `drop` and `mean` allow it.
        is_training: Whether the user can still change how missing values are handled.
    """
    invalid = pl.any_horizontal(pl.exclude(CLASS, MISSING).is_infinite()).fill_null(False)
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


def _invalid_value(file: TableFile, row: int, features: Sequence[Feature]) -> UserError:
    """Returns the error for the first invalid value in a row, else for its first missing value."""
    cells = file.rows.slice(row, 1).collect(engine="streaming")
    values = cells.select(file.values(features))
    missing = None
    for feature in features:
        value = values.item(0, feature.column)
        place = f"{file.name}: column {feature.column!r}, row {row + 1}"
        if value is None:
            missing = missing or f"{place}: missing value"
        elif feature.category is None and abs(value) > MAX_FLOAT32:
            check_number_marks(file, [feature.column])
            text = str(cells.item(0, feature.column)).strip()[:80]
            return UserError(f"{place}: expected a finite number, got {text!r}")
    return UserError(str(missing), remedy=("missing", "mean or drop"))


def check_classes(file: TableFile, frame: pl.DataFrame, target: str) -> None:
    """Raises an error if a class with a name such as `None` would be read as missing."""
    if file.csv.na_values is not None or not frame[CLASS].has_nulls():
        return
    texts = columns(target).cast(pl.String).str.strip_chars()
    cells = file.rows.select(texts).collect(engine="streaming").to_series()
    found = cells.filter(cells.is_in(file.missing) & (cells != ""))
    if not found.is_empty():
        text = found[0]
        counted = f"{(found == text).sum()} rows have the class {text!r}"
        meaning = "which is read as missing by default"
        raise UserError(f"{file.name}: {counted}, {meaning}", remedy=("na_values", "'[]'"))


def notes_on_values(
    file: TableFile, frame: pl.DataFrame, features: Sequence[Feature], target: str
) -> list[str]:
    """Returns notes on missing values, codes such as -999, and labels that differ only in case."""
    notes = []
    if frame[MISSING].any():
        notes += _notes_on_missing(file, features)
    for values in frame.select(cs.float()).iter_columns():
        code = values.min()
        if code in CODES and (values.filter(values != code) >= 0).all():
            remedy = f"if it means missing: --data.na_values '[{code:g}]'"
            notes.append(f"{values.name!r} holds {code:g}; {remedy}")
    classes = frame[CLASS].unique().drop_nulls().cast(pl.String)
    labels = {target: classes.to_list()}
    for feature in features:
        if feature.category is not None:
            labels.setdefault(feature.column, []).append(feature.category)
    for name, found in labels.items():
        if len(set(map(str.casefold, found))) < len(found):
            notes.append(f"{name!r} has labels that differ only in case")
    return notes


def _notes_on_missing(file: TableFile, features: Sequence[Feature]) -> list[str]:
    names = dict.fromkeys(feature.column for feature in features)
    cells = (cs.by_name(*names) & cs.string()).as_expr().str.strip_chars()
    counts = []
    for i, text in enumerate(file.missing):
        if text:
            counts.append((cells == text).sum().name.prefix(f"{i} "))
    counted = []
    for count in file.rows.select(counts).collect(engine="streaming").iter_columns():
        number = count.item()
        position, _, name = count.name.partition(" ")
        if number:
            counted.append(f"{number} cells {file.missing[int(position)]!r} in {name!r}")
    if not counted:
        return []
    return [f"read as missing: {join_names(counted)}; --data.na_values to change"]
