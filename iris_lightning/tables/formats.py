"""Table files: detecting their format and selecting their columns as polars expressions."""

import contextlib
import copy
import math
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError
from iris_lightning.features import Feature, missing_texts, normalize, to_labels
from iris_lightning.table import SEPARATORS, CsvFormat
from iris_lightning.tables.texts import read_start, transcode

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
SAMPLE_ROWS = 5000  # first rows of a table, which show the kind of each column
FORMATS = ".csv, .tsv, .txt (also with .gz or .zst) or .parquet"
CLASS = "class "  # the class among the selected columns; stripped names cannot clash with it
MISSING = "missing "  # whether a row has missing features
# Numbers with thousands separators or units: 1,234.5 or $1,234 or 12.5%.
FORMATTED = r"^[+-]?[$€£¥]?\s?([0-9]{1,3}(,[0-9]{3})+|[0-9]+)(\.[0-9]*)?\s?[%€]?$"
SIGNS = r"[$€£¥%]"
MARKS = r"[$€£¥%,\s]"  # the characters to remove from them
READABLE = cs.all() - cs.nested() - cs.binary()  # columns that can be cast to text


def columns(*names: str) -> pl.Expr:
    """Selects columns by name; `pl.col` would treat names such as `*` as patterns."""
    return cs.by_name(*names).as_expr()


def number_columns(features: Iterable[Feature]) -> list[str]:
    """Returns the columns of the features that are numbers."""
    return [feature.column for feature in features if feature.category is None]


def encode(features: Sequence[Feature]) -> list[pl.Expr]:
    """Returns expressions that turn `TableFile.values` into features, float32.

    Missing numbers are null, invalid ones are infinite. Missing and unknown categories have 0 in
    every feature of their column.
    """
    expressions = []
    for feature in features:
        value = columns(feature.column)
        if feature.category is not None:
            value = (value == feature.category).fill_null(False)
        expressions.append(value.cast(pl.Float32).alias(feature.name))
    return expressions


def to_number(texts: pl.Expr, decimal_comma: bool | None) -> pl.Expr:
    """Parses stripped texts as float64; invalid numbers become infinite."""
    if decimal_comma:
        texts = texts.str.replace_many({".": "_", ",": "."})  # `1.5` becomes invalid
    numbers = texts.cast(pl.Float64, strict=False)
    return pl.when(texts.is_not_null()).then(numbers.fill_null(math.inf))


def _drop_blank_rows(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~pl.all_horizontal(pl.all().is_null()))


