"""The role of a column, by what it holds."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from iris_lightning import IrisDataModule

ROWS = 60


def role_of(name: str, values: Sequence[object]) -> str:
    """Returns the role of a column, in a CSV file and in a Parquet file."""
    column = pl.Series(name, values, strict=False)
    frame = pl.DataFrame([column, pl.Series("size", [1.5, 2.5, 4.0] * 20)])
    frame = frame.with_columns(kind=pl.Series(["x", "y"] * 30))
    frame.write_csv("table.csv")
    frame.write_parquet("table.parquet")
    roles = {IrisDataModule(path).table.roles[name] for path in ("table.csv", "table.parquet")}
    (role,) = roles
    return role


WORDS = ["red", "green", "blue"] * 20
SHUFFLED = [(i * 7) % ROWS for i in range(ROWS)]
COLUMNS: dict[tuple[str, str], Sequence[object]] = {
    ("length", "number"): [i % 7 + 0.5 for i in range(ROWS)],
    ("all different", "number"): [i * 1.37 for i in range(ROWS)],
    ("rank", "number"): SHUFFLED,
    ("store_id", "number"): [i % 5 for i in range(ROWS)],
    ("humid", "number"): SHUFFLED,
    ("colour", "category"): WORDS,
    ("rare", "category"): ["once", "twice", "twice", *WORDS[3:]],
    ("ok", "category"): [i % 3 == 0 for i in range(ROWS)],
    ("1...n", "identifier"): range(1, ROWS + 1),
    ("0...n", "identifier"): range(ROWS),
    ("id", "identifier"): SHUFFLED,
    ("CustomerID", "identifier"): [100_000 + 3 * i for i in range(ROWS)],
    ("a_id", "identifier"): [*map(float, SHUFFLED[1:]), None],
    ("rownames", "identifier"): [f"person {i}" for i in range(ROWS)],
    ("Unnamed: 0", "identifier"): SHUFFLED,
    ("__index_level_0__", "identifier"): SHUFFLED,
    ("date", "date"): [f"2026-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(ROWS)],
    ("day", "date"): [f"{i % 28 + 1}.{i % 12 + 1}.26 12:30" for i in range(ROWS)],
    ("note", "text"): [f"a remark, number {i}" for i in range(ROWS)],
    ("unit", "constant"): ["cm"] * ROWS,
    ("zero", "constant"): [0] * ROWS,
    ("nothing", "empty"): [None] * ROWS,
    ("score", "number"): [0.1 * (i % 5) + 0.2 * (i % 3) + 0.7 * (i % 4) for i in range(ROWS)],
    ("time", "inexact"): [1_700_000_000 + i for i in SHUFFLED],
}


@pytest.mark.parametrize(("name", "role"), COLUMNS)
def test_role(name: str, role: str) -> None:
    assert role_of(name, COLUMNS[name, role]) == role


@pytest.mark.parametrize(
    ("late", "role"), [("1", "number"), ("0.5", "number"), ("5001", "identifier")]
)
def test_roles_are_those_of_all_rows(late: str, role: str) -> None:
    rows = [f"{i},{i % 9},{'xy'[i % 2]}" for i in range(1, 5001)]
    Path("table.csv").write_text("\n".join(["n,size,kind", *rows, f"{late},1,x\n"]))
    assert IrisDataModule("table.csv").table.roles["n"] == role


def test_categories_that_start_late_are_found() -> None:
    rows = ["1.5,,x"] * 4998 + ["2.5,red,y", "3.5,blue,y"] * 300
    Path("table.csv").write_text("\n".join(["size,colour,kind", *rows]))
    assert IrisDataModule("table.csv").table.roles["colour"] == "category"
