"""Checks of a table's values; errors name the column and the row."""

import math
from collections.abc import Sequence

import polars as pl

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature, category_names
from iris_lightning.tables.formats import CLASS, TableFile, columns


def check_decimals(file: TableFile, names: Sequence[str]) -> None:
    """Raises an error if a column holds numbers with the other decimal mark."""
    decimal_comma = not file.decimal_comma
    texts = [name for name in names if name not in file.numeric]
    for name in file.mostly_numbers(texts, decimal_comma):
        cells = file.rows.select(columns(name).drop_nulls().first())
        example = cells.collect(engine="streaming").item()
        found = f"{file.name}: column {name!r} holds numbers such as {example!r}"
        raise UserError(found, remedy=("decimal_comma", str(decimal_comma).lower()))


def check_values(
    file: TableFile,
    inputs: pl.LazyFrame,
    features: Sequence[Feature],
    missing: str,
    target: str | None = None,
) -> None:
    """Raises an error for the first row with an invalid value.

    Args:
        file: The file, to quote from.
        inputs: Its rows, as returned by `TableFile.inputs`.
        features: The features.
        missing: `error` makes a missing value invalid; `drop` and `mean` allow it.
        target: Column of the class, for training.
    """
    values = pl.exclude(CLASS)
    invalid = [values.is_infinite()]
    if missing == "error":
        invalid.append(values.is_null())
    if target is not None and missing != "drop":
        invalid.append(columns(CLASS).is_null())
    marked = inputs.select(invalid=pl.any_horizontal(invalid)).with_row_index("row")
    found = marked.filter("invalid").head(1).collect(engine="streaming")
    if not found.is_empty():
        _report(file, found.item(0, "row"), features, missing, target)


def _report(
    file: TableFile, row: int, features: Sequence[Feature], missing: str, target: str | None
) -> None:
    cells = file.rows.slice(row, 1).collect(engine="streaming")
    values = file.inputs(features).slice(row, 1).collect(engine="streaming").row(0)
    for feature, value in zip(features, values, strict=False):
        place = f"{file.name}: column {feature.column!r}, row {row + 1}"
        text = str(cells.item(0, feature.column)).strip()[:80]
        if value is None and missing == "error":
            remedy = None
            if target is not None:
                remedy = ("missing", "drop or mean")
            raise UserError(f"{place}: missing value", remedy=remedy)
        if value is None or math.isfinite(value):
            continue
        if feature.category is None:
            check_decimals(file, [feature.column])
            expected = "a finite number"
        else:
            expected = f"one of {join_names(category_names(feature, features))}"
        raise UserError(f"{place}: expected {expected}, got {text!r}")
    place = f"{file.name}: column {target!r}, row {row + 1}"
    raise UserError(f"{place}: no class", remedy=("missing", "drop"))
