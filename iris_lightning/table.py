"""A CSV or Parquet file -> tensors, with each way in which a file can be unfit told by file, column and row."""

import contextlib
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs
import torch
from polars.exceptions import PanicException, PolarsError
from torch import Tensor

from iris_lightning.errors import UserError, closest

__all__ = ["SUFFIXES", "Table", "load_iris_table", "read_table"]

SUFFIXES = (".csv", ".csv.gz", ".csv.zst", ".parquet")
FLOAT32_MAX = torch.finfo(torch.float32).max
SAMPLE = 1000  # rows of a CSV file that decide which columns are numbers


class Table(NamedTuple):
    """A table as tensors.

    Attributes:
        features: float32, shape `(rows, features)`, in the units of the table (cm for Iris).
        targets: int64, shape `(rows,)`, positions in `class_names`.
        feature_names: The columns of `features`.
        class_names: The classes, in the order of the logits.
        target: The column that `targets` was read from.
        source: What the table is called.
        notes: What a user should know of how it was read.
    """

    features: Tensor
    targets: Tensor
    feature_names: list[str]
    class_names: list[str]
    target: str
    source: str
    notes: list[str]


def load_iris_table(features: Sequence[str] | None = None) -> Table:
    """Returns scikit-learn's Iris: 150 flowers, 4 measurements in cm, 3 species.

    Args:
        features: Columns to take; by default all.

    Raises:
        UserError: If Iris has no such column.
    """
    from sklearn.datasets import load_iris  # here: a second of imports that `--help` can do without

    iris = load_iris()
    names: list[str] = list(iris.feature_names)
    chosen = check_names("--data.features", names if features is None else features, names, "Iris")
    return Table(
        torch.tensor(iris.data, dtype=torch.float32).index_select(
            1, torch.tensor([names.index(name) for name in chosen])
        ),
        torch.tensor(iris.target, dtype=torch.int64),
        chosen,
        [str(name) for name in iris.target_names],
        "species",
        "Iris",
        [],
    )


def read_table(
    path: str,
    target: str | None = None,
    features: Sequence[str] | None = None,
    missing: str = "error",
    decimal_comma: bool = False,
    class_names: Sequence[str] | None = None,
) -> Table:
    """Reads a table of measurements with a class label.

    Args:
        path: A file with one of `SUFFIXES`.
        target: Column of the class; by default `species`, else the last one. Its values are text, whole numbers or
            booleans; the classes are the distinct ones, sorted (numbers by value).
        features: Columns of the features; by default every numeric one but the target.
        missing: What to do with a row that lacks a value: `error` or `drop`.
        decimal_comma: Whether a CSV file separates columns with `;` and writes numbers as `5,1`.
        class_names: The classes that a model knows; others are refused. By default those of the table.

    Raises:
        UserError: If the file is no such table. The message names file, column and row (the first below the header
            is row 1).
    """
    file = _File(path, decimal_comma)
    target = file.target(target)
    names, left_out = file.features(features, target)
    frame = file.read(names, target)
    rows = frame.height
    if missing == "drop":
        frame = frame.filter(pl.all_horizontal(pl.all().is_not_null(), _columns(*names).is_not_nan()))
    usable = pl.all_horizontal(
        _columns(target).is_not_null(), _columns(*names).is_not_null(), _columns(*names).is_finite()
    )
    if not frame.select(usable.all()).item() and (error := file.first_unfit(names, target, missing)):
        raise error
    notes = [f"left out, since they are not numbers: {', '.join(left_out)}"] if left_out else []
    if frame.height < rows:
        notes.append(f"dropped {rows - frame.height} of {rows} rows, which lack a value")
    if frame.height == 0:
        raise UserError(f"{path}: has no row without a missing value")
    found = frame[target].cast(pl.String).unique().to_list()
    if class_names is None:
        classes = _sort_classes(found, f"{path}: column {target!r}", frame.height)
    else:
        classes = list(class_names)
        if unknown := sorted(set(found) - set(classes)):
            raise UserError(f"{path}: column {target!r} has the unknown class {unknown[0]!r}; known: {_few(classes)}")
    codes = frame[target].cast(pl.String).cast(pl.Enum(classes)).to_physical().cast(pl.Int64)
    return Table(
        torch.from_numpy(frame.select(_columns(*names)).to_numpy(order="c", writable=True)),
        torch.from_numpy(codes.to_numpy(writable=True)),
        names,
        classes,
        target,
        Path(path).name,
        notes,
    )


