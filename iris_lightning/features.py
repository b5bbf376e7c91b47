"""The features of a network and the table columns they come from."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from iris_lightning.errors import UserError, closest, join_names
from iris_lightning.network import IRIS_FEATURES

if TYPE_CHECKING:
    import polars as pl

NA_VALUES = ("NA", "N/A", "NaN", "null", "None", "?")  # texts that mean a missing value
WHOLE_DECIMAL = r"^([+-]?\d+)\.0*$"  # such as 1.0

# Alternative names of Iris's features: `sepal_length` for scikit-learn's `sepal length (cm)`.
IRIS_SPELLINGS = {name: name.removesuffix(" (cm)").replace(" ", "_") for name in IRIS_FEATURES}


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


def missing_texts(na_values: Iterable[str | float | None] | None = None) -> set[str]:
    """Returns the texts that mean a missing value: the empty text and `na_values`."""
    if na_values is None:
        na_values = NA_VALUES
    return {"", *map(str, na_values)}


def normalize(text: str) -> str:
    """Returns a name without surrounding spaces, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text.strip())


def to_labels(texts: "pl.Expr", missing: Collection[str]) -> "pl.Expr":
    """Normalizes classes or categories, so that `1.0` equals `1` and `True` equals `true`.

    Args:
        texts: Cells of the table, as text.
        missing: Texts that mean a missing value, which becomes null.
    """
    import polars as pl

    texts = texts.str.strip_chars().str.normalize("NFC")
    lower = texts.str.to_lowercase()
    labels = texts.str.replace(WHOLE_DECIMAL, "${1}")
    labels = pl.when(lower.is_in(["true", "false"])).then(lower).otherwise(labels)
    is_missing = texts.is_in(missing) | labels.is_in(missing)
    return pl.when(~is_missing).then(labels)


def find_features(names: Iterable[str], columns: Sequence[str], source: str) -> list[Feature]:
    """Finds the columns of features in a table.

    Args:
        names: Names of features: columns (also by another name of an Iris feature), or
            `column=category`.
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
    for i in range(len(parts) - 1, 0, -1):  # columns and categories may also contain `=`
        column = "=".join(parts[:i])
        if column in spellings:
            return Feature(name, spellings[column], "=".join(parts[i:]))
    return None
