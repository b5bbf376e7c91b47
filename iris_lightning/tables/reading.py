"""A CSV or Parquet file, read as tensors for training."""

import math
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch

from iris_lightning.errors import UserError, few
from iris_lightning.tables.table import Table
from iris_lightning.tables.table_file import TableFile, columns

__all__ = ["read_table"]


def read_table(
    path: str,
    target: str | None = None,
    features: Sequence[str] | None = None,
    missing: str = "error",
    decimal_comma: bool = False,
    class_names: Sequence[str] | None = None,
) -> Table:
    """Reads a table of measurements with a class label.

    Args:
        path: A file with one of `SUFFIXES`.
        target: Column of the class; by default `species`, else the last one. Its values are text, whole numbers or
            booleans; the classes are the distinct ones, sorted (numbers by value).
        features: Columns of the features; by default every numeric one but the target.
        missing: What to do with a row that lacks a value: `error` or `drop`.
        decimal_comma: Whether a CSV file separates columns with `;` and writes numbers as `5,1`.
        class_names: The classes that a model knows; others are refused. By default those of the table.

    Raises:
        UserError: If the file is no such table. The message names file, column and row (the first below the header
            is row 1).
    """
    file = TableFile(path, decimal_comma)
    target = file.target(target)
    names, left_out = file.features(features, target)
    frame = file.read(names, target)
    rows = frame.height
    if missing == "drop":
        frame = frame.filter(pl.all_horizontal(pl.all().is_not_null(), columns(*names).is_not_nan()))
    usable = pl.all_horizontal(
        columns(target).is_not_null(), columns(*names).is_not_null(), columns(*names).is_finite()
    )
    if not frame.select(usable.all()).item() and (error := file.first_invalid_row(names, target, missing)):
        raise error
    notes = [f"left out, since they are not numbers: {', '.join(left_out)}"] if left_out else []
    if frame.height < rows:
        notes.append(f"dropped {rows - frame.height} of {rows} rows, which lack a value")
    if frame.height == 0:
        raise UserError(f"{path}: has no row without a missing value")
    found = frame[target].cast(pl.String).unique().to_list()
    if class_names is None:
        classes = _sort_classes(found, f"{path}: column {target!r}", frame.height)
    else:
        classes = list(class_names)
        if unknown := sorted(set(found) - set(classes)):
            raise UserError(f"{path}: column {target!r} has the unknown class {unknown[0]!r}; known: {few(classes)}")
    codes = frame[target].cast(pl.String).cast(pl.Enum(classes)).to_physical().cast(pl.Int64)
    return Table(
        torch.from_numpy(frame.select(columns(*names)).to_numpy(order="c", writable=True)),
        torch.from_numpy(codes.to_numpy(writable=True)),
        names,
        classes,
        target,
        Path(path).name,
        notes,
    )


def _sort_classes(values: list[str], where: str, rows: int) -> list[str]:
    """Sorts distinct target values: whole numbers by value, all else as text."""
    if len(values) < 2:
        raise UserError(f"{where} has one class only ({values[0]!r}); expected two or more")
    numbers = [_number(value) for value in values]
    if all(math.isfinite(number) for number in numbers):
        fractional = [value for value, number in zip(values, numbers, strict=True) if not number.is_integer()]
        if fractional:
            raise UserError(
                f"{where} looks continuous: {len(values)} distinct numbers such as {fractional[0]}; "
                "expected classes: text, whole numbers or booleans"
            )
        values = [value for _, value in sorted(zip(numbers, values, strict=True))]
    else:
        values = sorted(values)
    if len(values) > rows / 2:
        raise UserError(
            f"{where} has {len(values)} distinct values in {rows} rows; expected classes, of several rows each"
        )
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
