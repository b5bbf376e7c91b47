"""Predicts the rows of a table, streaming so that memory use stays bounded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError
from iris_lightning.features import Feature, categories_by_column, find_features, number_columns
from iris_lightning.files import check_output, open_input, open_output
from iris_lightning.table import CsvFormat, check_new_columns, result_columns
from iris_lightning.tables.columns import mark_numbers
from iris_lightning.tables.formats import TableFile, check_suffix, encode
from iris_lightning.tables.validation import check_decimal_mark, check_values

if TYPE_CHECKING:
    from iris_lightning.predictor import IrisPredictor


def predict_table(
    predictor: "IrisPredictor", path: str, output: str, csv: CsvFormat
) -> tuple[Counter[str], list[str]]:
    """Writes all rows and columns of a table, with `prediction` and `probability_<class>` added.

    Args:
        predictor: The trained classifier.
        path: CSV or Parquet file with the columns of the features; `-` is CSV from standard
            input.
        output: CSV or Parquet file to write; `-` is standard output.
        csv: Format of CSV input and output; but `.tsv` output has tabs.

    Returns:
        A counter whose keys are phrases, such as `rows` or `missing values in 'age'`; and notes on
        how the table was read.

    Raises:
        UserError: If the table lacks a feature of the classifier, or a file cannot be used.
    """
    if output != "-":
        check_suffix(output)
        check_output(Path(output), Path(path))
    with open_input(path) as (source, name):
        file = TableFile(source, csv, name)
        with file.reading():
            file.check_width()
            mark_numbers(file)
        features = find_features(predictor.feature_names_in_, file.names, name)
        check_decimal_mark(file, number_columns(features))
        check_new_columns(result_columns(predictor.classes_), file.names, name)
        expressions = file.values(features)
        writes_numbers = file.csv_format and output.lower().endswith(".parquet")
        counters: list[Counter[str]] = []  # one per batch, since batches run in threads
        examples: dict[str, str] = {}

        def add_predictions(rows: pl.DataFrame) -> pl.DataFrame:
            values = rows.select(expressions)
            inputs = values.select(encode(features, predictor.imputes))
            probabilities = predictor.predict_proba(inputs.to_numpy())
            counts = count_gaps(values, features, examples)
            counts["rows"] = rows.height
            counters.append(counts)
            if writes_numbers:  # CSV cells are text; Parquet gets numbers
                rows = rows.with_columns(values.select(cs.float()))
            return rows.hstack(prediction_columns(predictor.classes_, probabilities))

        schema = add_predictions(file.sample.clear()).schema
        table = file.rows.map_batches(add_predictions, streamable=True, schema=schema)
        try:
            _write(table, output, file.csv_format)
        except (PolarsError, UserError, OSError) as error:
            # Raises an error that names the first row with an invalid value, if there is one.
            with file.reading():
                check_values(file, file.inputs(file.rows, features), features, predictor.imputes)
            if isinstance(error, UserError):
                raise UserError(f"{name}: {error}") from error
            reason = str(error).partition("\n")[0]
            raise UserError(f"{output}: cannot be written: {reason}") from error
    return sum(counters, Counter()), file.notes


def prediction_columns(
    classes: NDArray[np.object_], probabilities: NDArray[np.floating]
) -> pl.DataFrame:
    """Returns the columns that predictions add, named as in `result_columns`."""
    prediction, *others = result_columns(classes)
    most_probable = classes[probabilities.argmax(axis=1)]
    predictions = pl.Series(prediction, most_probable, dtype=pl.String)
    return pl.DataFrame(probabilities, others).insert_column(0, predictions)


def count_gaps(
    values: pl.DataFrame, features: Sequence[Feature], examples: dict[str, str]
) -> Counter[str]:
    """Counts missing values and unknown categories.

    The keys are phrases for messages, such as `missing values in 'age'`.

    Args:
        values: Parsed cells, as selected by `TableFile.values`.
        features: The features.
        examples: By column, the unknown category to quote. The first batch that has one adds it,
            and all batches quote the same, so that their counts can be added.
    """
    gaps = Counter[str]()
    for column, categories in categories_by_column(features).items():
        cells = values[column].alias("")  # polars takes names such as `^a$` for patterns
        gaps[f"missing values in {column!r}"] = cells.null_count()
        if not categories:
            continue
        unknown = cells.filter(~cells.is_in(categories))
        if len(unknown):
            example = examples.setdefault(column, unknown[0])
            gaps[f"unknown categories in {column!r}, such as {example!r}"] = len(unknown)
    return gaps


def _write(rows: pl.LazyFrame, output: str, csv_format: Mapping[str, Any]) -> None:
    name = output.lower()
    with open_output(output) as sink:
        if name.endswith(".parquet"):
            rows.sink_parquet(sink, engine="streaming")
            return
        if ".tsv" in Path(name).suffixes:
            csv_format = {**csv_format, "separator": "\t"}
        compressions: dict[str, Any] = {".gz": "gzip", ".zst": "zstd"}
        compression = compressions.get(Path(name).suffix, "uncompressed")
        rows.sink_csv(
            sink, compression=compression, check_extension=False, engine="streaming", **csv_format
        )
