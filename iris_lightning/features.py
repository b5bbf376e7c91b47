"""The features of a network and the table columns they come from."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from iris_lightning.errors import UserError, did_you_mean, join_names
from iris_lightning.network import IRIS_FEATURES

NA_VALUES = ("NA", "N/A", "NaN", "null", "None", "?")  # texts that mean a missing value

# Short names of Iris's features: `sepal_length` for scikit-learn's `sepal length (cm)`.
SHORT_NAMES = {name: name.removesuffix(" (cm)").replace(" ", "_") for name in IRIS_FEATURES}


class Feature(NamedTuple):
    """An input of the network.

    Attributes:
        name: Name of the feature.
        column: The table's column.
        category: The feature is 1 where the column holds this category, else 0. `None` for a column
            of numbers, which are used unchanged.
    """

    name: str
    column: str
    category: str | None = None


def missing_texts(na_values: Iterable[str | float | None] | None) -> set[str]:
    """Returns the texts that mean a missing value: the empty text and `na_values`.

    Values that are not texts, such as `None`, stand for their spellings in Python and YAML.
    """
    if na_values is None:
        na_values = NA_VALUES
    return {"", *map(str, na_values), *map(json.dumps, na_values)}


def normalize(text: str) -> str:
    """Returns a name without surrounding spaces, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text.strip())


def categories_by_column(features: Iterable[Feature]) -> dict[str, list[str]]:
    """Returns the categories of each column: an empty list for a column of numbers."""
    categories: dict[str, list[str]] = {}
    for feature in features:
        known = categories.setdefault(feature.column, [])
        if feature.category is not None:
            known.append(feature.category)
    return categories


def number_columns(features: Iterable[Feature]) -> set[str]:
    """Returns the columns of numbers."""
    categories = categories_by_column(features)
    return {column for column in categories if not categories[column]}


def find_features(names: Iterable[str], columns: Sequence[str], source: str) -> list[Feature]:
    """Finds the columns of features in a table.

    Args:
        names: Names of features: a column, or `column=category`. Columns of Iris can be called
            `sepal_length` or `sepal length (cm)`.
        columns: Columns of the table.
        source: Name of the table, for messages.

    Raises:
        UserError: If a column is missing.
    """
    columns_by_short_name = {SHORT_NAMES.get(column, column): column for column in columns}
    return [_find_feature(name, columns_by_short_name, source) for name in names]


def missing_column(
    name: str, columns: Sequence[str], source: str, parameter: str | None = None
) -> UserError:
    """Returns the error for a column that a table does not have."""
    known = join_names([*map(repr, columns)])
    message = f"{source} has no column {name!r}; found {known}"
    return UserError(message + did_you_mean(name, columns), parameter)


def _find_feature(name: str, columns_by_short_name: Mapping[str, str], source: str) -> Feature:
    column = name
    category: str | None = None
    while True:
        short = SHORT_NAMES.get(column, column)
        if short in columns_by_short_name:
            return Feature(name, columns_by_short_name[short], category)
        if "=" not in column:
            raise missing_column(column, list(columns_by_short_name.values()), source)
        column = column.rpartition("=")[0]  # columns and categories may contain "=", too
        category = name.removeprefix(f"{column}=")
