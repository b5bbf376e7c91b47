"""The file formats of tables, CSV and Parquet; what is wrong with a file is told by column and row."""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import torch
from polars.exceptions import PanicException, PolarsError

from iris_lightning.errors import UserError
from iris_lightning.tables.table import check_columns

__all__ = ["SUFFIXES", "TableFile", "columns"]

SUFFIXES = (".csv", ".csv.gz", ".csv.zst", ".parquet")
FLOAT32_MAX = torch.finfo(torch.float32).max
SAMPLE = 1000  # rows of a CSV file that decide which columns are numbers


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
    """

    def __init__(self, source: str, decimal_comma: bool, name: str | None = None) -> None:
        self.source = source
        self.path = name or source
        self.decimal_comma = decimal_comma
        self.is_csv = not source.endswith(".parquet")
        if not source.endswith(SUFFIXES):
            raise UserError(f"{source}: expected a file that ends in {', '.join(SUFFIXES)}")
        if not Path(source).is_file():
            raise UserError(f"{source}: {'is a folder' if Path(source).is_dir() else 'no such file'}")
        with self._reading():
            if self.is_csv:
                self._open_csv()
            else:
                self.rows = pl.scan_parquet(source, glob=False)
                schema = self.rows.collect_schema()
                self.names = self.header = schema.names()
                self.numeric = [name for name, dtype in schema.items() if dtype.is_numeric()]

    def _open_csv(self) -> None:
        with open(self.source, "rb") as file:
            start = file.read(1 << 16) if self.source.endswith(".csv") else b""
        self.dialect: dict[str, Any] = {
            "separator": ";" if self.decimal_comma else ",",
            "eol_char": "\r" if b"\r" in start and b"\n" not in start else "\n",  # "\n" serves "\r\n", too
            "infer_schema": False,
            "glob": False,
        }
        first = pl.read_csv(self.source, has_header=False, n_rows=1, truncate_ragged_lines=True, **self.dialect)
        self.header = [str(name or "") for name in first.row(0)]
        self.names = [name.strip() for name in self.header]
        for i, name in enumerate(self.names):
            if not name or "\0" in name:
                raise UserError(f"{self.path}: cannot be read as CSV: column {i + 1} has no name")
            if name in self.names[:i]:
                raise UserError(f"{self.path}: has two columns {name!r}; expected distinct names")
        if len(self.names) == 1 and ";" in self.names[0]:
            raise UserError(f"{self.path}: has one column only ({self.names[0]!r})", remedy=("decimal_comma", "true"))
        self.rows = self._scan_csv()
        sample = self.rows.head(SAMPLE).select(self.number(name).count() / columns(name).count() for name in self.names)
        # A share, since a stray text must not hide a column of numbers: it is an error to be told.
        self.numeric = [name for name, share in zip(self.names, sample.collect().row(0), strict=True) if share >= 0.5]

    def _scan_csv(self, **options: Any) -> pl.LazyFrame:
        rows = pl.scan_csv(self.source, new_columns=self.names, **self.dialect, **options)
        return rows.filter(~pl.all_horizontal(pl.all().is_null()))  # without blank lines

    def check_rows(self) -> None:
        """Refuses rows without any value, which `rows` passes over as it does blank lines."""
        if not self.is_csv:
            return
        separator = self.dialect["separator"]
        empty = rf'^[\s"]*{separator}[\s"{separator}]*$' if len(self.names) > 1 else r'^[\s"]*$'
        whole: dict[str, Any] = {"has_header": False, "separator": "\0", "quote_char": None, "new_columns": ["line"]}
        with self._reading():
            lines = pl.scan_csv(self.source, **{**self.dialect, **whole})
            found = lines.with_row_index().filter(columns("line").fill_null("").str.contains(empty))
            row = found.select(columns("index").first()).collect(engine="streaming").item()
        if row is not None:
            raise UserError(f"{self.path}: line {row + 1} has no value at all; take it out")

    def number(self, name: str) -> pl.Expr:
        """The values of a column as float64, and null where they are no number."""
        column = columns(name)
        if self.is_csv:
            column = column.str.strip_chars()
            if self.decimal_comma:
                column = column.str.replace(",", ".", literal=True)
        return column.cast(pl.Float64, strict=False)

    def label(self, name: str) -> pl.Expr:
        """The values of the target as text, and null where there is none."""
        text = columns(name).cast(pl.String)
        return pl.when(~text.is_in(["", "NaN"])).then(text)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
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

    def target(self, name: str | None) -> str:
        """Returns the column of the class, which is that name, or by default `species`, else the last one."""
        if len(self.names) == 1:
            raise UserError(f"{self.path}: has one column only ({self.names[0]!r})")
        if self.rows.head(1).collect().is_empty():
            raise UserError(f"{self.path}: has no rows{', only a header' if self.is_csv else ''}")
        if name is None:
            return "species" if "species" in self.names else self.names[-1]
        return check_columns("target", [name], self.names, self.path)[0]

    def features(self, names: Sequence[str] | None, target: str) -> tuple[list[str], list[str]]:
        """Returns the columns of the features, and those that are left out by default since they are not numbers."""
        others = [name for name in self.names if name != target]
        if names is None:
            numeric = [name for name in others if name in self.numeric]
            if not numeric:
                raise UserError(f"{self.path}: has no column of numbers beside the target {target!r}")
            return numeric, [name for name in others if name not in numeric]
        if target in names:
            raise UserError(f"{target!r} is the target", "features", remedy=("target", "COLUMN"))
        for name in check_columns("features", names, self.names, self.path):
            if name not in self.numeric:
                example = self.rows.select(columns(name).drop_nulls().first()).collect().item()
                rest = ", ".join(other for other in names if other != name)
                message = f"{self.path}: column {name!r} holds text, not numbers, such as {example!r}"
                raise UserError(message, remedy=("features", f"'[{rest}]'"))
        return list(names), []

    def read(self, features: list[str], target: str) -> pl.DataFrame:
        """Reads the features as float32 and the target as categories."""
        rows = self.rows
        if self.is_csv:
            types = dict.fromkeys(features, pl.Float64)
            rows = self._scan_csv(schema_overrides=types, decimal_comma=self.decimal_comma)
        # By way of float64, so that the same rows in CSV and Parquet are the same numbers.
        values = columns(*features).cast(pl.Float64).cast(pl.Float32)
        try:
            with self._reading():
                return rows.select(values, self.label(target).cast(pl.Categorical)).collect(engine="streaming")
        except UserError as error:
            raise (self.first_invalid_row(features, target, drop=True) or error) from error

    def first_invalid_row(self, features: list[str], target: str | None = None, drop: bool = False) -> UserError | None:
        """Returns what is wrong with the first row that cannot be used, if there is one; the target is for training."""
        numbers = {name: self.number(name) for name in features}
        invalid = [numbers[name].is_null() & columns(name).is_not_null() for name in features]
        invalid += [number.cast(pl.Float32).is_infinite() for number in numbers.values()]
        if not drop:
            invalid += [columns(name).is_null() | numbers[name].is_nan() for name in features]
            invalid += [] if target is None else [self.label(target).is_null()]
        index = "row\0"  # no column's name
        with self._reading():
            found = self.rows.with_row_index(index, offset=1).filter(pl.any_horizontal(invalid)).head(1).collect()
        if found.is_empty():
            return None
        values = found.select(number.alias(name) for name, number in numbers.items()).row(0, named=True)
        texts = found.row(0, named=True)
        remedy = ("missing", "drop") if target is not None else None
        for name in features:
            place, value = f"{self.path}: column {name!r}, row {texts[index]}", values[name]
            if texts[name] is None:
                return UserError(f"{place}: missing value; expected a number", remedy=remedy)
            if value is None or not abs(value) <= FLOAT32_MAX:
                kind = "number" if value is None else "finite number of float32"
                return UserError(f"{place}: {texts[name]!r} is not a {kind}")
        return UserError(f"{self.path}: column {target!r}, row {texts[index]}: no class", remedy=remedy)
