"""Reads a CSV or Parquet file as tensors for training."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature, find_features
from iris_lightning.table import Table, check_columns, check_new_columns, result_columns
from iris_lightning.tables.formats import CLASS, Dialect, TableFile, number_columns
from iris_lightning.tables.validation import check_decimals, check_values

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
    """Reads a table with a class column.

    Args:
        path: CSV or Parquet file.
        target: Column of the class; by default `species` if there is one, else the last column.
        features: Columns of the features, or the feature names of a trained model.
        missing: `error`, `drop` (the row) or `mean` (missing features are returned as NaN).
        decimal_comma: Whether numbers are written as `5,1`.
        separator: Column delimiter.
        na_values: Texts that mean a missing value.
        class_names: The classes of a trained model. By default, they are the distinct values of the
            target: whole numbers in numerical order, others in alphabetical order.

    Raises:
        UserError: If the table cannot be used. The message names the column and the row; row 1 is
            the first one below the header.
    """
    file = TableFile(path, Dialect(decimal_comma, separator, na_values))
    with file.reading():
        target, target_reason = _choose_target(file, target)
        if features is None:
            inputs = _default_features(file, target)
        else:
            inputs = _named_features(file, features, target, is_trained=class_names is not None)
        frame = _read_values(file, inputs, target)
        check_values(file, frame.lazy(), inputs, missing, target)
    notes = []
    used = [target]
    for feature in inputs:
        used.append(feature.column)
    left_out = [repr(name) for name in file.names if name not in used]
    if features is None and left_out:
        reason = "since not numbers or without a name"
        hint = "columns of text can be named in features"
        notes.append(f"left out, {reason}: {', '.join(left_out)}; {hint}")
    num_rows = frame.height
    is_complete = frame.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
    num_incomplete = num_rows - is_complete.sum()
    kept = None
    if missing == "drop" and num_incomplete > 0:
        frame = frame.filter(is_complete)
        kept = torch.from_numpy(is_complete.to_numpy(writable=True))
        notes.append(f"dropped {num_incomplete} of {num_rows} rows, which have missing values")
    elif num_incomplete > 0:
        rows = f"{num_incomplete} of {num_rows} rows"
        notes.append(f"missing values in {rows} get the mean of the train split")
    if frame.is_empty():
        raise UserError(f"{path}: has no rows, or none without a missing value")
    names = [feature.name for feature in inputs]
    classes, targets = _encode_classes(frame[CLASS], class_names, f"{path}: column {target!r}")
    check_new_columns(result_columns(classes), names, path)
    values = frame.drop(CLASS).to_numpy(order="c", writable=True)
    tensors = torch.from_numpy(values), torch.from_numpy(targets.to_numpy(writable=True))
    source = Path(path).name
    return Table(*tensors, names, classes, target, source, notes, kept, target_reason)


def _choose_target(file: TableFile, name: str | None) -> tuple[str, str]:
    """Returns the column of the class, and how it was chosen."""
    if name is not None:
        return check_columns("target", [name], file.names, file.name)[0], "as given"
    if "species" in file.names:
        return "species", "found by name"
    *_, last = filter(None, file.names)
    return last, "the last column"


def _default_features(file: TableFile, target: str) -> list[Feature]:
    others = [name for name in file.names if name not in ("", target)]
    check_decimals(file, others)
    features = []
    for name in others:
        if name in file.numeric:
            features.append(Feature(name, name))
    if not features:
        raise UserError(f"{file.name}: has no numbers beside the target {target!r}")
    return features


def _named_features(
    file: TableFile, names: Sequence[str], target: str, is_trained: bool
) -> list[Feature]:
    """Finds features by name; in training, a column of text is split into its categories."""
    if not is_trained:
        categories = [name for name in names if "=" in name]
        check_columns("features", names, [*file.names, *categories], file.name)
    features: list[Feature] = []
    for feature in find_features(names, file.names, file.name):
        if feature.column == target:
            raise UserError(f"{target!r} is the target", "features", remedy=("target", "COLUMN"))
        is_text = feature.category is None and feature.column not in file.numeric
        if is_text and not is_trained:
            features.extend(_categories(file, feature.column))
        else:
            features.append(feature)
    return features


def _categories(file: TableFile, column: str) -> list[Feature]:
    check_decimals(file, [column])
    labels = file.rows.select(file.label(column)).collect(engine="streaming").to_series()
    labels = labels.drop_nulls()
    categories = labels.unique().sort().to_list()
    if not 2 <= len(categories) <= min(MAX_CATEGORIES, len(labels) / 2):
        texts = f"{len(categories)} distinct texts in {len(labels)} rows"
        expected = f"expected numbers, or 2 to {MAX_CATEGORIES} categories"
        raise UserError(f"{file.name}: column {column!r} has {texts}; {expected}", "features")
    features = []
    for category in categories:
        features.append(Feature(f"{column}={category}", column, category))
    return features


def _read_values(file: TableFile, features: Sequence[Feature], target: str) -> pl.DataFrame:
    """Reads the features, float32, and the class."""
    with contextlib.suppress(PolarsError):  # a number that polars does not accept, such as ` 1`
        frame = _collect(file.parsed(number_columns(features)), features, target)
        is_blank = pl.all_horizontal(pl.all().is_null())
        if not frame.select(is_blank.any()).item():
            return frame
    return _collect(file, features, target)


def _collect(file: TableFile, features: Sequence[Feature], target: str) -> pl.DataFrame:
    inputs = file.inputs(features, target)
    return inputs.cast({CLASS: pl.Categorical}).collect(engine="streaming")


def _encode_classes(
    labels: pl.Series, class_names: Sequence[str] | None, place: str
) -> tuple[list[str], pl.Series]:
    """Returns the names of the classes, and the position of each label in them."""
    found = labels.unique().cast(pl.String).to_list()
    if class_names is None:
        class_names = _sort_classes(found, len(labels), place)
    classes = list(class_names)
    unknown = sorted(set(found).difference(classes))
    if unknown:
        raise UserError(
            f"{place} has the unknown class {unknown[0]!r}; known: {join_names(classes)}"
        )
    positions = labels.cast(pl.String).cast(pl.Enum(classes)).to_physical()
    return classes, positions.cast(pl.Int64)


def _sort_classes(found: list[str], num_rows: int, place: str) -> list[str]:
    if len(found) < 2:
        raise UserError(f"{place} has one class only ({found[0]!r}); expected two or more")
    if len(found) > num_rows / 2:
        values = f"{len(found)} distinct values in {num_rows} rows"
        raise UserError(f"{place} has {values}; expected several rows of each class")
    try:
        classes = sorted(found, key=float)
    except ValueError:
        return sorted(found)
    if not all(float(name).is_integer() for name in classes):
        expected = "expected classes: text, whole numbers or booleans"
        raise UserError(f"{place} looks continuous; {expected}")
    return classes
