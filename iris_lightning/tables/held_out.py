"""The table of a cross-validation with what was predicted for each row when it was held out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.datatypes.classes import NumericType

from iris_lightning.errors import UserError
from iris_lightning.features import find_features
from iris_lightning.tables.formats import Dialect, TableFile
from iris_lightning.tables.table import Table, load_iris_table, result_columns

__all__ = ["HeldOutRows"]

WRITABLE = (NumericType, pl.String, pl.Boolean, pl.Date, pl.Datetime, pl.Time, pl.Categorical, pl.Enum, pl.Null)


class HeldOutRows:
    """All rows and columns of a table, read before the training: the file may change meanwhile.

    Args:
        table: The table as tensors; a UserError says if it has columns with the names of those that are added.
        options: Those of its `IrisDataModule`, which say how it is read.
    """

    def __init__(self, table: Table, options: Mapping[str, Any]) -> None:
        self.class_names = table.class_names
        self.names = result_columns(table.class_names)
        self.places: pl.Series | None = None  # in `table`, of each row; none where rows were left out
        self.how: dict[str, Any] = {}
        if options["path"] is None:
            kinds = [table.class_names[i] for i in table.targets.tolist()]
            iris = load_iris_table()  # also where not all of its columns are features
            rows = pl.DataFrame(iris.features.numpy(), iris.feature_names, orient="row")
            self.rows = rows.with_columns(pl.Series(table.target, kinds))
            return
        file = TableFile(options["path"], Dialect(*(options[name] for name in Dialect._fields)))
        if taken := [name for name in self.names if name in file.header]:
            raise UserError(f"{table.source}: has a column {taken[0]!r} already; rename it")
        frame = file.rows.collect()
        self.how = {"separator": file.separator, "decimal_comma": file.dialect.decimal_comma}
        if len(table.targets) < len(frame):  # in which no value that is needed is missing
            features = find_features(table.feature_names, file.names, table.source)
            needed = [*file.inputs(features), file.text(table.target)]
            whole = pl.all_horizontal(value.is_not_null() for value in needed)
            self.places = frame.select(pl.when(whole).then(whole.cum_sum().cast(pl.Int64) - 1)).to_series()
        self.rows = frame.rename(dict(zip(file.names, file.header, strict=True)))

    def write(self, path: Path, probabilities: NDArray[np.float64]) -> None:
        """Writes every row with its columns, then `prediction` and `probability_<class>`.

        Rows that were left out since they have missing values get none.

        Args:
            path: CSV file to write, in the dialect of the table's own if that is one.
            probabilities: Those of the classes for each row of the table as tensors, shape `(rows, classes)`.
        """
        predictions = [self.class_names[i] for i in probabilities.argmax(axis=1)]
        columns = [pl.Series(name, own) for name, own in zip(self.names[1:], probabilities.T, strict=True)]
        new = pl.DataFrame([pl.Series(self.names[0], predictions, dtype=pl.String), *columns])
        if self.places is not None:
            new = new.select(pl.all().gather(self.places))
        odd = [name for name, kind in self.rows.schema.items() if not isinstance(kind, WRITABLE)]  # such as lists
        texts = [pl.Series(name, map(str, self.rows[name].to_list()), dtype=pl.String) for name in odd]
        pl.concat([self.rows.with_columns(texts), new], how="horizontal").write_csv(path, **self.how)
