"""A table as tensors."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from iris_lightning.errors import UserError, closest, few

__all__ = ["SEPARATORS", "Table", "check_columns", "check_options", "load_iris_table", "result_columns"]

SEPARATORS = {",": ",", ";": ";", "tab": "\t", "|": "|"}  # of the columns in a CSV file


@dataclass(frozen=True)
class Table:
    """A table as tensors."""

    features: Tensor  # float32, shape (rows, features), in the units of the table (cm for Iris)
    targets: Tensor  # int64, shape (rows,), positions in `class_names`
    feature_names: list[str]
    class_names: list[str]
    target: str  # the column of the classes
    source: str  # what the table is called
    notes: list[str]  # what a user should know of how it was read

    def is_named(self, options: Mapping[str, Any]) -> bool:
        """Whether the features and classes have the names that the options say."""
        names = options.get("feature_names"), options.get("class_names")
        return names == (self.feature_names, self.class_names)

    def check_names(self, options: Mapping[str, Any]) -> None:
        """Refuses a classifier with these options if its names are others, or if it cannot do with missing values."""
        for name, ours in (("feature_names", self.feature_names), ("class_names", self.class_names)):
            if list(theirs := options.get(name, ours)) != ours:
                found = f"{self.source}: its {name} are {few(ours)}, and the classifier's {few(theirs)}"
                raise UserError(f"{found}; expected IrisClassifier(data.feature_names, data.class_names)")
        if self.lacks_values and not options.get("impute", True):
            raise UserError(f"{self.source}: has missing values; expected a classifier with impute=True")

    @cached_property
    def lacks_values(self) -> bool:
        """Whether features are missing, and NaN."""
        return bool(self.features.isnan().any())

    @cached_property
    def sha256(self) -> str:
        """Hash of features and targets: the same for CSV and Parquet of the same rows."""
        content = hashlib.sha256(self.features.numpy().data)
        content.update(self.targets.numpy().data)
        return content.hexdigest()


def result_columns(class_names: Iterable[str]) -> list[str]:
    """Returns the columns that predictions add to a table."""
    return ["prediction", *(f"probability_{name}" for name in class_names)]


def check_columns(parameter: str, names: Sequence[str], columns: Sequence[str], source: str) -> list[str]:
    """Returns the distinct columns that a parameter names."""
    if not names or len(set(names)) < len(names):
        raise UserError(f"expected one or more distinct columns, got {list(names)}", parameter)
    for name in names:
        if name not in columns:
            found = f"no column {name!r} in {source} ({few([repr(column) for column in columns])})"
            match = closest(name, columns)
            raise UserError(found + (f"; did you mean {match!r}?" if match else ""), parameter)
    return list(names)


def check_options(
    path: str | None, target: str | None, missing: str, decimal_comma: bool, separator: str | None, na_values: Any
) -> None:
    """Checks the options of `read_table`; a ValueError says what is allowed, or that Iris is no file."""
    if missing not in ("error", "drop", "mean"):
        raise ValueError(f"missing: expected error, drop or mean, got {missing!r}")
    if separator not in (None, *SEPARATORS):
        raise ValueError(f"separator: expected one of {' '.join(SEPARATORS)} or null, got {separator!r}")
    if isinstance(na_values, str):
        raise ValueError(f"na_values: expected a list of texts, got {na_values!r}")
    written = decimal_comma or separator or na_values is not None
    if path is None and (missing != "error" or written or target not in (None, "species")):
        raise ValueError("path: expected one beside target, missing, decimal_comma, separator or na_values, got null")


def load_iris_table(features: Sequence[str] | None = None) -> Table:
    """Returns scikit-learn's Iris, or some columns of it: 150 flowers, 4 measurements in cm, 3 species."""
    from sklearn.datasets import load_iris  # here: a second of imports that a table of one's own does without

    iris = load_iris()
    names: list[str] = list(iris.feature_names)
    chosen = names if features is None else check_columns("features", features, names, "Iris")
    columns = torch.tensor([names.index(name) for name in chosen])
    values = torch.tensor(iris.data, dtype=torch.float32).index_select(1, columns)
    targets = torch.tensor(iris.target, dtype=torch.int64)
    return Table(values, targets, chosen, [str(name) for name in iris.target_names], "species", "Iris", [])
