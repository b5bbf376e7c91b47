"""Predictions for the rows of a table, streamed in bounded memory."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError
from iris_lightning.features import Feature, find_features
from iris_lightning.files import atomic_write, check_output
from iris_lightning.tables.formats import (
    CLASS,
    FORMATS,
    SUFFIXES,
    Dialect,
    TableFile,
    encode,
    number_columns,
)
from iris_lightning.tables.table import check_columns, check_new_columns, result_columns
from iris_lightning.tables.validation import check_values

if TYPE_CHECKING:
    from iris_lightning.predictor import IrisPredictor


def predict_table(
    predictor: "IrisPredictor",
    path: str,
    output: str,
    target: str | None,
    usual_target: str,
    dialect: Dialect,
) -> tuple[int, ...]:
    """Writes all columns and rows of a table, then `prediction` and `probability_<class>`.

    Args:
        predictor: The trained classifier.
        path: CSV or Parquet file with the columns of the features; `-` is standard input.
        output: CSV or Parquet file to write; `-` is standard output.
        target: Column of the true class, by default `usual_target` where the table has it.
        usual_target: That of the training.
        dialect: How a CSV file is written. The output is written alike, but `.tsv` with tabs.

    Returns:
        The numbers of rows, of those with a class in the target column, of those predicted
        correctly, and of those whose class the model does not know.

    Raises:
        UserError: If the table does not have the features of the classifier.
    """
    if output != "-":
        if not output.lower().endswith(SUFFIXES):
            raise UserError(f"{output}: expected a file that ends in {FORMATS}, or -", "output")
        check_output(Path(output), Path(path))
    with _source(path) as (source, name):
        file = TableFile(source, dialect, name)
        features = find_features(predictor.feature_names_in_, file.names, name)
        check_new_columns(result_columns(predictor.classes_), file.names, name)
        if target is not None:
            check_columns("target", [target], file.names, name)
        elif usual_target in file.names:
            target = usual_target
        batches = _Batches(predictor, features)
        predictions = batches.predictions(file.values(features, target))
        rows = file.rows.with_columns(predictions).unnest(batches.names[0])
        if file.is_csv and output.lower().endswith(".parquet"):
            rows = rows.with_columns(file.numbers(number_columns(features)))
        try:
            _write(rows, output, file.csv_format)
        except (PolarsError, UserError, OSError) as error:
            missing = "mean" if predictor.network.impute else "error"
            with file.reading():
                check_values(file, file.inputs(features), features, missing)
            if isinstance(error, UserError):
                found = "a row has features that are too large for the network"
                raise UserError(f"{name}: {found}") from error
            reason = str(error).partition("\n")[0]
            raise UserError(f"{output}: cannot be written: {reason}") from error
    return batches.totals()


class _Batches:
    """Predicts batches of rows, and counts them."""

    def __init__(self, predictor: "IrisPredictor", features: Sequence[Feature]) -> None:
        self.predictor = predictor
        self.inputs = encode(features)
        self.names = result_columns(predictor.classes_)
        self.counts = [(0, 0, 0, 0)]

    def predictions(self, values: Sequence[pl.Expr]) -> pl.Expr:
        """The new columns, as a struct, computed from `TableFile.values`."""
        kinds: dict[str, Any] = dict.fromkeys(self.names, pl.Float32)
        kinds[self.names[0]] = pl.String
        result = pl.struct(values).map_batches(
            self._predict, return_dtype=pl.Struct(kinds), is_elementwise=True
        )
        return result.alias(self.names[0])

    def _predict(self, batch: pl.Series) -> pl.Series:
        values = batch.struct.unnest()
        classes = self.predictor.classes_
        probabilities = self.predictor.predict_proba(values.select(self.inputs).to_numpy())
        likeliest = classes[probabilities.argmax(axis=1)]
        predictions = pl.Series(self.names[0], likeliest, dtype=pl.String)
        true = values[CLASS]
        num_correct = int((true == predictions).sum())
        num_unknown = int((~true.is_in(classes.tolist())).sum())
        self.counts.append((len(true), true.count(), num_correct, num_unknown))
        result = pl.DataFrame(probabilities, self.names[1:]).insert_column(0, predictions)
        return result.to_struct()

    def totals(self) -> tuple[int, ...]:
        """The numbers of rows, of those with a class, correct, and of an unknown class."""
        return tuple(map(sum, zip(*self.counts, strict=True)))


def _write(rows: pl.LazyFrame, output: str, csv_format: dict[str, Any]) -> None:
    name = output.lower()
    with _sink(output) as sink:
        if name.endswith(".parquet"):
            rows.sink_parquet(sink, engine="streaming")
            return
        if name.removesuffix(".gz").removesuffix(".zst").endswith(".tsv"):
            csv_format = {**csv_format, "separator": "\t"}
        compressions: dict[str, Any] = {".gz": "gzip", ".zst": "zstd"}
        compression = compressions.get(Path(name).suffix, "uncompressed")
        rows.sink_csv(
            sink, compression=compression, check_extension=False, engine="streaming", **csv_format
        )


@contextlib.contextmanager
def _source(path: str) -> Iterator[tuple[str, str]]:
    """Yields a file to read, and what messages call it.

    Standard input is copied to a file, since polars seeks in it.
    """
    if path != "-":
        yield path, path
        return
    start = sys.stdin.buffer.read(4)
    suffix = ".parquet" if start == b"PAR1" else ".csv"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"table{suffix}")
        with copy.open("wb") as file:
            file.write(start)
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield str(copy), "standard input"


@contextlib.contextmanager
def _sink(output: str) -> Iterator[Any]:
    """Yields where to write; the output itself gets it once it is complete."""
    if output != "-":
        with atomic_write(Path(output)) as path:
            yield path
        return
    with tempfile.TemporaryFile() as copy:
        yield copy
        copy.seek(0)
        sys.stdout.flush()
        with contextlib.suppress(BrokenPipeError):  # such as `head` makes
            shutil.copyfileobj(copy, sys.stdout.buffer)
            sys.stdout.buffer.flush()
