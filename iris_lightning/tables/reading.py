"""A CSV or Parquet file, read as tensors for training."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch

from iris_lightning.errors import UserError, few
from iris_lightning.tables.formats import TableFile, columns
from iris_lightning.tables.table import Table

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

    The arguments are those of `IrisDataModule`, and `class_names`, the classes that a model knows: others are refused.
    By default the classes are the distinct values of the target, sorted: whole numbers by value, all else as text.

    Raises:
        UserError: If the file is no such table; the message names column and row, the first below the header being 1.
    """
    file = TableFile(path, decimal_comma)
    target = file.target(target)
    names, left_out = file.features(features, target)
    frame = file.read(names, target)
    rows = frame.height
    if missing == "drop":
        frame = frame.filter(pl.all_horizontal(pl.all().is_not_null(), columns(*names).is_not_nan()))
    valid = pl.all_horizontal(pl.all().is_not_null(), columns(*names).is_finite())
    if not frame.select(valid.all()).item() and (error := file.first_invalid_row(names, target, missing == "drop")):
        raise error
    notes = [f"left out, since they are not numbers: {', '.join(left_out)}"] if left_out else []
    if frame.height < rows:
        notes.append(f"dropped {rows - frame.height} of {rows} rows, which have missing values")
    if frame.height == 0:
        raise UserError(f"{path}: has no row without a missing value")
    found = frame[target].cast(pl.String).unique().to_list()
    place = f"{path}: column {target!r}"
    classes = _sort_classes(found, place, frame.height) if class_names is None else list(class_names)
    if unknown := sorted(set(found) - set(classes)):
        raise UserError(f"{place} has the unknown class {unknown[0]!r}; known: {few(classes)}")
    codes = frame[target].cast(pl.String).cast(pl.Enum(classes)).to_physical().cast(pl.Int64)
    values = torch.from_numpy(frame.select(columns(*names)).to_numpy(order="c", writable=True))
    targets = torch.from_numpy(codes.to_numpy(writable=True))
    return Table(values, targets, names, classes, target, Path(path).name, notes)


def _sort_classes(values: list[str], place: str, rows: int) -> list[str]:
    if len(values) < 2:
        raise UserError(f"{place} has one class only ({values[0]!r}); expected two or more")
    numbers = pl.Series(values).cast(pl.Float64, strict=False)
    if numbers.is_finite().fill_null(False).all():
        values = [value for _, value in sorted(zip(numbers, values, strict=True))]
        if fractional := [value for value in values if not float(value).is_integer()]:
            found = f"{len(values)} distinct numbers such as {fractional[0]}"
            raise UserError(f"{place} looks continuous: {found}; expected classes: text, whole numbers or booleans")
    else:
        values = sorted(values)
    if len(values) > rows / 2:
        raise UserError(f"{place} has {len(values)} distinct values in {rows} rows; expected several of each class")
    return values
