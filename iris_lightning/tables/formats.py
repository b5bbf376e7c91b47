"""Table files: CSV and Parquet."""

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError
from iris_lightning.features import Feature, axis_label, category_names, missing_texts
from iris_lightning.table import SEPARATORS
from iris_lightning.tables.separators import find_separator

SUFFIXES = (
    ".csv",
    ".csv.gz",
    ".csv.zst",
    ".tsv",
    ".tsv.gz",
    ".tsv.zst",
    ".txt",
    ".txt.gz",
    ".txt.zst",
    ".parquet",
)
FORMATS = ".csv, .tsv, .txt (also with .gz or .zst) or .parquet"
SAMPLE_ROWS = 1000  # decide which columns of text hold numbers
CLASS = "class "  # name of the class among parsed columns; cannot clash, as names are stripped


class Dialect(NamedTuple):
    """How a CSV file is written.

    Attributes:
        decimal_comma: Whether numbers are written as `5,1`.
        separator: Column delimiter, a key of `SEPARATORS`; by default, it is detected.
        na_values: Texts that mean a missing value, besides the empty text; by default `NA_VALUES`.
    """

    decimal_comma: bool = False
    separator: str | None = None
    na_values: Sequence[str | float | None] | None = None


def columns(*names: str) -> pl.Expr:
    """Selects columns by name; `pl.col` would treat names such as `*` as patterns."""
    return cs.by_name(*names).as_expr()


def number_columns(features: Iterable[Feature]) -> list[str]:
    """Returns the columns of the features that are numbers."""
    return [feature.column for feature in features if feature.category is None]


def encode(features: Sequence[Feature]) -> list[pl.Expr]:
    """Returns expressions that compute the features, float32, from `TableFile.values`.

    Features are null where a value is missing, and infinite where it is invalid.
    """
    expressions = []
    for feature in features:
        value = columns(feature.column)
        if feature.category is not None:
            is_known = value.is_in(category_names(feature, features))
            matches = (value == feature.category).cast(pl.Float64)
            value = pl.when(is_known).then(matches).when(value.is_not_null()).then(math.inf)
        expressions.append(value.cast(pl.Float32).alias(feature.name))
    return expressions


def _drop_blank_rows(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~pl.all_horizontal(pl.all().is_null()))


