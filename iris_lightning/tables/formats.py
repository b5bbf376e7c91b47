"""Table files: detecting their format and selecting their columns as polars expressions."""

import contextlib
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
from polars.exceptions import PolarsError

from iris_lightning.errors import UserError, join_names
from iris_lightning.features import Feature, missing_texts, normalize, number_columns
from iris_lightning.table import SEPARATORS, CsvFormat
from iris_lightning.tables.texts import find_row, read_start, to_utf8

SUFFIX = re.compile(r".*\.(parquet|(csv|tsv|txt)(\.gz|\.zst)?)", re.IGNORECASE | re.DOTALL)
SAMPLE_ROWS = 5000  # first rows of a table, which show the kind of each column
# Added columns. Names in tables are stripped, so the space at the end avoids clashes.
CLASS = "class "
MISSING = "missing "  # whether a row has missing features
EXTRA = [f"extra {i} " for i in range(3)]  # beyond the columns of the header
# Numbers with thousands separators or units: 1,234.5 or $1,234 or 12.5%.
FORMATTED = r"^[+-]?[$€£¥]?\s?([1-9][0-9]{0,2}(,[0-9]{3})+|[0-9]+)(\.[0-9]*)?\s?[%€]?$"
BOOLEANS = ("True", "TRUE", "False", "FALSE")
WHOLE_DECIMAL = r"^([+-]?\d+)\.0*$"  # such as 1.0


def encode(features: Sequence[Feature], fills_categories: bool) -> list[pl.Expr]:
    """Returns expressions that turn the columns of `Cells.values` into features.

    Missing numbers are null, invalid ones are infinite. Unknown categories have 0 in every feature
    of their column.

    Args:
        features: The features.
        fills_categories: Whether missing categories also have 0 instead of null.
    """
    expressions = []
    for feature in features:
        value = cs.by_name(feature.column).as_expr()  # `pl.col` has patterns such as `*`
        if feature.category is not None:
            compare = value.eq_missing if fills_categories else value.eq
            value = compare(pl.lit(feature.category)).cast(pl.Float32)
        expressions.append(value.alias(feature.name))
    return expressions


def to_number(texts: pl.Expr, decimal_comma: bool | None) -> pl.Expr:
    """Parses stripped texts as float64; invalid numbers become null."""
    if decimal_comma:
        texts = texts.str.replace_many({".": "_", ",": "."})  # `1.5` becomes invalid
    return texts.cast(pl.Float64, strict=False)


def check_suffix(path: str) -> None:
    """Raises an error unless a file has the suffix of a table."""
    if not SUFFIX.fullmatch(path):
        expected = ".csv, .tsv, .txt (also with .gz or .zst) or .parquet"
        raise UserError(f"{path}: expected a file that ends in {expected}")


def stripped(selected: cs.Selector) -> pl.Expr:
    """Returns columns as text without surrounding spaces."""
    return selected.as_expr().cast(pl.String).str.strip_chars()


