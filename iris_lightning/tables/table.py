"""A table as tensors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from iris_lightning.errors import UserError, closest, few

__all__ = ["Table", "check_columns", "load_iris_table"]


@dataclass(frozen=True)
class Table:
    """A table as tensors.

    Attributes:
        features: float32, shape `(rows, features)`, in the units of the table (cm for Iris).
        targets: int64, shape `(rows,)`, positions in `class_names`.
        feature_names: The columns of `features`.
        class_names: The classes, in the order of the logits.
        target: The column that `targets` was read from.
        source: What the table is called.
        notes: What a user should know of how it was read.
    """

    features: Tensor
    targets: Tensor
    feature_names: list[str]
    class_names: list[str]
    target: str
    source: str
    notes: list[str]

    def describe_rarest(self) -> str:
        """Returns the class with the fewest rows, for a message."""
        counts = self.targets.bincount(minlength=len(self.class_names))
        rarest = self.class_names[int(counts.argmin())]
        return f"{self.source}: column {self.target!r}, class {rarest!r} has {int(counts.min())} rows"

    def check_names(self, options: Mapping[str, Any]) -> None:
        """Refuses a classifier whose `feature_names` or `class_names` are others.

        Raises:
            UserError: If the classifier is one of another table.
        """
        for name, ours in (("feature_names", self.feature_names), ("class_names", self.class_names)):
            if list(theirs := options.get(name, ours)) != ours:
                raise UserError(
                    f"{self.source}: its {name} are {few(ours)}, and the classifier's {few(theirs)}; "
                    "expected IrisClassifier(data.feature_names, data.class_names)"
                )

    @cached_property
    def sha256(self) -> str:
        """Hash of features and targets: the same for CSV and Parquet of the same rows."""
        content = hashlib.sha256(self.features.numpy().data)
        content.update(self.targets.numpy().data)
        return content.hexdigest()


def check_columns(parameter: str, names: Sequence[str], columns: Sequence[str], source: str) -> list[str]:
    """Returns the columns that a parameter names.

    Raises:
        UserError: If the table has no such column, or if they are not distinct.
    """
    if not names or len(set(names)) < len(names):
        raise UserError(f"expected one or more distinct columns, got {list(names)}", parameter)
    for name in names:
        if name not in columns:
            hint = f"{closest(name, columns)} (it has {few(columns)})"
            raise UserError(f"no column {name!r} in {source}{hint}", parameter)
    return list(names)


def load_iris_table(features: Sequence[str] | None = None) -> Table:
    """Returns scikit-learn's Iris: 150 flowers, 4 measurements in cm, 3 species.

    Args:
        features: Columns to take; by default all.
    """
    from sklearn.datasets import load_iris  # here: a second of imports that a table of one's own does without

    iris = load_iris()
    names: list[str] = list(iris.feature_names)
    chosen = names if features is None else check_columns("features", features, names, "Iris")
    columns = torch.tensor([names.index(name) for name in chosen])
    values = torch.tensor(iris.data, dtype=torch.float32).index_select(1, columns)
    targets = torch.tensor(iris.target, dtype=torch.int64)
    return Table(values, targets, chosen, [str(name) for name in iris.target_names], "species", "Iris", [])