class TableFile:
    """A table file: its columns, their types, and its rows.

    Args:
        source: CSV or Parquet file.
        dialect: How a CSV file is written.
        name: Name of the table, for messages; by default the file's path.

    Attributes:
        names: Names of the columns, without surrounding spaces.
        kinds: Types of the columns; all columns of a CSV file are text.
        numeric: Names of the columns that hold numbers.
        rows: The rows; those of a CSV file as text, without blank rows.
        csv_format: Options of polars for writing a CSV file in the same format.
    """

    def __init__(self, source: str, dialect: Dialect, name: str | None = None) -> None:
        self.source = source
        self.name = name or source
        self.dialect = dialect
        self.missing = sorted(missing_texts(dialect.na_values))
        self.is_csv = not source.lower().endswith(".parquet")
        self.decimal_comma = dialect.decimal_comma
        self.csv_format: dict[str, Any] = {}
        if not source.lower().endswith(SUFFIXES):
            raise UserError(f"{source}: expected a file that ends in {FORMATS}")
        if not Path(source).is_file():
            raise UserError(f"{source}: no such file")
        with self.reading():
            if self.is_csv:
                self._open_csv()
            else:
                self._open_parquet()
            self.kinds = self.rows.collect_schema()
            self.numeric = self.mostly_numbers(self.names, self.decimal_comma)
        self.numeric += [name for name, kind in self.kinds.items() if kind.is_numeric()]

    def _open_csv(self) -> None:
        if self.dialect.separator is None:
            lines = pl.scan_lines(self.source, glob=False).head(20).collect().to_series()
            separator = find_separator(lines.to_list(), self.decimal_comma)
        else:
            separator = SEPARATORS[self.dialect.separator]
        self.csv_format = {"separator": separator, "decimal_comma": self.decimal_comma}
        header = self._scan_csv(has_header=False, truncate_ragged_lines=True).head(1).collect()
        self.names = self._strip(header.row(0))
        rows = self._scan_csv(new_columns=self.names)
        # As a lazy filter, it would take time quadratic in the number of columns.
        self.rows = rows.map_batches(_drop_blank_rows, streamable=True)

    def _scan_csv(self, **options: Any) -> pl.LazyFrame:
        options["separator"] = self.csv_format["separator"]
        return pl.scan_csv(self.source, infer_schema=False, glob=False, **options)

    def _open_parquet(self) -> None:
        rows = pl.scan_parquet(self.source, glob=False)
        self.names = self._strip(rows.collect_schema().names())
        self.rows = rows.rename(str.strip)

    def _strip(self, header: Sequence[str | None]) -> list[str]:
        names: list[str] = []
        for cell in header:
            name = (cell or "").strip()
            if name in names:
                raise UserError(f"{self.name}: has two columns {name!r}; expected distinct names")
            names.append(name)
        return names

    def mostly_numbers(self, names: Iterable[str], decimal_comma: bool) -> list[str]:
        """Returns the columns of text in which at least half of the first values are numbers.

        A stray text does not turn a column of numbers into text: it is reported as an error.
        """
        texts = [name for name in names if self.kinds[name] == pl.String]
        found = []
        for rows in (self.rows.head(SAMPLE_ROWS), self.rows):
            if not texts:
                break
            numbers = self._present(self._parse(columns(*texts), decimal_comma))
            shares = rows.select(numbers.is_finite().mean()).collect(engine="streaming")
            for name, share in shares.row(0, named=True).items():
                if share is None:  # no values in these rows
                    continue
                texts.remove(name)
                if share >= 0.5:
                    found.append(name)
        return found

    def _parse(self, texts: pl.Expr, decimal_comma: bool) -> pl.Expr:
        texts = texts.cast(pl.String).str.strip_chars()
        numbers = texts
        if decimal_comma:
            numbers = texts.str.replace_many({".": "_", ",": "."})  # makes `1.5` invalid
        numbers = numbers.cast(pl.Float64, strict=False).fill_null(math.inf)
        return pl.when(~texts.is_in(self.missing)).then(numbers)

    def _present(self, numbers: pl.Expr) -> pl.Expr:
        numbers = numbers.cast(pl.Float64).fill_nan(None)
        codes = pl.Series(self.missing).cast(pl.Float64, strict=False)
        codes = codes.filter(codes.is_finite())  # such as -999
        if codes.is_empty():
            return numbers
        return pl.when(~numbers.is_in(codes.to_list())).then(numbers)

    def label(self, name: str) -> pl.Expr:
        """Returns a column as classes or categories, null where a value is missing."""
        return columns(name).map_batches(
            self._to_labels, return_dtype=pl.String, is_elementwise=True
        )

    def _to_labels(self, values: pl.Series) -> pl.Series:
        distinct = values.unique()
        labels = [axis_label(value, self.dialect.na_values) for value in distinct]
        return values.replace_strict(distinct, labels, return_dtype=pl.String)

    def numbers(self, names: Iterable[str]) -> list[pl.Expr]:
        """Returns columns as float64: null where a value is missing, infinite where invalid."""
        selected = cs.by_name(*names)
        numbers = (selected & cs.numeric()).as_expr()
        texts = (selected - cs.numeric()).as_expr()
        return [self._present(numbers), self._present(self._parse(texts, self.decimal_comma))]

    def values(self, features: Iterable[Feature], target: str | None = None) -> list[pl.Expr]:
        """Returns the columns of the features, as numbers or text, and the class as `CLASS`."""
        label = pl.lit(None, pl.String)
        if target is not None:
            label = self.label(target)
        texts = {feature.column for feature in features if feature.category is not None}
        values = [self.label(name) for name in texts]
        return [*self.numbers(number_columns(features)), *values, label.alias(CLASS)]

    def inputs(self, features: Sequence[Feature], target: str | None = None) -> pl.LazyFrame:
        """Returns the features, encoded as float32, and the class as the column `CLASS`."""
        return self.rows.select(self.values(features, target)).select(*encode(features), CLASS)

    def parsed(self, names: Iterable[str]) -> "TableFile":
        """Returns the same table, with columns of numbers parsed by polars' CSV reader.

        It is faster, but raises an error for invalid numbers, and keeps blank rows.
        """
        if not self.is_csv or self.decimal_comma:  # polars would accept `1.5`, too
            return self
        parsed = copy.copy(self)
        kinds = dict.fromkeys(names, pl.Float64)
        parsed.rows = self._scan_csv(
            new_columns=self.names, schema_overrides=kinds, null_values=self.missing
        )
        return parsed

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Reports errors of polars as errors in the file."""
        try:
            yield
        except (PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            if "found more fields" in reason:
                row = self._find_long_row()
                where = "a row"
                if row is not None:
                    where = f"row {row}"
                reason = f"{where} has more cells than the header"
            raise UserError(f"{self.name}: cannot be read: {reason}") from error

    def _find_long_row(self) -> Any:
        """Returns the number of the first row with more cells than the header, or `None`."""
        rows = self._scan_csv(
            has_header=False,
            schema=dict.fromkeys([*self.names, " "], pl.String),
            missing_columns="insert",
            truncate_ragged_lines=True,
        )
        return rows.select(columns(" ").is_not_null().arg_true().first()).collect().item()