class Cells:
    """The cells of a table or a data frame, and how to parse them.

    Args:
        name: Name of the table, for messages.
        csv: How the cells are written.
        rows: The cells.

    Attributes:
        missing: Texts that mean a missing value.
        formatted: Numeric columns with thousands separators or units.
        doubtful: Columns that may use the other decimal mark, with an example.
        notes: Notes for the user on how the cells were read.
        csv_format: Options for polars to write a CSV file in the same format; empty for other
            tables.
    """

    first_row = 0  # number of the first row in messages

    def __init__(self, name: str, csv: CsvFormat, rows: pl.LazyFrame) -> None:
        self.name = name
        self.csv = csv
        self.rows = rows
        self.missing = sorted(missing_texts(csv.na_values))
        self.csv_format: dict[str, Any] = {}
        self.notes: list[str] = []
        self.formatted: set[str] = set()
        self.doubtful: dict[str, str] = {}

    @cached_property
    def sample(self) -> pl.DataFrame:
        """The first rows."""
        return self.rows.head(SAMPLE_ROWS).collect(engine="streaming")

    @property
    def names(self) -> list[str]:
        """The column names."""
        return self.sample.columns

    @cached_property
    def numeric(self) -> set[str]:
        """The columns of numbers; `mark_numbers` adds those that are written as text."""
        return set(self.sample.select(cs.numeric()).columns)

    def texts(self, selected: cs.Selector) -> pl.Expr:
        """Returns columns as stripped text, null where missing."""
        cells = stripped(selected)
        return pl.when(~cells.is_in(self.missing)).then(cells)

    def labels(self, *names: str) -> pl.Expr:
        """Returns columns as classes or categories, null where a value is missing.

        They are normalized, so that `1.0` equals `1` and `True` equals `true`.
        """
        cells = self.texts(cs.by_name(*names))
        texts = cells.str.normalize("NFC").str.replace(WHOLE_DECIMAL, "${1}")
        is_boolean = cells.is_in(BOOLEANS)
        return pl.when(is_boolean).then(cells.str.to_lowercase()).otherwise(texts)

    def numbers(self, names: Iterable[str]) -> list[pl.Expr]:
        """Returns columns as float64: null where a value is missing, infinite where invalid."""
        selected = cs.by_name(*names)
        numeric = selected & cs.numeric()
        formatted = selected & cs.by_name(*self.formatted)
        missing = [*self.missing, "nan", "NaN"]
        # The missing texts that are numbers, such as -999.
        codes = pl.Series(missing).cast(pl.Float64, strict=False).to_list()
        values = numeric.as_expr().cast(pl.Float64)
        is_code = values.is_in(codes)
        plain = stripped(selected - numeric - formatted)
        marked = stripped(formatted)
        unmarked = marked.str.replace_all(r"[$€£¥%,\s]", "")
        unmarked = pl.when(marked.str.contains(FORMATTED)).then(unmarked)

        def parse(cells: pl.Expr, digits: pl.Expr) -> pl.Expr:
            parsed = to_number(digits, self.csv.decimal_comma)
            numbers = parsed.fill_null(math.inf).name.keep()
            is_missing = cells.is_in(missing) | parsed.is_in(codes).fill_null(False)
            return pl.when(~is_missing).then(numbers)

        return [pl.when(~is_code).then(values), parse(plain, plain), parse(marked, unmarked)]

    def values(self, features: Sequence[Feature], target: str | None = None) -> list[pl.Expr]:
        """Returns the parsed columns of the features, null where missing, and the target.

        The target, called `CLASS`, is only stripped; its distinct cells are parsed later.
        """
        numbers = number_columns(features)
        texts = {feature.column for feature in features} - numbers
        expressions = [*self.numbers(numbers), self.labels(*texts)]
        if target is not None:
            cells = stripped(cs.by_name(target))
            expressions.append(cells.cast(pl.Categorical).alias(CLASS))
        return expressions

    def inputs(
        self,
        rows: pl.LazyFrame,
        features: Sequence[Feature],
        target: str | None = None,
        fills_categories: bool = True,
    ) -> pl.LazyFrame:
        """Returns the encoded features, `MISSING` and, if there is a target, `CLASS`."""
        values = rows.select(self.values(features, target))
        missing = pl.any_horizontal(pl.exclude(CLASS).is_null()).alias(MISSING)
        label = cs.by_name(CLASS, require_all=False)
        return values.select(*encode(features, fills_categories), label, missing)


