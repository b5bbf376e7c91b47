"""A CSV or Parquet file of a table; what is wrong with one is told by file, column and row."""

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

    Args:
        source: The file.
        decimal_comma: Whether a CSV file separates columns with `;` and writes numbers as `5,1`.
        name: What messages call it, where that is not the file's name.

    Raises:
        UserError: If there is no such file, or it is no table.
    """

    def __init__(self, source: str, decimal_comma: bool, name: str | None = None) -> None:
        self.source = source
        self.path = name or source  # what messages call it
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
        }
        header = pl.read_csv(
            self.source,
            has_header=False,
            n_rows=1,
            infer_schema=False,
            glob=False,
            truncate_ragged_lines=True,
            **self.dialect,
        ).row(0)
        self.header = [str(name or "") for name in header]
        self.names = [name.strip() for name in self.header]
        for i, name in enumerate(self.names):
            if not name or "\0" in name:
                raise UserError(f"{self.path}: cannot be read as CSV: column {i + 1} has no name")
            if name in self.names[:i]:
                raise UserError(f"{self.path}: has two columns {name!r}; expected distinct names")
        if len(self.names) == 1 and ";" in self.names[0]:
            raise UserError(f"{self.path}: has one column only ({self.names[0]!r})", remedy=("decimal_comma", "true"))
        rows = pl.scan_csv(self.source, infer_schema=False, glob=False, **self.dialect)
        raw_names = rows.collect_schema().names()  # which polars leaves with doubled quotes
        self.raw_names = dict(zip(raw_names, self.names, strict=True))
        self.rows = self._without_blank_lines(rows)
        sample = self.rows.head(SAMPLE).select(self.number(name).count() / columns(name).count() for name in self.names)
        shares = sample.collect().row(0)
        # A share, since a stray text must not hide a column of numbers: it is an error to be told.
        self.numeric = [name for name, share in zip(self.names, shares, strict=True) if share >= 0.5]

    def check_rows(self) -> None:
        """Refuses rows without any value, which `rows` passes over as it does blank lines.

        Raises:
            UserError: If there is such a row.
        """
        if not self.is_csv:
            return
        separator = self.dialect["separator"]
        empty = rf'^[\s"]*{separator}[\s"{separator}]*$' if len(self.names) > 1 else r'^[\s"]*$'
        with self._reading():
            lines = pl.scan_csv(
                self.source, has_header=False, schema={"line": pl.String}, separator="\0", quote_char=None, glob=False
            )
            found = lines.with_row_index().filter(pl.col("line").fill_null("").str.contains(empty))
            row = found.select(pl.col("index").first()).collect(engine="streaming").item()
        if row is not None:
            raise UserError(f"{self.path}: line {row + 1} has no value at all; take it out")

    def _without_blank_lines(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(~pl.all_horizontal(pl.all().is_null())).rename(self.raw_names)

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
        column = columns(name)
        if self.rows.collect_schema()[name].is_float():
            column = column.fill_nan(None)
        text = column.cast(pl.String)
        return pl.when(text != "").then(text)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turns what polars cannot read into a mistake in the file, and says so where reading takes over a second."""
        size = Path(self.source).stat().st_size / 1e6
        notice = threading.Timer(1, lambda: print(f"reading {self.path} ({size:.0f} MB) ...", file=sys.stderr))
        notice.start()
        try:
            yield
        except (PolarsError, PanicException, OSError) as error:  # OSError: a damaged compression
            kind = "CSV" if self.is_csv else "Parquet"
            reason = str(error).splitlines()[0]
            if "found more fields" in reason:
                reason = "a row has more cells than the header"
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
                rest = ", ".join(other for other in names if other != name)
                raise UserError(
                    f"{self.path}: column {name!r} holds text, not numbers, such as {self._example(name)!r}",
                    remedy=("features", f"'[{rest}]'"),
                )
        return list(names), []

    def _example(self, name: str) -> object:
        return self.rows.select(columns(name).drop_nulls().first()).collect().item()

    def read(self, features: list[str], target: str) -> pl.DataFrame:
        """Reads the features as float32 and the target as categories."""
        rows = self.rows
        if self.is_csv:
            kinds = {raw: pl.Float64 if name in features else pl.String for raw, name in self.raw_names.items()}
            typed = pl.scan_csv(self.source, schema=kinds, glob=False, decimal_comma=self.decimal_comma, **self.dialect)
            rows = self._without_blank_lines(typed)
        # By way of float64, so that the same rows in CSV and Parquet are the same numbers.
        values = columns(*features).cast(pl.Float64).cast(pl.Float32)
        try:
            with self._reading():
                return rows.select(values, self.label(target).cast(pl.Categorical)).collect(engine="streaming")
        except UserError as error:
            raise (self.first_invalid_row(features, target, missing="drop") or error) from error

    def first_invalid_row(
        self, features: list[str], target: str | None = None, missing: str = "error"
    ) -> UserError | None:
        """Returns what is wrong with the first row that cannot be used, if there is one.

        Args:
            features: The columns of the features.
            target: The column of the class, in training.
            missing: Whether a missing value is an `error`.
        """
        numbers = {name: self.number(name) for name in features}
        invalid = [numbers[name].is_null() & columns(name).is_not_null() for name in features]
        invalid += [numbers[name].cast(pl.Float32).is_infinite() for name in features]
        if missing == "error":
            invalid += [columns(name).is_null() for name in features] + [number.is_nan() for number in numbers.values()]
            if target is not None:
                invalid.append(self.label(target).is_null())
        index = "row\0"  # no column's name
        with self._reading():
            found = self.rows.with_row_index(index, offset=1).filter(pl.any_horizontal(invalid)).head(1).collect()
            if found.is_empty():
                return None
            values = found.select(number.alias(name) for name, number in numbers.items()).row(0, named=True)
        texts = found.row(0, named=True)
        drop = ("missing", "drop") if target is not None else None
        for name in features:
            where = f"{self.path}: column {name!r}, row {texts[index]}"
            if texts[name] is None:
                return UserError(f"{where}: missing value; expected a number", remedy=drop)
            if values[name] is None:
                return UserError(f"{where}: {texts[name]!r} is not a number")
            if not abs(values[name]) <= FLOAT32_MAX:
                return UserError(f"{where}: {texts[name]} is not a finite number of float32")
        return UserError(f"{self.path}: column {target!r}, row {texts[index]}: no class", remedy=drop)
