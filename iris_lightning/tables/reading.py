"""A CSV or Parquet file, read as tensors for training."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch

from iris_lightning.errors import UserError, few
from iris_lightning.features import Feature, find_features
from iris_lightning.tables.formats import Dialect, TableFile, as_label, columns
from iris_lightning.tables.mistakes import check_rows, first_invalid_row
from iris_lightning.tables.table import SEPARATORS, Table, check_columns, result_columns

__all__ = ["read_table"]

TARGET = "target\0"  # no column's name
MAX_CATEGORIES = 100


def read_table(
    path: str,
    target: str | None = None,
    features: Sequence[str] | None = None,
    missing: str = "error",
    decimal_comma: bool = False,
    separator: str | None = None,
    na_values: Sequence[str | float | None] | None = None,
    class_names: Sequence[str] | None = None,
) -> Table:
    """Reads a table of measurements with a class label.

    The arguments are those of `IrisDataModule`, and `class_names`, the classes that a model knows: others are refused,
    and so are features that are others than the model's. By default the classes are the distinct values of the target,
    sorted: whole numbers by value, all else as text. With `missing="mean"`, missing features are NaN.

    Raises:
        UserError: If the file is no such table; the message names column and row, the first below the header being 1.
    """
    file = TableFile(path, Dialect(decimal_comma, separator, na_values))
    if class_names is None and not file.is_csv and (decimal_comma or separator is not None):
        raise UserError(f"{path}: decimal_comma and separator have no part in a Parquet file; leave them out")
    with file.reading():
        target = _choose_target(file, target)
        inputs, left_out = _choose_features(file, features, target, known=class_names is not None)
    names = [feature.name for feature in inputs]
    frame = _read(file, inputs, target)
    rows = frame.height
    check_rows(file, rows)
    if missing == "drop":
        frame = frame.drop_nulls()
    incomplete = pl.any_horizontal(columns(*names).is_null())
    invalid = [columns(*names).is_infinite(), columns(TARGET).is_null(), *([incomplete] if missing == "error" else [])]
    found_invalid = frame.select(pl.any_horizontal(invalid).any()).item()
    if found_invalid and (error := first_invalid_row(file, inputs, target, missing)):
        raise error
    notes = ["left out: the column without a name"] if features is None and "" in file.names else []
    texts = [name for name in left_out if file.kinds()[name] in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)]
    if texts:
        hint = "name them in features to take their categories"
        notes.append(f"left out, since not numbers: {', '.join(texts)}; {hint}")
    if others := [name for name in left_out if name not in texts]:
        notes.append(f"left out, since neither numbers nor text: {', '.join(others)}")
    if frame.height < rows:
        notes.append(f"dropped {rows - frame.height} of {rows} rows, which have missing values")
    if missing == "mean" and (number := frame.select(incomplete.sum()).item()):
        notes.append(f"missing values in {number} of {rows} rows get the mean of the train split")
    if frame.height == 0:
        raise UserError(f"{path}: has no row without a missing value")
    spellings = frame[TARGET].cast(pl.String).unique()
    labels = pl.select(as_label(pl.lit(spellings))).to_series()  # of the few: of the many, it takes longer than reading
    found = labels.unique().to_list()
    place = f"{path}: column {target!r}"
    classes = _sort_classes(found, place, frame.height) if class_names is None else list(class_names)
    if taken := [name for name in names if name in result_columns(classes)]:
        raise UserError(f"{path}: column {taken[0]!r} is called like one that predict adds; rename it")
    if unknown := sorted(set(found) - set(classes)):
        raise UserError(f"{place} has the unknown class {unknown[0]!r}; known: {few(classes)}")
    positions = frame[TARGET].cast(pl.String).cast(pl.Enum(spellings)).to_physical()
    codes = labels.cast(pl.Enum(classes)).to_physical().cast(pl.Int64).gather(positions)
    values = torch.from_numpy(frame.select(columns(*names)).to_numpy(order="c", writable=True))
    targets = torch.from_numpy(codes.to_numpy(writable=True))
    return Table(values, targets, names, classes, target, Path(path).name, notes)


def _choose_target(file: TableFile, name: str | None) -> str:
    """Returns the column of the class, which is that name, or by default `species`, else the last one with a name."""
    if len(file.names) == 1:
        separators = "" if not file.is_csv else f"; expected columns separated by one of {' '.join(SEPARATORS)}"
        raise UserError(f"{file.path}: has one column only ({file.names[0]!r}){separators}")
    if file.rows.head(1).collect().is_empty():
        raise UserError(f"{file.path}: has no rows{', only a header' if file.is_csv else ''}")
    if name is None:
        return "species" if "species" in file.names else [name for name in file.names if name][-1]
    check_columns("target", [name], file.names, file.path)
    if (kind := file.kinds()[name]).is_nested() or kind == pl.Duration:
        raise UserError(f"column {name!r} holds {kind}; expected text, whole numbers or booleans", "target")
    return name


def _choose_features(
    file: TableFile, names: Sequence[str] | None, target: str, known: bool
) -> tuple[list[Feature], list[str]]:
    """Returns the features, and the columns that are left out by default since they are not numbers.

    `known` are the names of a trained network's features; else a column of text stands for its categories.
    """
    if names is None:
        others = [name for name in file.names if name not in ("", target)]
        numeric = [name for name in others if name in file.numeric]
        left_out = [name for name in others if name not in numeric]
        _refuse_other_decimals(file, left_out)
        if not numeric:
            raise UserError(f"{file.path}: has no column of numbers beside the target {target!r}")
        return [Feature(name, name) for name in numeric], left_out
    if target in names:
        raise UserError(f"{target!r} is the target", "features", remedy=("target", "COLUMN"))
    if not known:
        check_columns("features", names, [*file.names, *(name for name in names if "=" in name)], file.path)
    found: list[Feature] = []
    for feature in find_features(names, file.names, file.path):
        if feature.category is not None or feature.column in file.numeric:
            found.append(feature)
            continue
        _refuse_other_decimals(file, [feature.column])
        if known:
            example = file.rows.select(columns(feature.column).drop_nulls().first()).collect().item()
            raise UserError(f"{file.path}: column {feature.column!r} holds text, not numbers, such as {example!r}")
        found += [Feature(f"{feature.column}={text}", feature.column, text) for text in _categories(file, feature)]
    if len({feature.name for feature in found}) < len(found):
        raise UserError(f"expected a column or some of its categories, got both: {few(names)}", "features")
    if taken := [feature for feature in found if feature.category is not None and feature.name in file.names]:
        message = f"a category of {taken[0].column!r} would be called {taken[0].name!r}, as a column of {file.path} is"
        raise UserError(f"{message}; rename that", "features")
    return found, []


def _categories(file: TableFile, feature: Feature) -> list[str]:
    label = file.label(feature.column)
    texts, rows = file.rows.select(label.unique().drop_nulls().implode(), label.count().alias("rows")).collect().row(0)
    if not 2 <= len(texts) <= min(MAX_CATEGORIES, rows / 2):
        what = f"{file.path}: column {feature.column!r} has {len(texts)} distinct texts in {rows} rows"
        raise UserError(f"{what}; expected numbers, or 2 to {MAX_CATEGORIES} categories", "features")
    return sorted(texts)


def _refuse_other_decimals(file: TableFile, names: Sequence[str]) -> None:
    comma = not file.dialect.decimal_comma
    for name in file.mostly_numbers(names, decimal_comma=comma) if file.is_csv and names else ():
        example = file.rows.select(columns(name).drop_nulls().first()).collect().item()
        found = f"{file.path}: column {name!r} has decimal {'commas' if comma else 'points'}, such as {example!r}"
        raise UserError(found, remedy=("decimal_comma", str(comma).lower()))


def _read(file: TableFile, features: Sequence[Feature], target: str) -> pl.DataFrame:
    """Reads the features as float32, null where there is no value, and the target as categories."""
    label = file.text(target).cast(pl.Categorical).alias(TARGET)
    rows, inputs = file.rows, file.inputs(features)
    if file.is_csv and not file.dialect.decimal_comma:  # polars' own reading of numbers is faster
        numbers = {feature.column: pl.Float64 for feature in features if feature.category is None}
        rows = file.scan_csv(schema_overrides=numbers, null_values=file.missing)
        for i, feature in enumerate(features):
            if feature.category is None:
                inputs[i] = file.present(columns(feature.column)).cast(pl.Float32).alias(feature.name)
    try:
        with file.reading():
            frame = rows.select(*inputs, label).collect(engine="streaming")
            if not file.is_csv or frame.height == file.num_lines:
                return frame
    except UserError:
        if invalid := first_invalid_row(file, features, target, "drop"):
            raise invalid from None
    with file.reading():  # it was a space around a number, a row of nothing but missing values, or alike
        return file.rows.select(*file.inputs(features), label).collect(engine="streaming")


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
