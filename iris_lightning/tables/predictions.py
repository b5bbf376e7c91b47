"""A table of flowers in, the same table with predictions out, streamed in bounded memory."""

import contextlib
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output
from iris_lightning.predictor import IrisPredictor
from iris_lightning.tables.table_file import SUFFIXES, TableFile

__all__ = ["Predictions", "predict_table"]

RESULT = "\0result"  # no column's name


class Predictions(NamedTuple):
    """What was predicted.

    Attributes:
        rows: Number of rows.
        labelled: How many of them have a class in the target column; `None` where there is no such column.
        correct: How many of those were predicted.
        unknown: A class in the target column that the classifier does not know, if there is one.
    """

    rows: int
    labelled: int | None
    correct: int
    unknown: str | None


def predict_table(
    predictor: IrisPredictor, path: str, output: str, target: str, decimal_comma: bool = False
) -> Predictions:
    """Writes a table with all its columns and rows, then `prediction` and `probability_<class>` for each class.

    Args:
        predictor: The trained classifier.
        path: CSV or Parquet file with a column for each feature, in any order; `-` is standard input.
        output: CSV or Parquet file, which appears whole or not at all; `-` is standard output.
        target: Column of the true class, where the table has it.
        decimal_comma: Whether CSV files separate columns with `;` and write numbers as `5,1`, on either side.

    Raises:
        UserError: If the table is not of the predictor's features, or if the output cannot be written.
    """
    if output != "-":
        if not output.endswith(SUFFIXES):
            raise UserError(f"{output}: expected a file that ends in {', '.join(SUFFIXES)}, or -", "output")
        check_output(Path(output), Path(path))
    with _source(path) as (source, name):
        file = TableFile(source, decimal_comma, name)
        features = predictor.find_columns(file.names, name)
        new = ["prediction", *(f"probability_{label}" for label in predictor.classes_)]
        for column in new:
            if column in file.header:
                raise UserError(f"{name}: has a column {column!r} already; rename it")
        counts = _Counts(target in file.names)
        file.check_rows()
        rows = file.rows.with_columns(
            _results(predictor, file, features, target if counts.labels else None, new, output, counts).alias(RESULT)
        )
        if file.is_csv:  # numbers that are to be numbers in Parquet, too; in CSV they stay as they were typed
            if output.endswith(".parquet"):
                rows = rows.with_columns(file.number(feature).alias(feature) for feature in features)
            rows = rows.rename(dict(zip(file.names, file.header, strict=True)))
        try:
            with _sink(output) as sink:
                _write(rows.unnest(RESULT), sink, output, decimal_comma)
        except (UserError, PolarsError, OSError) as error:
            if invalid := file.first_invalid_row(features):
                raise invalid from error
            if isinstance(error, UserError):
                raise UserError(str(error).splitlines()[0]) from error  # polars adds where it called us
            raise UserError(f"{output}: {_reason(error)}") from error
    return Predictions(counts.rows, counts.labelled if counts.labels else None, counts.correct, counts.unknown)


class _Counts:
    def __init__(self, labels: bool) -> None:
        self.labels = labels
        self.lock = threading.Lock()  # polars works on several batches at once
        self.rows = self.labelled = self.correct = 0
        self.unknown: str | None = None

    def add(self, rows: int, labelled: int, correct: int) -> None:
        with self.lock:
            self.rows += rows
            self.labelled += labelled
            self.correct += correct


def _results(
    predictor: IrisPredictor,
    file: TableFile,
    features: list[str],
    target: str | None,
    names: list[str],
    output: str,
    counts: _Counts,
) -> pl.Expr:
    """The new columns, computed batch by batch."""
    classes = predictor.classes_

    def predict(batch: pl.Series) -> pl.Series:
        inputs = batch.struct.unnest()
        numbers = inputs.select(pl.nth(range(len(features)))).to_numpy(order="c", writable=True)
        if not np.isfinite(numbers).all():
            raise UserError(f"{file.path}: a feature is no number")  # which one, the file is asked then
        with torch.inference_mode():
            logits = predictor.network(torch.from_numpy(numbers))
        if not logits.isfinite().all():
            row = numbers[int((~logits.isfinite()).any(dim=1).nonzero()[0])]
            raise UserError(f"{file.path}: a row is too large for the network, with the features {row.tolist()}")
        codes = logits.argmax(dim=1).numpy()
        if target is None:
            counts.add(len(batch), 0, 0)
        else:
            labels = inputs["label"]
            right = labels == pl.Series(classes[codes], dtype=pl.String)
            counts.add(len(batch), len(labels) - labels.null_count(), int(right.sum()))
            if unknown := set(labels.drop_nulls().unique()) - set(classes):
                counts.unknown = min(unknown)
        values = [pl.Series(classes[codes], dtype=pl.String), *logits.softmax(dim=1).numpy().T]
        return pl.DataFrame(dict(zip(names, values, strict=True))).to_struct()

    fields = [file.number(name).cast(pl.Float32).alias(str(i)) for i, name in enumerate(features)]
    if target is not None:
        fields.append(file.label(target).alias("label"))
    kinds = {name: pl.Float32 if i else pl.String for i, name in enumerate(names)}
    return pl.struct(fields).map_batches(predict, return_dtype=pl.Struct(kinds), is_elementwise=True)


@contextlib.contextmanager
def _source(path: str) -> Iterator[tuple[str, str]]:
    """Yields a file to read and what to call it. Standard input is kept in a file, since polars seeks in it."""
    if path != "-":
        yield path, path
        return
    stdin = sys.stdin.buffer
    start = stdin.read(4)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, f"table{'.parquet' if start == b'PAR1' else '.csv'}"))
        with open(path, "wb") as copy:
            copy.write(start)
            shutil.copyfileobj(stdin, copy)
        yield path, "standard input"


@contextlib.contextmanager
def _sink(output: str) -> Iterator[Any]:
    """Opens the output; also standard output gets it only once it is whole."""
    if output != "-":
        with atomic_write(Path(output)) as path:
            yield path
        return
    with tempfile.TemporaryFile() as copy:
        yield copy
        copy.seek(0)
        sys.stdout.flush()
        with contextlib.suppress(BrokenPipeError):  # the reader has seen enough, as `head` does
            shutil.copyfileobj(copy, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _write(rows: pl.LazyFrame, sink: Any, output: str, decimal_comma: bool) -> None:
    if output.endswith(".parquet"):
        rows.sink_parquet(sink, engine="streaming")
        return
    options: dict[str, Any] = {"separator": ";", "decimal_comma": True} if decimal_comma else {}
    options["compression"] = {"gz": "gzip", "zst": "zstd"}.get(output.rpartition(".")[2], "uncompressed")
    rows.sink_csv(sink, engine="streaming", check_extension=False, **options)


def _reason(error: Exception) -> str:
    """What the operating system said, which polars tells in words of its own."""
    text = str(error).splitlines()[0]
    said = re.search(r"([^:]+) \(os error \d+\)", text)
    return said[1].strip() if said else getattr(error, "strerror", None) or text
