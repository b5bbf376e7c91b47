"""Predicts the rows of a table, streaming them in bounded memory."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError
from iris_lightning.features import Feature, find_features
from iris_lightning.files import atomic_write, check_output
from iris_lightning.table import check_columns, check_new_columns, result_columns
from iris_lightning.tables.formats import (
    CLASS,
    FORMATS,
    SUFFIXES,
    Dialect,
    TableFile,
    encode,
    number_columns,
)
from iris_lightning.tables.validation import check_values

if TYPE_CHECKING:
    from iris_lightning.predictor import IrisPredictor


class Counts(NamedTuple):
    """Numbers of rows of a predicted table.

    Attributes:
        column: Column of the true class.
        rows: All rows.
        labelled: Rows with a true class.
        correct: Rows whose prediction is their true class.
        unknown: Rows with a class that the model does not know.
    """

    column: str
    rows: int
    labelled: int
    correct: int
    unknown: int

    def __str__(self) -> str:
        if self.labelled == 0:
            column = f"a column {self.column!r}; name the column by --target"
            return f"{self.rows} rows (no accuracy: no class in {column})"
        accuracy = f"accuracy {self.correct / self.labelled:.4f}"
        text = f"{self.rows} rows, {accuracy} ({self.correct} of {self.labelled} {self.column!r})"
        if self.unknown:
            text += f"; {self.unknown} rows are of a class that the model does not know"
        return text


def predict_table(
    predictor: "IrisPredictor",
    path: str,
    output: str,
    target: str | None,
    usual_target: str,
    dialect: Dialect,
) -> "Counts":
    """Writes all rows and columns of a table, and adds `prediction` and `probability_<class>`.

    Args:
        predictor: The trained classifier.
        path: CSV or Parquet file with the columns of the features; `-` is standard input.
        output: CSV or Parquet file to write; `-` is standard output.
        target: Column of the true class; by default `usual_target`, if the table has it.
        usual_target: Target of the training.
        dialect: How the CSV file is written. The output has the same format, but `.tsv` has tabs.

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
    return Counts(target or usual_target, *map(sum, zip(*batches.counts, strict=True)))


class _Batches:
    """Predicts batches of rows and counts them."""

    def __init__(self, predictor: "IrisPredictor", features: Sequence[Feature]) -> None:
        self.predictor = predictor
        self.inputs = encode(features)
        self.names = result_columns(predictor.classes_)
        self.counts = [(0, 0, 0, 0)]

    def predictions(self, values: Sequence[pl.Expr]) -> pl.Expr:
        """Returns the new columns as a struct, computed from `TableFile.values`."""
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
        most_probable = classes[probabilities.argmax(axis=1)]
        predictions = pl.Series(self.names[0], most_probable, dtype=pl.String)
        true = values[CLASS]
        num_correct = int((true == predictions).sum())
        num_unknown = int((~true.is_in(classes.tolist())).sum())
        self.counts.append((len(true), true.count(), num_correct, num_unknown))
        result = pl.DataFrame(probabilities, self.names[1:]).insert_column(0, predictions)
        return result.to_struct()


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
    """Yields the file to read, and its name for messages.

    Standard input is copied to a file first, because polars needs to seek.
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
    """Yields a temporary file to write to; the output appears once it is complete."""
    if output != "-":
        with atomic_write(Path(output)) as path:
            yield path
        return
    with tempfile.TemporaryFile() as copy:
        yield copy
        copy.seek(0)
        sys.stdout.flush()
        with contextlib.suppress(BrokenPipeError):  # the reader has stopped reading, like `head`
            shutil.copyfileobj(copy, sys.stdout.buffer)
            sys.stdout.buffer.flush()
