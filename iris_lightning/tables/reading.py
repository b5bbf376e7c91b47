"""Reads a CSV or Parquet file as tensors for training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import torch
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature, categories_by_column, find_features
from iris_lightning.table import (
    Column,
    CsvFormat,
    Table,
    check_columns,
    check_new_columns,
    result_columns,
)
from iris_lightning.tables.columns import find_columns
from iris_lightning.tables.formats import CLASS, MISSING, TableFile
from iris_lightning.tables.validation import (
    check_decimal_mark,
    check_header,
    check_values,
    notes_on_values,
)

USED_ROLES = ("number", "category")
TARGET_NAMES = ("species", "class", "target", "label")
# A target with more distinct numbers needs ten rows per number, on average.
MAX_NUMBERED_CLASSES = 50


def read_table(
    path: str,
    csv: CsvFormat,
    target: str | None = None,
    features: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    categorical: Sequence[str] = (),
    missing: str = "mean",
    class_names: Sequence[str] | None = None,
    fills_categories: bool = True,
) -> Table:
    """Reads a table with a class column.

    Args:
        path: CSV or Parquet file.
        csv: How a CSV file is written.
        target: Column of the class; see `IrisDataModule`.
        features: Columns of the features, or the feature names of a trained model.
        exclude: Columns that are not features.
        categorical: Columns to treat as categories, even if they hold numbers.
        missing: `mean` keeps missing numbers as NaN, `drop` drops their rows, `error` raises.
        class_names: The classes of a trained model. By default, the distinct values of the target:
            whole numbers in numerical order, texts in alphabetical order.
        fills_categories: Whether a missing category is encoded as all 0 instead of NaN.

    Raises:
        UserError: If the table cannot be used. Messages name the column and the row, counted from 1
            below the header.
    """
    file = TableFile(path, csv)
    with file.reading():
        if file.sample.is_empty():
            raise UserError(f"{file.name}: has no rows")
        target, target_reason = _choose_target(file, target)
        check_columns("categorical", categorical, file.names, path)
        columns = find_columns(file, target, categorical)
        check_header(file, columns, target)
        wanted = categories_by_column(find_features(features or file.names, file.names, path))
        check_decimal_mark(file, wanted.keys() - {target, *categorical, *exclude})
        if class_names is not None:  # of a trained model, whose features are given, too
            inputs = find_features(features or (), file.names, path)
        else:
            inputs = _choose_features(file, columns, features, exclude)
        names = [feature.name for feature in inputs]
        options = inputs, target, fills_categories
        try:
            rows = file.open_plain(inputs, target)
            frame = file.inputs(rows, *options).collect(engine="streaming")
            if frame[CLASS].has_nulls():
                raise PolarsError  # perhaps blank rows, which are left out below
        except PolarsError:
            file.check_width()
            frame = file.inputs(file.rows, *options).collect(engine="streaming")
        labels, found = _labels(file, frame[CLASS])
        columns[target] = columns[target]._replace(categories=found)
        frame = frame.with_columns(labels)
        check_values(file, frame.lazy(), inputs, missing != "error")
        used = {name: columns[name] for name in categories_by_column(inputs)}
        used[target] = columns[target]
        notes = file.notes + notes_on_values(file, frame, used)
    if features is None:
        notes += _notes_on_columns(columns, exclude)
    frame, kept, dropped = _drop_rows(frame, missing)
    notes += dropped
    if frame.is_empty():
        raise UserError(f"{path}: no rows are left: all lack a class or have missing values")
    place = f"{path}: column {target!r} ({target_reason})"
    classes, targets = _encode_classes(frame[CLASS], class_names, place)
    check_new_columns(result_columns(classes), names, path)
    values = frame[names].cast(pl.Float32)
    return Table(
        torch.from_numpy(values.to_numpy(order="c", writable=True)),
        targets.to_torch(),
        names,
        classes,
        target,
        Path(path).name,
        notes,
        kept,
        target_reason,
        [*columns.values()],
    )


def _choose_target(file: TableFile, name: str | None) -> tuple[str, str]:
    """Returns the target column and how it was chosen."""
    if name is not None:
        check_columns("target", [name], file.names, file.name)
        return name, "as given"
    lower = [column.lower() for column in file.names]
    for usual in TARGET_NAMES:
        if usual in lower:
            return file.names[lower.index(usual)], "found by name"
    for last in reversed(file.names):
        if file.sample[last].count():
            break
    return last, "the last column; --data.target to change"


def _choose_features(
    file: TableFile,
    columns: Mapping[str, Column],
    names: Sequence[str] | None,
    exclude: Sequence[str],
) -> list[Feature]:
    """Returns the features: those named, else all columns of numbers and categories."""
    check_columns("exclude", exclude, file.names, file.name)
    if names is None:
        names = [name for name, column in columns.items() if column.role in USED_ROLES]
    features: list[Feature] = []
    for feature in find_features(names, file.names, file.name):
        name = feature.column
        column = columns[name]
        if name in exclude:
            continue
        is_number = name in file.numeric and column.role != "inexact" and feature.category is None
        if column.role == "category" and feature.category is None:
            for category in column.categories:
                features.append(Feature(f"{name}={category}", name, category))
        elif column.role != "target" and (is_number or feature.category in column.categories):
            features.append(feature)
        else:
            found = f"{file.name}: {feature.name!r} cannot be a feature"
            raise UserError(f"{found}: {column.reason}", "features")
    if not features:
        reasons = "; ".join(_notes_on_columns(columns, exclude))
        raise UserError(f"{file.name}: no column can be a feature; {reasons}".rstrip("; "))
    return features


def _notes_on_columns(columns: Mapping[str, Column], exclude: Sequence[str]) -> list[str]:
    """Returns notes on the columns that are left out, one per reason."""
    left_out: dict[str, list[str]] = {}
    for name, column in columns.items():
        if column.role not in ("target", *USED_ROLES) and name not in exclude:
            left_out.setdefault(column.reason, []).append(repr(name))
    notes = []
    for reason, names in left_out.items():
        notes.append(f"left out ({reason}): {join_names(names)}")
    return notes


def _labels(file: TableFile, cells: pl.Series) -> tuple[pl.Series, list[str]]:
    """Returns the class of each row, and all classes; parsing only distinct cells is faster."""
    distinct = cells.unique()
    labels = distinct.to_frame().select(file.labels(CLASS)).to_series()
    classes = labels.drop_nulls().unique().sort()
    kind = pl.Enum(classes)
    return cells.replace_strict(distinct, labels, return_dtype=kind), classes.to_list()


def _drop_rows(
    frame: pl.DataFrame, missing: str
) -> tuple[pl.DataFrame, torch.Tensor | None, list[str]]:
    """Drops rows without a class, and rows with missing values if `missing` is `drop`.

    Returns:
        The rows that are left, a mask of them (`None` if all are left), and notes.
    """
    notes = []
    keep = frame[CLASS].is_not_null()
    without_class = frame[CLASS].null_count()
    if without_class:
        notes.append(f"dropped {without_class} of {frame.height} rows, which have no class")
    is_missing = frame[MISSING] & keep
    if is_missing.any():
        rows = f"{is_missing.sum()} of {frame.height} rows"
        if missing == "drop":
            keep &= ~is_missing
            notes.append(f"dropped {rows}, which have missing values")
        else:
            effect = "numbers get the train split's mean, categories all 0"
            notes.append(f"{rows} have missing values: {effect}")
    if keep.all():
        return frame, None, notes
    return frame.filter(keep), keep.to_torch(), notes


def _encode_classes(
    labels: pl.Series, class_names: Sequence[str] | None, place: str
) -> tuple[list[str], pl.Series]:
    """Returns the class names, and the position of each label in them."""
    found = labels.unique().cast(pl.String).sort().to_list()
    if class_names is None:
        class_names = _sort_classes(found, len(labels), place)
    classes = list(class_names)
    unknown = sorted(set(found).difference(classes))
    if unknown:
        raise UserError(
            f"{place} has the unknown class {unknown[0]!r}; known: {join_names(classes)}"
        )
    positions = labels.cast(pl.Enum(classes)).to_physical()
    return classes, positions.cast(pl.Int64)


def _sort_classes(found: list[str], num_rows: int, place: str) -> list[str]:
    if len(found) < 2:
        raise UserError(f"{place} has only one class ({found[0]!r}); expected two or more")
    has_too_many = len(found) > num_rows / 2
    try:
        classes = sorted(found, key=float)
    except ValueError:
        classes = sorted(found)
    else:
        has_fractions = not all(float(name).is_integer() for name in classes)
        has_few_rows = len(found) > MAX_NUMBERED_CLASSES and num_rows < 10 * len(found)
        has_too_many = has_too_many or has_fractions or has_few_rows
    if has_too_many:
        message = f"{place} holds {len(found)} distinct values in {num_rows} rows"
        raise UserError(
            f"{message}; classification needs classes: texts or whole numbers in several rows each",
            remedy=("target", "COLUMN"),
        )
    return classes
