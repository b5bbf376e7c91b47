"""The file formats of tables, CSV and Parquet."""

import codecs
import contextlib
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs
from polars.exceptions import PanicException, PolarsError

from iris_lightning.errors import UserError
from iris_lightning.features import NA_VALUES, WHOLE, Feature, categories_of
from iris_lightning.tables.separators import find_separator, ragged_row
from iris_lightning.tables.table import SEPARATORS

__all__ = ["FORMATS", "SUFFIXES", "Dialect", "TableFile", "as_label", "columns"]

SUFFIXES = (*(f".{kind}{packed}" for packed in ("", ".gz", ".zst") for kind in ("csv", "tsv", "txt")), ".parquet")
FORMATS = ".csv, .tsv, .txt (also with .gz or .zst) or .parquet"
SAMPLE = 1000  # rows of a CSV file that decide which columns are numbers


class Dialect(NamedTuple):
    """How a table is written: whether numbers look like `5,1`, what is between columns, and what means no value.

    By default the separator, one of `SEPARATORS`, is what splits the first rows alike, and what means no value are
    `NA_VALUES`. An empty cell has no value, too.
    """

    decimal_comma: bool = False
    separator: str | None = None
    na_values: Sequence[str | float | None] | None = None


def columns(*names: str) -> pl.Expr:
    """The columns with these names; `pl.col` would take `*` and `^...$` for patterns."""
    return cs.by_name(*names).as_expr()


def as_label(text: pl.Expr) -> pl.Expr:
    """Classes or categories as `label_of` writes them."""
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(["true", "false"])).then(lower).otherwise(text.str.replace(WHOLE, "${1}"))


