"""A table as tensors."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import find_features, missing_column

# Column delimiters of CSV files. `;` comes first: if rows have as many `,` as `;`, each `,`
# is a decimal comma.
SEPARATORS = {";": ";", ",": ",", "tab": "\t", "|": "|"}


class TableWarning(UserWarning):
    """A note on how a table was read."""


@dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written.

    Args:
        separator: Column delimiter (detected by default): `, ; tab |`
        decimal_comma: Whether numbers are written with a decimal comma, as in `5,1`.
        na_values: Texts that mean a missing value, besides the empty cell; by default NA, N/A, NaN,
            null, None and ?.
        encoding: Encoding, such as latin-1. By default UTF-8, or UTF-16 or UTF-32 with a byte order
            mark; a file in none of these is read as Windows-1252.
        header: Whether the first row holds the column names; otherwise, the columns are called
            column_1, column_2 and so on.
    """

    separator: Literal[",", ";", "tab", "|"] | None = None
    decimal_comma: bool | None = None
    na_values: list[str | int | float | bool | None] | None = None
    encoding: str | None = None
    header: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.na_values, str):
            raise ValueError(f"na_values: expected a list of texts, got {self.na_values!r}")


class Column(NamedTuple):
    """A column of a table file.

    Attributes:
        name: Name of the column.
        role: `target`, `number`, `category`, `identifier`, `date`, `text`, `constant`, `empty`, or
            `inexact` (distinct numbers that are equal in float32).
        reason: Reason for the role.
        categories: The distinct labels, sorted; empty for a column of numbers. For free text and
            dates, perhaps only those of the first rows.
    """

    name: str
    role: str
    reason: str
    categories: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table as tensors.

    Attributes:
        features: Float32, shape `(rows, features)`, in the table's units (cm for Iris).
        targets: Positions in `class_names`, int64, shape `(rows,)`.
        feature_names: Names of the features.
        class_names: Names of the classes.
        target: The column of the classes.
        source: Name of the table, for messages.
        notes: Notes for the user on how the table was read.
        kept: Boolean mask of the file's rows that were kept; `None` if no row was dropped.
        target_reason: How `target` was chosen.
        columns: All columns of the file, with their roles.
    """

    features: Tensor
    targets: Tensor
    feature_names: list[str]
    class_names: list[str]
    target: str
    source: str
    notes: list[str]
    kept: Tensor | None = None
    target_reason: str = "found by name"
    columns: Sequence[Column] = ()

    def describe(self) -> list[str]:
        """Describes the features, the classes and how the table was read, as lines of text."""
        features = f"{len(self.feature_names)} features: {join_names(self.feature_names)}"
        classes = (
            f"{len(self.class_names)} classes in {self.target!r} ({self.target_reason}): "
            f"{join_names(self.class_names)}; the largest has {majority_share(self.targets):.1%} "
            f"of the rows, the smallest {self.targets.bincount().min()} rows"
        )
        return [features, classes, *(f"{self.source}: {note}" for note in self.notes)]

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises an error unless a classifier with these options can use the table."""
        for name in ("feature_names", "class_names"):
            ours = getattr(self, name)
            theirs = list(options.get(name, ours))
            if theirs != ours:
                found = f"its {name} are {join_names(ours)}; the classifier's: {join_names(theirs)}"
                expected = "expected IrisClassifier(data.feature_names, data.class_names)"
                raise UserError(f"{self.source}: {found}; {expected}")
        if not options.get("impute", True) and self.features.isnan().any():
            expected = "expected a classifier with impute=True"
            raise UserError(f"{self.source}: has missing values; {expected}")

    @property
    def one_hot_features(self) -> list[str]:
        """Names of the features that encode categories as 0 and 1."""
        encoded: set[str] = set()
        for column in self.columns:
            encoded.update(f"{column.name}={category}" for category in column.categories)
        return [name for name in self.feature_names if name in encoded]

    @property
    def roles(self) -> dict[str, str]:
        """The role of each column of the file."""
        return {column.name: column.role for column in self.columns}

    def count_repeated_rows(self, train: Tensor, test: Tensor) -> int:
        """Counts the test rows that equal a train row in all features and the class.

        Args:
            train: Row numbers of the train split, int64.
            test: Row numbers of the test split, int64.
        """
        rows = torch.cat([self.features, self.targets.unsqueeze(1)], dim=1)
        generator = torch.Generator().manual_seed(0)
        factors = torch.randint(2**62, rows.shape[1:], generator=generator)
        # Identical rows have equal hashes; a collision of others is all but impossible.
        hashes = (rows.view(torch.int32) * factors).sum(dim=1)
        return int(torch.isin(hashes[test], hashes[train]).sum())

    @cached_property
    def sha256(self) -> str:
        """Hash of features and targets, which does not depend on the file format."""
        digest = hashlib.sha256(self.features.numpy().data)
        digest.update(self.targets.numpy().data)
        return digest.hexdigest()


def majority_share(targets: Tensor) -> float:
    """Returns the accuracy of always predicting the most frequent class."""
    return int(targets.bincount().max()) / len(targets)


def result_columns(class_names: Iterable[str]) -> list[str]:
    """Returns the names of the columns that predictions add to a table."""
    return ["prediction", *(f"probability_{name}" for name in class_names)]


def check_new_columns(new: Iterable[str], columns: Sequence[str], source: str) -> None:
    """Raises an error if a table already has one of the columns to be added."""
    for name in new:
        if name in columns:
            raise UserError(f"{source}: has a column {name!r} already; rename it")


def check_columns(
    parameter: str, names: Iterable[str], columns: Sequence[str], source: str
) -> None:
    """Raises an error if a table does not have the columns named by a parameter."""
    for name in names:
        if name not in columns:
            raise missing_column(name, columns, source, parameter)


def load_iris_table(features: Sequence[str] | None = None) -> Table:
    """Returns scikit-learn's Iris: 150 flowers, 4 measurements in cm, 3 species.

    Args:
        features: Names of the measurements to return; by default all.
    """
    from sklearn.datasets import load_iris  # takes a second to import

    iris = load_iris()
    names = list(iris.feature_names)
    chosen = list(features or names)
    found = find_features(chosen, names, "Iris")
    positions = [names.index(feature.column) for feature in found]
    values = torch.tensor(iris.data.take(positions, axis=1), dtype=torch.float32)
    targets = torch.tensor(iris.target, dtype=torch.int64)
    classes = [str(name) for name in iris.target_names]
    columns = [Column(name, "number", "numbers") for name in names]
    columns.append(Column("species", "target", "it is the class"))
    return Table(values, targets, chosen, classes, "species", "Iris", [], columns=columns)
