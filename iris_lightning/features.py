"""The features of a network and the table columns they come from."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from iris_lightning.errors import UserError, closest, join_names
from iris_lightning.network import IRIS_FEATURES

NA_VALUES = ("NA", "N/A", "NaN", "null", "None", "?")  # texts that mean a missing value
WHOLE_DECIMAL = r"^([+-]?\d+)\.0*$"  # such as 1.0

# Other names of Iris's features: `sepal_length` for scikit-learn's `sepal length (cm)`.
IRIS_SPELLINGS = {name: name.removesuffix(" (cm)").replace(" ", "_") for name in IRIS_FEATURES}


class Feature(NamedTuple):
    """An input of the network.

    Attributes:
        name: Name of the feature.
        column: The table's column.
        category: The feature is 1 where the column holds this category, else 0. `None` for a column
            of numbers, which is used as it is.
    """

    name: str
    column: str
    category: str | None = None


def category_names(feature: Feature, features: Sequence[Feature]) -> list[str]:
    """Returns all categories of a feature's column that the network knows."""
    names = []
    for other in features:
        if other.column == feature.column:
            names.append(str(other.category))
    return names


def missing_texts(na_values: Iterable[str | float | None] | None = None) -> set[str]:
    """Returns the texts that mean a missing value: the empty text and `na_values`."""
    if na_values is None:
        na_values = NA_VALUES
    return {"", *map(str, na_values)}


def normalize(text: str) -> str:
    """Returns a name or label without surrounding spaces, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text.strip())


def to_label(value: object, na_values: Iterable[str | float | None] | None = None) -> str | None:
    """Formats a class or category as text, so that `1.0` equals `1` and `True` equals `true`.

    Args:
        value: A cell of a table.
        na_values: Texts that mean a missing value, by default `NA_VALUES`.

    Returns:
        The text, or `None` for a missing value.
    """
    text = normalize(str(value))
    label = text.lower()
    if label not in ("true", "false"):
        label = re.sub(WHOLE_DECIMAL, r"\1", text)
    missing = missing_texts(na_values)
    if not isinstance(value, str):
        missing |= {"None", "nan", "NaT", "<NA>"}  # from Python, NumPy and pandas
    if missing & {text, label}:
        return None
    return label


def find_features(names: Iterable[str], columns: Sequence[str], source: str) -> list[Feature]:
    """Finds the columns of features in a table.

    Args:
        names: Names of features: either columns, in any spelling of Iris, or `column=category`.
        columns: Columns of the table.
        source: Name of the table, for messages.

    Raises:
        UserError: If a column is missing.
    """
    spellings = {}
    for column in columns:
        spellings[IRIS_SPELLINGS.get(column, column)] = column
    spellings.update(zip(columns, columns, strict=True))
    features = []
    for name in names:
        feature = _find_feature(name, spellings)
        if feature is None:
            column, *_ = name.split("=")
            raise missing_column(column, columns, source)
        features.append(feature)
    return features


def missing_column(
    name: str, columns: Sequence[str], source: str, parameter: str | None = None
) -> UserError:
    """Returns the error for a column that a table does not have."""
    known = join_names([repr(column) for column in columns])
    message = f"{source} has no column {name!r}; found {known}"
    match = closest(name, columns)
    if match is not None:
        message += f"; did you mean {match!r}?"
    return UserError(message, parameter)


def _find_feature(name: str, spellings: Mapping[str, str]) -> Feature | None:
    column = spellings.get(name, spellings.get(IRIS_SPELLINGS.get(name, name)))
    if column is not None:
        return Feature(name, column)
    parts = name.split("=")
    for i in range(len(parts) - 1, 0, -1):  # columns and categories may contain `=`, too
        column = "=".join(parts[:i])
        if column in spellings:
            return Feature(name, spellings[column], "=".join(parts[i:]))
    return None