def _sort_classes(values: list[str], where: str, rows: int) -> list[str]:
    """Sorts distinct target values: whole numbers by value, all else as text."""
    if len(values) < 2:
        raise UserError(f"{where} has one class only ({values[0]!r}); expected two or more")
    numbers = [_number(value) for value in values]
    if all(math.isfinite(number) for number in numbers):
        fractional = [value for value, number in zip(values, numbers, strict=True) if not number.is_integer()]
        if fractional:
            raise UserError(
                f"{where} looks continuous: {len(values)} distinct numbers such as {fractional[0]}; "
                "expected classes: text, whole numbers or booleans"
            )
        values = [value for _, value in sorted(zip(numbers, values, strict=True))]
    else:
        values = sorted(values)
    if len(values) > rows / 2:
        raise UserError(
            f"{where} has {len(values)} distinct values in {rows} rows; expected classes, of several rows each"
        )
    return values


def check_names(option: str, names: Sequence[str], columns: Sequence[str], source: str) -> list[str]:
    """Returns the names of columns that an option gives, or says which of them a table has not."""
    if not names or len(set(names)) < len(names):
        raise UserError(f"{option}: expected one or more distinct columns, got {list(names)}")
    for name in names:
        if name not in columns:
            raise UserError(
                f"{option} {name}: no such column in {source}{closest(name, columns)} (it has {_few(columns)})"
            )
    return list(names)


def _columns(*names: str) -> pl.Expr:
    """The columns with these names; `pl.col` would take `*` and `^...$` for patterns."""
    return cs.by_name(*names).as_expr()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


