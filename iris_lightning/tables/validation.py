"""Checks of a table's values; errors name the column and the row."""

import math
from collections.abc import Sequence

import polars as pl
import polars.selectors as cs

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature
from iris_lightning.tables.columns import SAMPLE_ROWS, share
from iris_lightning.tables.formats import CLASS, MISSING, TableFile, columns, to_number

CODES = (-9, -99, -999, -9999)  # often mean missing where all other numbers are positive
THOUSANDS_OR_DECIMALS = r"^[+-]?\d{1,3},\d{3}$"  # 1,234 may be either


def check_header(file: TableFile, target: str) -> None:
    """Raises an error if the header looks like a row: mostly numbers, and one of the classes."""
    if not file.is_csv or not file.csv.header:
        return
    names = pl.Series(file.names)
    num_numbers = names.cast(pl.Float64, strict=False).is_not_null().sum()
    if 2 * num_numbers < len(names):
        return
    classes = file.rows.select(file.labels(target).unique()).collect(engine="streaming")
    if target in classes.to_series():
        found = f"{file.name}: the header looks like a row: {join_names(file.names)}"
        raise UserError(found, remedy=("header", "false"))


def check_number_marks(file: TableFile, names: Sequence[str]) -> None:
    """Raises an error for numbers with the other decimal mark or with an ambiguous comma."""
    plain = file.numeric - file.formatted
    names = [name for name in names if file.kinds[name] == pl.String and name not in plain]
    sample = file.rows.head(SAMPLE_ROWS).select(cs.by_name(*names)).select(file.texts()).collect()
    decimal_comma = not file.csv.decimal_comma
    other = share(sample, to_number(pl.all(), decimal_comma).is_finite())
    ambiguous = share(sample, pl.all().str.contains(THOUSANDS_OR_DECIMALS))
    is_european = file.csv_format.get("separator") == ";" and file.csv.decimal_comma is None
    for name in names:
        value = str(decimal_comma).lower()
        is_ambiguous = is_european and name in file.formatted and ambiguous[name] == 1
        if is_ambiguous:
            value = "true, or false for thousands"
        elif name in file.formatted or other[name] < 0.5:
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
        if not is_training:
            error.remedy = None
        raise error


def _invalid_value(file: TableFile, row: int, features: Sequence[Feature]) -> UserError:
    """Returns the error for the first invalid value in a row, else for its first missing value."""
    cells = file.rows.slice(row, 1).collect(engine="streaming")
    values = file.rows.slice(row, 1).select(file.values(features)).collect(engine="streaming")
    missing = None
    for feature in features:
        value = values.item(0, feature.column)
        place = f"{file.name}: column {feature.column!r}, row {row + 1}"
        if value is None:
            missing = missing or f"{place}: missing value"
        elif feature.category is None and not _fits_float32(value):
            check_number_marks(file, [feature.column])
            text = str(cells.item(0, feature.column)).strip()[:80]
            return UserError(f"{place}: expected a finite number, got {text!r}")
    return UserError(str(missing), remedy=("missing", "mean or drop"))


def _fits_float32(value: float) -> bool:
    return abs(value) <= 3.4028235e38 and math.isfinite(value)


def check_classes(file: TableFile, frame: pl.DataFrame, target: str) -> None:
    """Raises an error if a class with a name such as `None` would be read as missing."""
    if file.csv.na_values is not None or not frame[CLASS].has_nulls():
        return
    texts = file.rows.select(columns(target).cast(pl.String).str.strip_chars())
    found = texts.filter(columns(target).is_in(file.missing) & (columns(target) != ""))
    counts = found.collect(engine="streaming").to_series()
    if not counts.is_empty():
        text = counts[0]
        cells = f"{(counts == text).sum()} rows have the class {text!r}"
        expected = "which is read as missing; if it is a class"
        raise UserError(f"{file.name}: {cells}, {expected}", remedy=("na_values", "'[]'"))


def notes_on_values(
    file: TableFile, frame: pl.DataFrame, features: Sequence[Feature], target: str
) -> list[str]:
    """Returns notes on missing values, codes such as -999, and labels that differ only in case."""
    notes = []
    used = dict.fromkeys(feature.column for feature in features)
    if frame[MISSING].any():
        notes += _notes_on_missing(file, list(used))
    numbers = [feature.name for feature in features if feature.category is None]
    least = frame.select(cs.by_name(*numbers).min()) if numbers else pl.DataFrame()
    for name in least.columns:
        code = least.item(0, name)
        if code not in CODES:
            continue
        others = frame.select(columns(name).filter(columns(name) != code).min()).item()
        if others is not None and others >= 0:
            notes.append(
                f"{name!r} holds {code:g}; if it means missing: --data.na_values '[{code:g}]'"
            )
    labels: dict[str, list[str]] = {
        target: frame[CLASS].unique().drop_nulls().cast(pl.String).to_list()
    }
    for feature in features:
        if feature.category is not None:
            labels.setdefault(feature.column, []).append(feature.category)
    for name, found in labels.items():
        if len({label.casefold() for label in found}) < len(found):
            notes.append(f"{name!r} has labels that differ only in case")
    return notes


def _notes_on_missing(file: TableFile, names: list[str]) -> list[str]:
    cells = (cs.by_name(*names) & cs.string()).as_expr().str.strip_chars()
    texts = [text for text in file.missing if text]
    counts = [(cells == text).sum().name.prefix(f"{i} ") for i, text in enumerate(texts)]
    counted = []
    found = file.rows.select(counts).collect(engine="streaming").to_dicts()
    for key, number in (found[0] if found else {}).items():
        i, _, name = key.partition(" ")
        if number:
            counted.append(f"{number} cells {texts[int(i)]!r} in {name!r}")
    if not counted:
        return []
    return [f"read as missing: {join_names(counted)}; --data.na_values to change"]
