"""The file formats of tables, CSV and Parquet; what is wrong with a file is told by column and row."""

import contextlib
import csv
import math
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs
from polars.exceptions import PanicException, PolarsError

from iris_lightning.errors import UserError, few
from iris_lightning.features import Feature, categories_of
from iris_lightning.tables.table import SEPARATORS

__all__ = ["FORMATS", "SUFFIXES", "WHOLE", "Dialect", "TableFile", "columns"]

SUFFIXES = (*(f".{kind}{packed}" for packed in ("", ".gz", ".zst") for kind in ("csv", "tsv", "txt")), ".parquet")
FORMATS = ".csv, .tsv, .txt (also with .gz or .zst) or .parquet"
NA_VALUES = ("NA", "N/A", "NaN", "null", "None", "?")
WHOLE = r"^([+-]?\d+)\.0*$"  # a whole number, however it is written
SAMPLE = 1000  # rows of a CSV file that decide which columns are numbers


class Dialect(NamedTuple):
    """How a table is written: whether numbers look like `5,1`, what is between columns, and what means no value.

    By default the separator, one of `SEPARATORS`, is what splits the first rows alike, and what means no value are
    `NA_VALUES`. An empty cell has no value, too.
    """

    decimal_comma: bool = False
    separator: str | None = None
    na_values: Sequence[str | float] | None = None


def columns(*names: str) -> pl.Expr:
    """The columns with these names; `pl.col` would take `*` and `^...$` for patterns."""
    return cs.by_name(*names).as_expr()