class TableFile(Cells):
    """A CSV or Parquet file.

    Spaces around column names are removed, and so are blank rows of a CSV file. All cells of a CSV
    file are text.

    Args:
        source: CSV or Parquet file.
        csv: How a CSV file is written.
        name: Name of the table, for messages; by default the file's path.
    """

    first_row = 1

    def __init__(self, source: str, csv: CsvFormat, name: str | None = None) -> None:
        super().__init__(name or source, csv, pl.LazyFrame())
        self.rows_with_extra = pl.LazyFrame(schema=EXTRA)  # none in a Parquet file
        check_suffix(source)
        if not Path(source).is_file():
            raise UserError(f"{source}: no such file")
        with self.reading():
            if source.lower().endswith(".parquet"):
                self.rows = pl.scan_parquet(source, glob=False).rename(normalize)
            else:
                self.rows = self._open_csv(source)

    def _open_csv(self, path: str) -> pl.LazyFrame:
        source, separator, skipped = self._read_start(path)
        lines = [*map(repr, filter(None, skipped))]
        if lines:
            self.notes.append(f"skipped before the header: {join_names(lines)}")
        chosen = self.csv.separator or separator
        separator = SEPARATORS.get(chosen, chosen)
        self.csv_format = {"separator": separator, "decimal_comma": bool(self.csv.decimal_comma)}
        scan = partial(
            pl.scan_csv,
            source,
            separator=separator,
            skip_lines=len(skipped),
            infer_schema=False,
            glob=False,
            truncate_ragged_lines=True,
        )
        header = scan(has_header=False).head(1).collect()
        if header.is_empty():
            raise UserError(f"{self.name}: the header has an unclosed quote")
        if self.csv.header:
            names = self._column_names(header.row(0))
        else:
            names = [f"column_{i + 1}" for i in range(header.width)]
        wider = dict.fromkeys([*names, *EXTRA], pl.String)
        self.rows_with_extra = scan(has_header=False, schema=wider, missing_columns="insert")
        self.check_width(SAMPLE_ROWS)
        self.scan = partial(scan, new_columns=names, has_header=self.csv.header)
        is_filled = pl.any_horizontal(pl.all().is_not_null())
        # A lazy filter would take time quadratic in the number of columns.
        return self.scan().map_batches(lambda batch: batch.filter(is_filled), streamable=True)

    def check_width(self, num_rows: int | None = None) -> None:
        """Raises an error if a row has more cells than the header.

        In `rows`, polars cuts off such cells.

        Args:
            num_rows: Number of first rows to check; by default all.
        """
        is_wider = pl.any_horizontal(pl.col(EXTRA).is_not_null())
        row = find_row(self.rows_with_extra.slice(0, num_rows), is_wider)
        if row is not None:
            if not self.csv.header:
                row += 1  # rows count from 1; with a header, row 0 is the header
            raise UserError(f"{self.name}: row {row} has more cells than the first line")

    def open_plain(self, features: Iterable[Feature], target: str) -> pl.LazyFrame:
        """Returns rows whose numbers polars parses while it reads them, which is faster.

        They include blank rows.

        Raises:
            polars.exceptions.PolarsError: If the file has decimal commas. Collecting the rows
                raises it as well, for a cell that is not a plain number, and for a row with more
                cells than the header.
        """
        if not self.csv_format:
            return self.rows
        if self.csv.decimal_comma:
            raise PolarsError
        plain = number_columns(features) - self.formatted - {target}
        rows = self.scan(
            schema_overrides=dict.fromkeys(plain, pl.Float64), truncate_ragged_lines=False
        )
        # Makes polars read all columns; only then does it count the cells of a row.
        return rows.map_batches(lambda batch: batch, streamable=True)

    def _read_start(self, path: str) -> tuple[str | bytes, str, list[str]]:
        """Returns the source to scan, its delimiter, and the lines before its header.

        The source is the path if the file is in UTF-8, else the content converted to UTF-8.
        """
        if self.csv.encoding is None:
            with contextlib.suppress(PolarsError):
                return path, *read_start(path, self.name)
        content, encoding = to_utf8(path, self.name, self.csv.encoding)
        if self.csv.encoding is None:
            self.notes.append(f"not in UTF-8, so read as {encoding}; to change it, set encoding")
        return content, *read_start(content, self.name)

    def _column_names(self, header: Sequence[str | None]) -> list[str]:
        names: list[str] = []
        for cell in header:
            name = normalize(cell or "")
            if not name and name in names:  # one column may have no name, as in pandas
                name = f"column_{len(names) + 1}"
            if name in names:
                raise UserError(
                    f"{self.name}: has two columns {name!r}, or its first line is data",
                    remedy=("header", "false"),
                )
            names.append(name)
        return names

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Reports errors in the file as `UserError`."""
        try:
            yield
        except (PolarsError, OSError, EOFError, zlib.error) as error:
            reason, *_ = re.split(r"\n|\. ", str(error))
            raise UserError(f"{self.name}: cannot be read: {reason}") from error
