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
from iris_lightning.features import Feature, category_names, find_features
from iris_lightning.files import atomic_write, check_output
from iris_lightning.table import CsvFormat, check_columns, check_new_columns, result_columns
from iris_lightning.tables.columns import find_numbers
from iris_lightning.tables.formats import (
    CLASS,
    FORMATS,
    SUFFIXES,
    TableFile,
    encode,
    number_columns,
)
from iris_lightning.tables.validation import check_values

MAX_GAPS = 5  # kinds that are listed

if TYPE_CHECKING:
    from iris_lightning.predictor import IrisPredictor


class Counts(NamedTuple):
    """Numbers of rows of a predicted table.

    Attributes:
        column: Column of the true class.
        gaps: Remarks on missing values and unknown categories, which were predicted all the same.
        rows: All rows.
        labelled: Rows with a true class.
        correct: Rows whose prediction is their true class.
        unknown: Rows with a class that the model does not know.
    """

    column: str
    gaps: list[str]
    rows: int
    labelled: int
    correct: int
    unknown: int

    def __str__(self) -> str:
        if self.labelled:
            accuracy = f"accuracy {self.correct / self.labelled:.4f}"
            text = (
                f"{self.rows} rows, {accuracy} ({self.correct} of {self.labelled} {self.column!r})"
            )
        else:
            column = f"a column {self.column!r}; name the column by --target"
            text = f"{self.rows} rows (no accuracy: no class in {column})"
        parts = [text, *self.gaps]
        if self.unknown:
            parts.append(f"{self.unknown} rows are of a class that the model does not know")
        return "; ".join(parts)


def predict_table(
    predictor: "IrisPredictor",
    path: str,
    output: str,
    target: str | None,
    usual_target: str,
    csv: CsvFormat,
) -> "Counts":
    """Writes all rows and columns of a table, and adds `prediction` and `probability_<class>`.

    Args:
        predictor: The trained classifier.
        path: CSV or Parquet file with the columns of the features; `-` is standard input.
        output: CSV or Parquet file to write; `-` is standard output.
        target: Column of the true class; by default `usual_target`, if the table has it.
        usual_target: Target of the training.
        csv: How a CSV file is written. The output has the same format, but `.tsv` has tabs.

    Raises:
        UserError: If the table does not have the features of the classifier.
    """
    if output != "-":
        if not output.lower().endswith(SUFFIXES):
            raise UserError(f"{output}: expected a file that ends in {FORMATS}, or -", "output")
        check_output(Path(output), Path(path))
    with _source(path) as (source, name):
        file = TableFile(source, csv, name)
        with file.reading():
            find_numbers(file)
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
                check_values(file, file.inputs(features), features, missing, is_training=False)
            if isinstance(error, UserError):
                found = "a row has features that are too large for the network"
                raise UserError(f"{name}: {found}") from error
            reason = str(error).partition("\n")[0]
            raise UserError(f"{output}: cannot be written: {reason}") from error
    totals = list(map(sum, zip(*batches.counts, strict=True)))
    return Counts(target or usual_target, batches.total_gaps(), *totals)


class _Batches:
    """Predicts batches of rows and counts them."""

    def __init__(self, predictor: "IrisPredictor", features: Sequence[Feature]) -> None:
        self.predictor = predictor
        self.inputs = encode(features)
        self.categories: dict[str, list[str] | None] = {}  # of each column; `None` for numbers
        for feature in features:
            names = None if feature.category is None else category_names(feature, features)
            self.categories[feature.column] = names
        self.names = result_columns(predictor.classes_)
        self.counts = [(0, 0, 0, 0)]
        self.gaps: list[tuple[str, int]] = []  # lists, since batches run in several threads

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
        self._note_gaps(values)
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

    def _note_gaps(self, values: pl.DataFrame) -> None:
        for column, categories in self.categories.items():
            cells = values[column]
            if cells.has_nulls():
                self.gaps.append((f"missing values in {column!r}", cells.null_count()))
            if categories is not None:
                unknown = cells.filter(~cells.is_in(categories)).drop_nulls()
                for text, number in unknown.value_counts(sort=True).iter_rows():
                    self.gaps.append((f"unknown categories {text!r} in {column!r}", number))

    def total_gaps(self) -> list[str]:
        """Returns the number of each kind of gap, for at most `MAX_GAPS` kinds."""
        totals: dict[str, int] = {}
        for gap, number in self.gaps:
            totals[gap] = totals.get(gap, 0) + number
        texts = [f"{number} {gap}" for gap, number in totals.items()]
        if len(texts) > MAX_GAPS:
            texts = [*texts[:MAX_GAPS], "and more"]
        return texts


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
