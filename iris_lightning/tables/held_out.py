"""The table of a cross-validation with the predictions for its rows while held out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from iris_lightning.tables.formats import Dialect, TableFile
from iris_lightning.tables.table import Table, check_new_columns, load_iris_table, result_columns


class HeldOutRows:
    """All rows and columns of a table, read before training, since the file may change meanwhile.

    Args:
        table: The table as tensors.
        options: Those of its `IrisDataModule`, which say how it is read.

    Raises:
        UserError: If a column has the name of one that predictions add.
    """

    def __init__(self, table: Table, options: Mapping[str, Any]) -> None:
        self.table = table
        self.csv_format: dict[str, Any] = {}
        if options["path"] is None:
            self.rows = _iris_rows()
            return
        dialect = Dialect(options["decimal_comma"], options["separator"], options["na_values"])
        file = TableFile(options["path"], dialect)
        check_new_columns(result_columns(table.class_names), file.names, file.name)
        self.csv_format = file.csv_format
        with file.reading():
            self.rows = file.rows.collect()

    def write(self, path: Path, probabilities: NDArray[np.float64]) -> None:
        """Writes every row with its columns, then `prediction` and `probability_<class>`.

        These are empty for rows that were dropped since they have missing values.

        Args:
            path: CSV file to write, in the format of the table's own if that is one.
            probabilities: Those of the classes for each row of the table as tensors, shape
                `(rows, classes)`.
        """
        classes = np.array(self.table.class_names, dtype=object)
        likeliest = classes[probabilities.argmax(axis=1)]
        first, *others = result_columns(classes)
        results = pl.DataFrame(probabilities, others)
        results.insert_column(0, pl.Series(first, likeliest, dtype=pl.String))
        if self.table.kept is not None:
            kept = pl.Series(self.table.kept.numpy())
            places = pl.select(pl.when(kept).then(kept.cum_sum() - 1)).to_series()
            results = results.select(pl.all().gather(places))
        rows = self.rows
        for name in rows.select(cs.nested() | cs.duration() | cs.binary()).columns:
            texts = map(str, rows[name].to_list())  # CSV has no such type
            rows = rows.with_columns(pl.Series(name, texts))
        pl.concat([rows, results], how="horizontal").write_csv(path, **self.csv_format)


def _iris_rows() -> pl.DataFrame:
    iris = load_iris_table()
    rows = pl.DataFrame(iris.features.numpy(), iris.feature_names)
    species = [iris.class_names[i] for i in iris.targets.tolist()]
    return rows.with_columns(pl.Series(iris.target, species))
