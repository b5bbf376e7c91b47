"""A table in, the same table with predictions out, streamed in bounded memory."""

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError
from iris_lightning.features import Feature, find_features
from iris_lightning.files import atomic_write, check_output
from iris_lightning.predictor import IrisPredictor
from iris_lightning.tables.formats import FORMATS, SUFFIXES, Dialect, TableFile
from iris_lightning.tables.mistakes import check_rows, first_invalid_row
from iris_lightning.tables.table import check_columns, result_columns

__all__ = ["predict_table"]

RESULT = "\0result"  # no column's name


def predict_table(
    predictor: IrisPredictor, path: str, output: str, target: str | None, usual_target: str, dialect: Dialect
) -> tuple[int, int, int, int]:
    """Writes a table with all its columns and rows, then `prediction` and `probability_<class>` for each class.

    Returns the number of rows, of those with a class in the target column, of those predicted correctly, and of those
    whose class the model does not know.

    Args:
        predictor: The trained classifier; a UserError says why the table is not one of its features.
        path: CSV or Parquet file with a column for each feature, in any order; `-` is standard input.
        output: CSV or Parquet file, which appears whole or not at all; `-` is standard output.
        target: Column of the true class, by default `usual_target` where the table has it.
        usual_target: That of the training.
        dialect: How a CSV file is written; the output is written in the same way, but `.tsv` with tabs.
    """
    if output != "-":
        if not output.lower().endswith(SUFFIXES):
            raise UserError(f"{output}: expected a file that ends in {FORMATS}, or -", "output")
        check_output(Path(output), Path(path))
    with _source(path) as (source, name):
        file = TableFile(source, dialect, name)
        features = find_features(predictor.feature_names_in_, file.names, name)
        new = result_columns(predictor.classes_)
        if taken := [column for column in new if column in file.header]:
            raise UserError(f"{name}: has a column {taken[0]!r} already; rename it")
        check_rows(file)
        how: dict[str, Any] = {"separator": file.separator, "decimal_comma": file.dialect.decimal_comma}
        if output.lower().removesuffix(".gz").removesuffix(".zst").endswith(".tsv"):
            how["separator"] = "\t"
        how["compression"] = {"gz": "gzip", "zst": "zstd"}.get(output.lower().rpartition(".")[2], "uncompressed")
        batches: list[tuple[int, int, int, int]] = []
        columns = [column for column in file.names if column == usual_target]
        if target is not None:
            columns = check_columns("target", [target], file.names, name)
        labels = [file.label(column).alias("label") for column in columns]
        rows = file.rows.with_columns(_predict(predictor, file, features, labels, new, batches).alias(RESULT))
        if file.is_csv and output.lower().endswith(".parquet"):  # in CSV, numbers stay as they were typed
            numbers = [feature.column for feature in features if feature.category is None]
            rows = rows.with_columns(file.number(column).alias(column) for column in numbers)
        rows = rows.rename(dict(zip(file.names, file.header, strict=True)))
        try:
            with _sink(output) as sink:
                if output.lower().endswith(".parquet"):
                    rows.unnest(RESULT).sink_parquet(sink, engine="streaming")
                else:
                    rows.unnest(RESULT).sink_csv(sink, engine="streaming", check_extension=False, **how)
        except (UserError, PolarsError, OSError) as error:
            if invalid := first_invalid_row(file, features, missing="mean" if predictor.network.impute else "error"):
                raise invalid from error
            if isinstance(error, UserError):
                raise UserError(str(error).splitlines()[0]) from error  # polars adds where it called us
            said = re.search(r"([^:]+) \(os error \d+\)", str(error))  # in polars' words, within its own
            reason = said[1].strip() if said else getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"{output}: cannot be written: {reason}") from error
    rows_read, labelled, correct, unknown = zip(*batches, strict=True) if batches else ((), (), (), ())
    return sum(rows_read), sum(labelled), sum(correct), sum(unknown)


def _predict(
    predictor: IrisPredictor,
    file: TableFile,
    features: list[Feature],
    labels: list[pl.Expr],
    names: list[str],
    batches: list[tuple[int, int, int, int]],
) -> pl.Expr:
    """The new columns, computed batch by batch; `batches` gets what each came to."""
    classes = predictor.classes_

    def predict(batch: pl.Series) -> pl.Series:
        rows = batch.struct.unnest()
        values = rows.select(pl.nth(range(len(features)))).to_numpy(order="c", writable=True)
        if (np.isinf(values) if predictor.network.impute else ~np.isfinite(values)).any():
            raise UserError(f"{file.path}: a feature is not a number")  # which one, the file is asked then
        with torch.inference_mode():
            logits = predictor.network(torch.from_numpy(values))
        if not logits.isfinite().all():
            row = values[int((~logits.isfinite()).any(dim=1).nonzero()[0])]
            raise UserError(f"{file.path}: a row is too large for the network, with the features {row.tolist()}")
        predictions = pl.Series(classes[logits.argmax(dim=1).numpy()], dtype=pl.String)
        true = rows["label"] if labels else pl.Series([None] * len(batch), dtype=pl.String)
        unknown = true.count() - int(true.is_in(classes.tolist()).sum())
        batches.append((len(batch), true.count(), int((true == predictions).sum()), unknown))
        return pl.DataFrame(dict(zip(names, (predictions, *logits.softmax(dim=1).numpy().T), strict=True))).to_struct()

    inputs = [value.alias(str(i)) for i, value in enumerate(file.inputs(features))]
    types = {name: pl.Float32 if i else pl.String for i, name in enumerate(names)}
    return pl.struct(*inputs, *labels).map_batches(predict, return_dtype=pl.Struct(types), is_elementwise=True)


@contextlib.contextmanager
def _source(path: str) -> Iterator[tuple[str, str]]:
    """Yields a file to read and what to call it. Standard input is kept in a file, since polars seeks in it."""
    if path != "-":
        yield path, path
        return
    start = sys.stdin.buffer.read(4)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "table.parquet" if start == b"PAR1" else "table.csv")
        with open(copy, "wb") as file:
            file.write(start)
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield str(copy), "standard input"


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