class TableFile:
    """A table file: its columns, which of them hold numbers, and its rows.

    Attributes:
        names: The columns, in their order.
        header: The same as they stand in the file, with spaces around them.
        numeric: Those that hold numbers.
        rows: The rows as they stand in the file; in CSV, as text.
        path: What messages call the file.
        separator: What is between the columns.
    """

    def __init__(self, source: str, dialect: Dialect, name: str | None = None) -> None:
        self.source = source
        self.path = name or source
        self.dialect = dialect
        self.missing = [*map(str, NA_VALUES if dialect.na_values is None else dialect.na_values), ""]
        self.separator = ";" if dialect.decimal_comma else ","
        self.is_csv = not source.endswith(".parquet")
        if not source.endswith(SUFFIXES):
            raise UserError(f"{source}: expected a file that ends in {FORMATS}")
        if not Path(source).is_file():
            missing = "is a folder" if Path(source).is_dir() else "is not a regular file"
            raise UserError(f"{source}: {missing if Path(source).exists() else 'no such file'}")
        with self.reading():
            if self.is_csv:
                self._open_csv()
            else:
                self.rows = pl.scan_parquet(source, glob=False)
                schema = self.rows.collect_schema()
                self.names = self.header = schema.names()
                self.numeric = [name for name, dtype in schema.items() if dtype.is_numeric()]

    def _open_csv(self) -> None:
        with open(self.source, "rb") as file:
            start = b"" if self.source.endswith((".gz", ".zst")) else file.read(1 << 16)
        self.options: dict[str, Any] = {
            "eol_char": "\r" if b"\r" in start and b"\n" not in start else "\n",  # "\n" serves "\r\n", too
            "infer_schema": False,
            "glob": False,
        }
        first: dict[str, Any] = {"has_header": False, "n_rows": 1, "truncate_ragged_lines": True}
        self.separator = self.options["separator"] = self._find_separator()
        self.header = [str(name or "") for name in pl.read_csv(self.source, **first, **self.options).row(0)]
        self.names = [name.strip() for name in self.header]
        for i, name in enumerate(self.names):
            if "\0" in name or (not name and "" in self.names[:i]):  # one may number the rows: R, pandas
                raise UserError(f"{self.path}: cannot be read as CSV: column {i + 1} has no name")
            if name in self.names[:i]:
                raise UserError(f"{self.path}: has two columns {name!r}; expected distinct names")
        self.rows = self.scan_csv()
        self.numeric = self.mostly_numbers(self.names, self.dialect.decimal_comma)

    def _find_separator(self) -> str:
        """Returns what splits the first rows into most columns, the same number in each; in doubt, the comma."""
        if self.dialect.separator is not None:
            return SEPARATORS[self.dialect.separator]
        how: dict[str, Any] = {"has_header": False, "separator": "\0", "quote_char": None, "n_rows": 30}
        lines = [f"{line or ''}\n" for line in pl.read_csv(self.source, **how, **self.options).to_series()]
        separators = [mark for mark in SEPARATORS.values() if not (mark == "," and self.dialect.decimal_comma)]
        rows = {mark: [len(row) for row in csv.reader(lines, delimiter=mark) if row][:10] for mark in separators}
        alike = [mark for mark in separators if len(set(rows[mark])) == 1 and rows[mark][0] > 1]
        return max(alike or separators, key=lambda mark: max(rows[mark][:1], default=0))

    def _scan_lines(self, **options: Any) -> pl.LazyFrame:
        return pl.scan_csv(self.source, new_columns=self.names, **self.options, **options)

    def scan_csv(self, **options: Any) -> pl.LazyFrame:
        """The rows of a CSV file without blank lines, read with these options of polars."""
        return self._scan_lines(**options).filter(~pl.all_horizontal(pl.all().is_null()))

    def check_rows(self, num_rows: int | None = None) -> None:
        """Refuses rows without any value, which `rows` passes over as it does blank lines; `num_rows` were not."""
        if not self.is_csv or num_rows == self._scan_lines().select(pl.len()).collect().item():
            return
        separator = re.escape(self.separator)
        empty = rf'^[\s"]*{separator}[\s"{separator}]*$' if len(self.names) > 1 else r'^[\s"]*$'
        whole: dict[str, Any] = {"has_header": False, "separator": "\0", "quote_char": None, "new_columns": ["line"]}
        with self.reading():
            lines = pl.scan_csv(self.source, **{**self.options, **whole})
            found = lines.with_row_index().filter(columns("line").fill_null("").str.contains(empty))
            row = found.select(columns("index").first()).collect(engine="streaming").item()
        if row is not None:
            raise UserError(f"{self.path}: line {row + 1} has no value at all; take it out")

    def mostly_numbers(self, names: Sequence[str], decimal_comma: bool) -> list[str]:
        """Returns those of some columns that hold numbers in at least half of the first rows of a CSV file.

        Half, since a stray text must not hide a column of numbers: it is an error to be told.
        """
        numbers = [self._parse(name, decimal_comma) for name in names]
        shares = [number.is_finite().sum() / number.count() for number in numbers]
        found = self.rows.head(SAMPLE).select(share.alias(str(i)) for i, share in enumerate(shares)).collect().row(0)
        return [name for name, share in zip(names, found, strict=True) if share >= 0.5]

    def number(self, name: str) -> pl.Expr:
        """The values of a column as float64: null where there is none, infinite where it is no number."""
        return self._parse(name, self.dialect.decimal_comma) if self.is_csv else self.present(columns(name))

    def _parse(self, name: str, decimal_comma: bool) -> pl.Expr:
        text = columns(name).str.strip_chars()
        number = (text.str.replace(",", ".", literal=True) if decimal_comma else text).cast(pl.Float64, strict=False)
        return self.present(pl.when(~text.is_in(self.missing)).then(number.fill_null(math.inf)))

    def present(self, number: pl.Expr) -> pl.Expr:
        """A number as float64, and null where it stands for a missing value."""
        number = number.cast(pl.Float64).fill_nan(None)
        codes = pl.Series(self.missing).cast(pl.Float64, strict=False).drop_nulls().drop_nans().to_list()
        return pl.when(~number.is_in(codes)).then(number) if codes else number

    def text(self, name: str) -> pl.Expr:
        """The values of a column as text without spaces around it, and null where there is none."""
        text = columns(name).cast(pl.String).str.strip_chars()
        return pl.when(~text.is_in(self.missing)).then(text)

    def label(self, name: str) -> pl.Expr:
        """The same, with `1.0` as `1`."""
        return self.text(name).str.replace(WHOLE, "${1}")

    def inputs(self, features: Sequence[Feature]) -> list[pl.Expr]:
        """The features as float32: null where there is no value, infinite where it is none that can be used."""
        for feature in features:
            if not self.is_csv and feature.category is None and feature.column not in self.numeric:
                kind = self.rows.collect_schema()[feature.column]
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
            ragged = "found more fields" in str(error)
            reason = "a row has more cells than the header" if ragged else str(error).splitlines()[0]
            kind = "CSV" if self.is_csv else "Parquet"
            raise UserError(f"{self.path}: cannot be read as {kind}: {reason}") from error
        finally:
            notice.cancel()

    def first_invalid_row(
        self, features: Sequence[Feature], target: str | None = None, missing: str = "error"
    ) -> UserError | None:
        """Returns what is wrong with the first row that cannot be used, if there is one; the target is for training."""
        inputs = self.inputs(features)
        invalid = [value.is_infinite() for value in inputs]
        if missing == "error":
            invalid += [value.is_null() for value in inputs]
        if missing != "drop" and target is not None:
            invalid.append(self.label(target).is_null())
        index = "row\0"  # no column's name
        with self.reading():
            found = self.rows.with_row_index(index, offset=1).filter(pl.any_horizontal(invalid)).head(1).collect()
        if found.is_empty():
            return None
        values, texts = found.select(inputs).row(0), found.row(0, named=True)
        remedy = ("missing", "drop or mean") if target is not None else None
        for feature, value in zip(features, values, strict=True):
            place, text = f"{self.path}: column {feature.column!r}, row {texts[index]}", str(texts[feature.column])[:80]
            kind = "number" if feature.category is None else "category"
            if value is None and missing == "error":
                return UserError(f"{place}: missing value; expected a {kind}", remedy=remedy)
            if value is None or math.isfinite(value):
                continue
            if feature.category is not None:
                known = few(categories_of(feature, features))
                return UserError(f"{place}: unknown category {text.strip()!r}; known: {known}")
            if not self.dialect.decimal_comma and re.fullmatch(r"\s*[+-]?\d*,\d+\s*", text):
                return UserError(f"{place}: {text!r} is not a number", remedy=("decimal_comma", "true"))
            finite = re.fullmatch(r"[+-]?([\d.,]+(e[+-]?\d+)?|inf(inity)?)", text.strip().lower())
            return UserError(f"{place}: {text!r} is not a {'finite number of float32' if finite else 'number'}")
        return UserError(f"{self.path}: column {target!r}, row {texts[index]}: no class", remedy=("missing", "drop"))