class TableFile:
    """A table file: its columns, which of them hold numbers, and its rows.

    Attributes:
        names: The columns, in their order.
        header: The same as they stand in the file, maybe with spaces around them.
        numeric: Those that hold numbers.
        rows: The rows as they stand in the file; in CSV, as text.
        path: What messages call the file.
        separator: What is between the columns.
    """

    def __init__(self, source: str, dialect: Dialect, name: str | None = None) -> None:
        self.source = source
        self.path = name or source
        self.dialect = dialect
        na_values = NA_VALUES if dialect.na_values is None else dialect.na_values
        for value in na_values:
            if isinstance(value, bool):
                raise UserError(f"expected texts or numbers, got {value}; put it in quotes", "na_values")
        self.missing = ["null" if value is None else str(value) for value in (*na_values, "")]
        self.separator = ";" if dialect.decimal_comma else ","
        self.is_csv = not source.lower().endswith(".parquet")
        if not source.lower().endswith(SUFFIXES):
            raise UserError(f"{source}: expected a file that ends in {FORMATS}")
        if not Path(source).is_file():
            missing = "is a folder" if Path(source).is_dir() else "is not a regular file"
            raise UserError(f"{source}: {missing if Path(source).exists() else 'no such file'}")
        with self.reading():
            if self.is_csv:
                self._open_csv()
            else:
                self.rows = pl.scan_parquet(source, glob=False)
                self.header = self.rows.collect_schema().names()
                self._name_columns()
                self.rows = self.rows.rename(dict(zip(self.header, self.names, strict=True)))
                self.numeric = [name for name, kind in self.kinds().items() if kind.is_numeric()]

    def _name_columns(self) -> None:
        self.names = [name.strip() for name in self.header]
        for i, name in enumerate(self.names):
            if "\0" in name or (not name and "" in self.names[:i]):  # one may number the rows: R, pandas
                raise UserError(f"{self.path}: cannot be read: column {i + 1} has no name")
            if name in self.names[:i]:
                raise UserError(f"{self.path}: has two columns {name!r}; expected distinct names")

    def kinds(self) -> dict[str, pl.DataType]:
        """Returns what the columns hold, which is text in a CSV file."""
        return dict(self.rows.collect_schema())

    def _open_csv(self) -> None:
        with open(self.source, "rb") as file:
            start = b"" if self.source.lower().endswith((".gz", ".zst")) else file.read(1 << 16)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(f"{self.path}: is written in UTF-16; save it as UTF-8")
        self.options: dict[str, Any] = {
            "eol_char": "\r" if b"\r" in start and b"\n" not in start else "\n",  # "\n" serves "\r\n", too
            "infer_schema": False,
            "glob": False,
        }
        first: dict[str, Any] = {"has_header": False, "n_rows": 1, "truncate_ragged_lines": True}
        how: dict[str, Any] = {"has_header": False, "separator": "\0", "quote_char": None, "n_rows": 30}
        lines = [str(line or "") for line in pl.read_csv(self.source, **how, **self.options).to_series()]
        self.separator = self.options["separator"] = (
            find_separator(lines, self.dialect.decimal_comma)
            if self.dialect.separator is None
            else SEPARATORS[self.dialect.separator]
        )
        self.header = [str(name or "") for name in pl.read_csv(self.source, **first, **self.options).row(0)]
        self._name_columns()
        self.rows = self.scan_csv()
        self.numeric = self.mostly_numbers(self.names, self.dialect.decimal_comma)

    def _scan_lines(self, **options: Any) -> pl.LazyFrame:
        return pl.scan_csv(self.source, new_columns=self.names, **self.options, **options)

    def scan_csv(self, **options: Any) -> pl.LazyFrame:
        """The rows of a CSV file without blank lines, read with these options of polars."""
        return self._scan_lines(**options).filter(~pl.all_horizontal(pl.all().is_null()))

    @cached_property
    def num_lines(self) -> int:
        """Returns the number of rows of a CSV file and of blank lines."""
        return int(self._scan_lines().select(pl.len()).collect().item())

    def mostly_numbers(self, names: Sequence[str], decimal_comma: bool) -> list[str]:
        """Returns those of some columns that hold numbers in at least half of the first rows of a CSV file.

        Half, since a stray text must not hide a column of numbers: it is an error to be told.
        """
        shares = self._shares_of_numbers(names, self.rows.head(SAMPLE), decimal_comma)
        if empty := [name for name, share in shares.items() if math.isnan(share)]:
            shares |= self._shares_of_numbers(empty, self.rows, decimal_comma)
        return [name for name, share in shares.items() if share >= 0.5]

    def _shares_of_numbers(self, names: Sequence[str], rows: pl.LazyFrame, decimal_comma: bool) -> dict[str, float]:
        numbers = [self._parse(name, decimal_comma) for name in names]
        shares = [(number.is_finite().sum() / number.count()).alias(str(i)) for i, number in enumerate(numbers)]
        return dict(zip(names, rows.select(shares).collect().row(0), strict=True))

    def number(self, name: str) -> pl.Expr:
        """The values of a column as float64: null where there is none, infinite where it is no number."""
        return self._parse(name, self.dialect.decimal_comma) if self.is_csv else self.present(columns(name))

    def _parse(self, name: str, decimal_comma: bool) -> pl.Expr:
        text = columns(name).str.strip_chars()
        if decimal_comma:  # where a point is between thousands, if anything
            text = text.str.replace(".", "point", literal=True).str.replace(",", ".", literal=True)
        number = text.cast(pl.Float64, strict=False)
        return self.present(pl.when(~text.is_in(self.missing)).then(number.fill_null(math.inf)))

    def present(self, number: pl.Expr) -> pl.Expr:
        """A number as float64, and null where it stands for a missing value."""
        number = number.cast(pl.Float64).fill_nan(None)
        codes = pl.Series(self.missing).cast(pl.Float64, strict=False).drop_nulls().drop_nans().to_list()
        return pl.when(~number.is_in(codes)).then(number) if codes else number

    def text(self, name: str) -> pl.Expr:
        """The values of a column as text without spaces around it, and null where there is none."""
        column = columns(name).fill_nan(None) if self.kinds()[name].is_float() else columns(name)
        text = column.cast(pl.String).str.strip_chars()
        missing = text.is_in(self.missing)
        if self.dialect.na_values is not None:  # which may be numbers, written in any way
            missing |= as_label(text).is_in(self.missing)
        return pl.when(~missing).then(text)

    def label(self, name: str) -> pl.Expr:
        """The same, with `1.0` as `1`, and `True` as `true`."""
        return as_label(self.text(name))

    def inputs(self, features: Sequence[Feature]) -> list[pl.Expr]:
        """The features as float32: null where there is no value, infinite where it is none that can be used."""
        for feature in features:
            if not self.is_csv and feature.category is None and feature.column not in self.numeric:
                kind = self.kinds()[feature.column]
                raise UserError(f"{self.path}: column {feature.column!r} holds {kind}, not numbers")
        return [self._input(feature, features).cast(pl.Float32).alias(feature.name) for feature in features]

    def _input(self, feature: Feature, features: Sequence[Feature]) -> pl.Expr:
        if feature.category is None:
            return self.number(feature.column)
        label, known = self.label(feature.column), categories_of(feature, features)
        there = pl.when(label.is_in(known)).then((label == feature.category).cast(pl.Float64))
        return there.when(label.is_not_null()).then(math.inf)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turns what polars cannot read into a mistake in the file, and says so where reading takes over a second."""
        size = Path(self.source).stat().st_size / 1e6
        notice = threading.Timer(1, lambda: print(f"reading {self.path} ({size:.0f} MB) ...", file=sys.stderr))
        notice.start()
        try:
            yield
        except (PolarsError, PanicException, OSError) as error:  # OSError: a damaged compression
            reason = str(error).splitlines()[0]
            if "utf" in reason.lower():
                reason = "it is not written in UTF-8"
            if "found more fields" in reason:
                row = ragged_row(self.source, self.separator, len(self.names))
                reason = f"{'a row' if row is None else f'row {row}'} has more cells than the header"
            kind = "CSV" if self.is_csv else "Parquet"
            raise UserError(f"{self.path}: cannot be read as {kind}: {reason}") from error
        finally:
            notice.cancel()
