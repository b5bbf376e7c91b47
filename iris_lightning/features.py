"""The features of a network, and the columns of a table that they stand for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from iris_lightning.errors import UserError, few
from iris_lightning.network import IRIS_FEATURES

__all__ = ["NA_VALUES", "WHOLE", "Feature", "categories_of", "find_features", "label_of"]

NA_VALUES = ("NA", "N/A", "NaN", "null", "None", "?")  # texts that mean no value, beside the empty one
WHOLE = r"^([+-]?\d+)\.0*$"  # a whole number, however it is written


class Feature(NamedTuple):
    """An input of the network: the numbers of a column, or 1 where a column of text holds a category, else 0."""

    name: str
    column: str
    category: str | None = None


def categories_of(feature: Feature, features: Sequence[Feature]) -> list[str]:
    """Returns the categories that the network knows of the column of a feature."""
    return [str(other.category) for other in features if other.column == feature.column]


def label_of(value: object, na_values: Iterable[str | float | None] | None = None) -> str | None:
    """Returns a class or category as text, or `None` for a missing one: `1.0` as `1`, `True` as `true`."""
    text = str(value).strip()
    label = text.lower() if text.lower() in ("true", "false") else re.sub(WHOLE, r"\1", text)
    missing = {"null" if item is None else str(item) for item in (NA_VALUES if na_values is None else na_values)} | {""}
    none = {"None", "nan", "NaT", "<NA>"} if not isinstance(value, str) else set()
    return None if {text, label} & (missing | none) else label


def find_features(names: Iterable[str], columns: Sequence[str], source: str) -> list[Feature]:
    """Returns the features with these names: a column, by Iris' other spelling, too, or `column=category`."""
    spelled = {_underscored(column): column for column in columns}
    found = {name: _find(name, columns, spelled) for name in names}
    if missing := [repr(name) for name, feature in found.items() if feature is None]:
        raise UserError(f"{source} has no column {few(missing)}; found {few([repr(name) for name in columns])}")
    return [feature for feature in found.values() if feature]


def _find(name: str, columns: Sequence[str], spelled: Mapping[str, str]) -> Feature | None:
    if name in columns or _underscored(name) in spelled:
        return Feature(name, name if name in columns else spelled[_underscored(name)])
    for i in [i for i, character in enumerate(name) if character == "="][::-1]:
        if name[:i] in columns:
            return Feature(name, name[:i], name[i + 1 :])
    return None


def _underscored(name: str) -> str:
    """Turns scikit-learn's names of Iris' features into `sepal_length` and the like, and leaves others as they are."""
    return name.removesuffix(" (cm)").replace(" ", "_") if name in IRIS_FEATURES else name