class _File:
    """A table file: its columns, which of them hold numbers, and its rows.

    Attributes:
        names: The columns, in their order.
        numeric: Those that hold numbers.
        rows: The rows as they stand in the file; in CSV, as text.
    """

    def __init__(self, path: str, decimal_comma: bool) -> None:
        self.path = path
        self.decimal_comma = decimal_comma
        self.is_csv = not path.endswith(".parquet")
        if not path.endswith(SUFFIXES):
            raise UserError(f"--data.path {path}: expected a file that ends in {', '.join(SUFFIXES)}")
        if not Path(path).is_file():
            found = "is a folder" if Path(path).is_dir() else "no such file"
            raise UserError(f"--data.path {path}: {found}")
        with self._telling():
            if self.is_csv:
                self._open_csv()
            else:
                self.rows = pl.scan_parquet(path)
                schema = self.rows.collect_schema()
                self.names = schema.names()
                self.numeric = [name for name, dtype in schema.items() if dtype.is_numeric()]
            if self.rows.head(1).collect().is_empty():
                raise UserError(f"{self.path}: has no rows{', only a header' if self.is_csv else ''}")

    def _open_csv(self) -> None:
        with open(self.path, "rb") as file:
            start = file.read(1 << 16) if self.path.endswith(".csv") else b""
        self.dialect: dict[str, Any] = {
            "separator": ";" if self.decimal_comma else ",",
            "eol_char": "\r" if b"\r" in start and b"\n" not in start else "\n",  # "\n" serves "\r\n", too
        }
        header = pl.read_csv(self.path, has_header=False, n_rows=1, infer_schema=False, **self.dialect).row(0)
        self.names = [str(name or "").strip() for name in header]
        for i, name in enumerate(self.names):
            if not name or "\0" in name:
                raise UserError(f"{self.path}: cannot be read as CSV: column {i + 1} has no name")
            if name in self.names[:i]:
                raise UserError(f"{self.path}: has two columns {name!r}; expected distinct names")
        if len(self.names) == 1:
            hint = "; for `;` and decimal commas, give --data.decimal_comma true" if ";" in self.names[0] else ""
            raise UserError(f"{self.path}: has one column only ({self.names[0]!r}){hint}")
        rows = pl.scan_csv(self.path, infer_schema=False, **self.dialect)
        raw_names = rows.collect_schema().names()  # which polars leaves with doubled quotes
        self.raw_names = dict(zip(raw_names, self.names, strict=True))
        self.rows = self._without_blank_lines(rows)
        sample = self.rows.head(SAMPLE).select(
            self._number(name).count() / _columns(name).count() for name in self.names
        )
        shares = sample.collect().row(0)
        # A share, since a stray text must not hide a column of numbers: it is an error to be told.
        self.numeric = [name for name, share in zip(self.names, shares, strict=True) if share >= 0.5]

    def _without_blank_lines(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(~pl.all_horizontal(pl.all().is_null())).rename(self.raw_names)

    def _number(self, name: str) -> pl.Expr:
        """The values of a column as float64, and null where they are no number."""
        column = _columns(name)
        if self.is_csv:
            column = column.str.strip_chars()
            if self.decimal_comma:
                column = column.str.replace(",", ".", literal=True)
        return column.cast(pl.Float64, strict=False)

    def _label(self, name: str) -> pl.Expr:
        """The values of the target as text, and null where there is none."""
        column = _columns(name)
        if self.rows.collect_schema()[name].is_float():
            column = column.fill_nan(None)
        text = column.cast(pl.String)
        return pl.when(text != "").then(text)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Tells what polars cannot read as a mistake in the file, and a reading of over a second as one in progress."""
        size = Path(self.path).stat().st_size / 1e6
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
        if name is None:
            return "species" if "species" in self.names else self.names[-1]
        return check_names("--data.target", [name], self.names, self.path)[0]

    def features(self, names: Sequence[str] | None, target: str) -> tuple[list[str], list[str]]:
        """Returns the columns of the features, and those that are left out by default since they are not numbers."""
        others = [name for name in self.names if name != target]
        if names is None:
            numeric = [name for name in others if name in self.numeric]
            if not numeric:
                raise UserError(f"{self.path}: has no column of numbers beside the target {target!r}")
            return numeric, [name for name in others if name not in numeric]
        if target in names:
            raise UserError(f"--data.features: {target!r} is the target; choose another with --data.target")
        for name in check_names("--data.features", names, self.names, self.path):
            if name not in self.numeric:
                rest = ", ".join(other for other in names if other != name)
                raise UserError(
                    f"{self.path}: column {name!r} holds text, not numbers, such as {self._example(name)!r}; "
                    f"leave it out: --data.features '[{rest}]'"
                )
        return list(names), []

    def _example(self, name: str) -> object:
        return self.rows.select(_columns(name).drop_nulls().first()).collect().item()

    def read(self, features: list[str], target: str) -> pl.DataFrame:
        """Reads the features as float32 and the target as categories."""
        rows = self.rows
        if self.is_csv:
            kinds = {raw: pl.Float64 if name in features else pl.String for raw, name in self.raw_names.items()}
            typed = pl.scan_csv(self.path, schema=kinds, decimal_comma=self.decimal_comma, **self.dialect)
            rows = self._without_blank_lines(typed)
        # By way of float64, so that the same rows in CSV and Parquet are the same numbers.
        values = _columns(*features).cast(pl.Float64).cast(pl.Float32)
        try:
            with self._telling():
                return rows.select(values, self._label(target).cast(pl.Categorical)).collect(engine="streaming")
        except UserError as error:
            raise (self.first_unfit(features, target, missing="drop") or error) from error

    def first_unfit(self, features: list[str], target: str, missing: str) -> UserError | None:
        """Returns what is wrong with the first row that cannot be used, if there is one."""
        numbers = {name: self._number(name) for name in features}
        unfit = [numbers[name].is_null() & _columns(name).is_not_null() for name in features]
        unfit += [numbers[name].cast(pl.Float32).is_infinite() for name in features]
        if missing == "error":
            unfit += [_columns(name).is_null() for name in features] + [number.is_nan() for number in numbers.values()]
            unfit.append(self._label(target).is_null())
        index = "row\0"  # no column's name
        with self._telling():
            found = self.rows.with_row_index(index, offset=1).filter(pl.any_horizontal(unfit)).head(1).collect()
            if found.is_empty():
                return None
            values = found.select(number.alias(name) for name, number in numbers.items()).row(0, named=True)
        texts = found.row(0, named=True)
        for name in features:
            where = f"{self.path}: column {name!r}, row {texts[index]}"
            if texts[name] is None:
                return UserError(f"{where}: no value; expected a number (or drop such rows: --data.missing drop)")
            if values[name] is None:
                return UserError(
                    f"{where}: {texts[name]!r} is not a number; mend it, or leave the column out with --data.features"
                )
            if not abs(values[name]) <= FLOAT32_MAX:
                return UserError(f"{where}: {texts[name]} is not a finite number of float32")
        return UserError(f"{self.path}: column {target!r}, row {texts[index]}: no class (or drop: --data.missing drop)")
