"""Writes the out-of-fold predictions of a cross-validation, next to the rows of its table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from iris_lightning.table import CsvFormat, Table, check_new_columns, result_columns
from iris_lightning.tables.formats import UNREADABLE, TableFile
from iris_lightning.tables.predictions import prediction_columns


class HeldOutRows:
    """All rows and columns of a table.

    They are read before training, because the file may change during it.

    Args:
        table: The table as tensors.
        path: Its file; `None` for Iris.
        csv: How a CSV file is written.

    Raises:
        UserError: If the table already has one of the columns to be added.
    """

    def __init__(self, table: Table, path: str | None, csv: CsvFormat) -> None:
        self.table = table
        self.csv_format: Mapping[str, Any] = {}
        if path is None:
            species = pl.Series(table.class_names).gather(table.targets.numpy())
            frame = pl.DataFrame(table.features.numpy(), table.feature_names)
            self.rows = frame.with_columns(species.alias(table.target))
            return
        file = TableFile(path, csv)
        check_new_columns(result_columns(table.class_names), file.names, file.name)
        self.csv_format = file.csv_format
        with file.reading():
            self.rows = file.rows.collect()

    def write(self, path: Path, probabilities: NDArray[np.float64]) -> None:
        """Writes all columns that CSV can hold, then `prediction` and `probability_<class>`.

        Predictions are empty for rows that were dropped when the table was read.

        Args:
            path: CSV file to write, in the format of the table if that is a CSV file, too.
            probabilities: Shape `(rows, classes)`, one row per row of `table`.
        """
        classes = np.array(self.table.class_names, dtype=object)
        results = prediction_columns(classes, probabilities)
        if self.table.kept is not None:
            kept = pl.Series(self.table.kept.numpy())
            position = pl.when(kept).then(kept.cum_sum() - 1)
            positions = pl.select(position).to_series()
            results = results.select(pl.all().gather(positions))
        rows = self.rows.drop(UNREADABLE)
        everything = pl.concat([rows, results], how="horizontal")
        everything.write_csv(path, **self.csv_format)