class TableFile:
    """A CSV or Parquet file.

    Args:
        source: CSV or Parquet file.
        csv: How a CSV file is written.
        name: Name of the table, for messages; by default the file's path.

    Attributes:
        names: Column names, without surrounding spaces.
        kinds: Data types of the columns; all columns of a CSV file are text.
        numeric: Columns that hold numbers.
        formatted: Numeric columns with thousands separators or units.
        rows: The rows, without blank ones. Those of a CSV file are text.
        notes: Notes for the user on how the file was read.
        csv_format: Options for polars to write a CSV file in the same format.
    """

    def __init__(self, source: str, csv: CsvFormat, name: str | None = None) -> None:
        self.source = source
        self.name = name or source
        self.csv = csv
        self.notes: list[str] = []
        self.missing = sorted(missing_texts(csv.na_values))
        self.is_csv = not source.lower().endswith(".parquet")
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
        self.formatted: set[str] = set()
        self.numeric = {name for name, kind in self.kinds.items() if kind.is_numeric()}

    def _open_csv(self) -> None:
        start = read_start(self.source, self.name, self.csv.encoding)
        self.notes += start.notes
        if start.encoding != "utf-8":
            folder = tempfile.mkdtemp()
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.source = transcode(self.source, self.name, start.encoding, folder)
        separator = start.find_separator(self.csv.decimal_comma)
        if self.csv.separator is not None:
            separator = SEPARATORS[self.csv.separator]
        self.csv_format = {"separator": separator, "decimal_comma": bool(self.csv.decimal_comma)}
        self.skipped_lines = start.skipped_lines
        header = self._scan_csv(has_header=False, truncate_ragged_lines=True).head(1).collect()
        if header.is_empty():
            raise UserError(f"{self.name}: the header has an unclosed quote")
        self.names = [f"column_{i + 1}" for i in range(header.width)]
        if self.csv.header:
            self.names = self._strip(header.row(0))
        rows = self._scan_csv(new_columns=self.names, has_header=self.csv.header)
        # A lazy filter would take time quadratic in the number of columns.
        self.rows = rows.map_batches(_drop_blank_rows, streamable=True)

    def _scan_csv(self, **options: Any) -> pl.LazyFrame:
        options["separator"] = self.csv_format["separator"]
        options["skip_lines"] = self.skipped_lines
        return pl.scan_csv(self.source, infer_schema=False, glob=False, **options)

    def _open_parquet(self) -> None:
        rows = pl.scan_parquet(self.source, glob=False)
        header = rows.collect_schema().names()
        self.names = self._strip(header)
        new_names = dict(zip(header, self.names, strict=True))
        self.rows = rows.rename(new_names)

    def _strip(self, header: Sequence[str | None]) -> list[str]:
        names: list[str] = []
        for cell in header:
            name = normalize(cell or "")
            if not name and name in names:  # a spreadsheet's empty columns
                name = f"column_{len(names) + 1}"
            if name in names:
                raise UserError(f"{self.name}: has two columns {name!r}; expected distinct names")
            names.append(name)
        return names

    @cached_property
    def sample(self) -> pl.DataFrame:
        """The first rows."""
        return self.rows.head(SAMPLE_ROWS).collect(engine="streaming")

    def texts(self, selected: cs.Selector = READABLE) -> pl.Expr:
        """Returns columns as stripped text, null where missing."""
        cells = selected.as_expr().cast(pl.String).str.strip_chars()
        return pl.when(~cells.is_in(self.missing)).then(cells)

    def _parse(self, selected: cs.Selector, is_formatted: bool = False) -> pl.Expr:
        texts = selected.as_expr().cast(pl.String).str.strip_chars()
        is_present = ~texts.is_in(self.missing)
        if is_formatted:
            plain = texts.str.replace_all(MARKS, "")
            texts = pl.when(texts.str.contains(FORMATTED)).then(plain).otherwise(texts)
        numbers = to_number(texts, self.csv.decimal_comma)
        return self._present(pl.when(is_present).then(numbers))

    def _present(self, numbers: pl.Expr) -> pl.Expr:
        numbers = numbers.cast(pl.Float64).fill_nan(None)
        codes = pl.Series(self.missing).cast(pl.Float64, strict=False)
        codes = codes.filter(codes.is_finite())  # such as -999
        if codes.is_empty():
            return numbers
        is_code = numbers.is_in(codes.to_list())
        return pl.when(~is_code).then(numbers)

    def labels(self, *names: str) -> pl.Expr:
        """Returns columns as classes or categories, null where a value is missing."""
        return to_labels(columns(*names).cast(pl.String), self.missing)

    def numbers(self, names: Iterable[str]) -> list[pl.Expr]:
        """Returns columns as float64: null where a value is missing, infinite where invalid."""
        selected = cs.by_name(*names)
        formatted = selected & cs.by_name(*self.formatted)
        plain = selected - cs.numeric() - formatted
        return [
            self._present((selected & cs.numeric()).as_expr()),
            self._parse(plain),
            self._parse(formatted, is_formatted=True),
        ]

    def values(self, features: Iterable[Feature], target: str | None = None) -> list[pl.Expr]:
        """Returns the columns of the features, as numbers or text, and the class as `CLASS`."""
        label = pl.lit(None, pl.String)
        if target is not None:
            label = self.labels(target)
        texts = {feature.column for feature in features if feature.category is not None}
        numbers = self.numbers(number_columns(features))
        return [*numbers, self.labels(*texts), label.alias(CLASS)]

    def inputs(self, features: Sequence[Feature], target: str | None = None) -> pl.LazyFrame:
        """Returns the features, encoded as float32, `CLASS` and `MISSING`."""
        missing = pl.any_horizontal(pl.exclude(CLASS).is_null()).alias(MISSING)
        return self.rows.select(self.values(features, target)).select(
            *encode(features), CLASS, missing
        )

    def parsed(self, names: Iterable[str]) -> "TableFile":
        """Returns the same table with its numbers parsed by polars' CSV reader.

        This is faster, but raises an error for invalid numbers and keeps blank rows.
        """
        if not self.is_csv or self.csv.decimal_comma:  # polars would also accept `1.5`
            return self
        parsed = copy.copy(self)
        kinds = dict.fromkeys(set(names).difference(self.formatted), pl.Float64)
        parsed.rows = self._scan_csv(
            new_columns=self.names,
            has_header=self.csv.header,
            schema_overrides=kinds,
            null_values=self.missing,
        )
        return parsed

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Reports errors in the file as `UserError`."""
        try:
            yield
        except (PolarsError, OSError, EOFError, zlib.error) as error:
            reason = str(error).partition("\n")[0]
            remedy = None
            if "found more fields" in reason:
                row = self._find_long_row()
                where = "a row"
                if row is not None:
                    where = f"row {row}"
                reason = f"{where} has more cells than the header"
            if "invalid utf" in reason:
                reason, remedy = "a cell is not in UTF-8", ("encoding", "cp1252")
            raise UserError(f"{self.name}: cannot be read: {reason}", remedy=remedy) from error

    def _find_long_row(self) -> Any:
        """Returns the number of the first row with more cells than the header, or `None`."""
        rows = self._scan_csv(
            has_header=False,
            schema=dict.fromkeys([*self.names, " "], pl.String),
            missing_columns="insert",
            truncate_ragged_lines=True,
        )
        return rows.select(columns(" ").is_not_null().arg_true().first()).collect().item()
