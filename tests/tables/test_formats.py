"""Table files: separators, missing values, spaces, categories."""

import gzip
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from iris_lightning import IrisDataModule, UserError
from iris_lightning.features import NA_VALUES
from iris_lightning.table import Table
from tests.conftest import fit

HEADER = "length,colour,width,species\n"
GOOD = HEADER + "1.5,red,2,b\n2.5,blue,3,a\n3.5,red,4,b\n4.5,red,5,a\n" * 5
ROWS = "1.5,2,x\n2.5,3,y\n" * 10


def write(text: str | bytes, name: str = "table.csv") -> str:
    """Writes a file into the current folder."""
    if isinstance(text, str):
        text = text.encode()
    Path(name).write_bytes(text)
    return name


def read_table(path: str, class_names: list[str] | None = None, **options: Any) -> Table:
    """Reads a table, by default without missing values, as for training or with known classes."""
    data = IrisDataModule(path, **{"missing": "error", **options})
    if class_names is not None:
        data.trained_on = {"feature_names": options["features"], "class_names": class_names}
    return data.table


def parquet(path: str, **columns: pl.Expr) -> str:
    """Converts a CSV file to Parquet, replacing some columns."""
    pl.read_csv(path).with_columns(**columns).write_parquet("table.parquet")
    return "table.parquet"


def assert_good(path: str, **options: Any) -> None:
    """Asserts that a file is read like `GOOD`."""
    table = read_table(path, features=["length", "width"], **options)
    expected = read_table(write(GOOD, "good.csv"), features=["length", "width"])
    assert torch.equal(table.features, expected.features)
    assert torch.equal(table.targets, expected.targets)
    assert table.feature_names == ["length", "width"]
    assert table.class_names == ["a", "b"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "T.TSV", "t.txt", "t.Csv.GZ", "t.tsv.gz"])
def test_separator_is_detected(separator: str, name: str) -> None:
    text = GOOD.replace(",", separator).replace("red", '"dark; red, or | brown"').encode()
    if name.lower().endswith(".gz"):
        text = gzip.compress(text)
    assert_good(write(text, name))


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.rstrip(),
        GOOD.replace("\n", "\n\n"),
        GOOD + ",,,\n\n",
        GOOD.replace(",", ", ", 3),
        GOOD.replace(",", " , "),
        '"' + GOOD.replace(",", '","').replace("\n", '"\n"').removesuffix('"'),
        GOOD.replace("red", '"red,\nish"'),
        GOOD.replace("red", "word " * 50_000),
        GOOD.replace("\n", ",\n"),
    ],
    ids=range(11),
)
def test_dialects_of_csv(text: str) -> None:
    assert_good(write(text))


def test_decimal_commas() -> None:
    assert_good(write(GOOD.replace(",", ";").replace(".", ",")), decimal_comma=True)
    quoted = GOOD.replace("1.5", '"1,5"').replace("2.5", '"2,5"').replace("3.5", '"3,5"')
    assert_good(write(quoted.replace("4.5", '"4,5"')), decimal_comma=True)
    as_many_commas = write("a, mm;b, mm;kind\n" + "1,5;2;x\n3;4,5;y\n" * 5)
    assert read_table(as_many_commas, decimal_comma=True).class_names == ["x", "y"]
    write("petal width (cm);kind\n" + "1,5;x\n2,5;y\n" * 9)
    with pytest.raises(UserError, match="decimal_comma: true"):
        read_table("table.csv", features=["petal_width"])


@pytest.mark.parametrize("decimal_comma", [False, True])
def test_error_suggests_the_other_decimal_mark(decimal_comma: bool) -> None:
    text = GOOD.replace(",", ";")
    if not decimal_comma:
        text = text.replace(".", ",")
    with pytest.raises(UserError, match=f"'length'.*decimal_comma: {not decimal_comma}".lower()):
        read_table(write(text), decimal_comma=decimal_comma)


@pytest.mark.parametrize(
    "name", ["*", "^.*$", "^)$", "Länge, 'x' (µm)", 'a "b"\nc', "class", "row"]
)
def test_unusual_column_names(name: str) -> None:
    rows = pl.read_csv(write(GOOD)).rename({"width": name})
    rows.write_csv("table.csv")
    rows.write_parquet("table.parquet")
    expected = read_table(write(GOOD, "good.csv"), features=["width", "length"])
    for path in ("table.csv", "table.parquet"):
        table = read_table(path, features=[name, "length"])
        assert torch.equal(table.features, expected.features)


MISSING = "a,b,kind\n1,-999,x\n2,1.5,NA\n-,2.5,y\n-999.0,3,NA\n" + ROWS


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_custom_missing_values(name: str) -> None:
    path = write(MISSING)
    if name == "table.parquet":
        path = parquet(path)
    table = read_table(path, missing="mean", na_values=["-", -999])
    assert table.class_names == ["NA", "x", "y"]
    expected = torch.tensor([[1, torch.nan], [2, 1.5], [torch.nan, 2.5], [torch.nan, 3]])
    torch.testing.assert_close(table.features[:4], expected, equal_nan=True)
    with pytest.raises(UserError, match=r"'a', row 3.*'-'"):
        read_table(path, missing="mean", na_values=[])


def test_null_among_the_missing_values_is_the_text() -> None:
    path = write("a,b,kind\n1,null,x\n2,None,y\n3,NA,x\n" + ROWS)
    options = ["--data.path", path, "--data.na_values", "[NA, null]", "--trainer.max_epochs", "1"]
    features = fit(*options).datamodule.table.features
    assert features.isnan().sum() == 3


@pytest.mark.parametrize("text", ["", "NA", " N/A ", "NaN", "?"])
@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_missing_values(text: str, name: str) -> None:
    path = write(f"a,b,kind\n1,2,x\n{text},2,y\n1,{text},x\n{text or 1},{text},\n" + ROWS)
    if name == "table.parquet":
        path = parquet(path)
    with pytest.raises(UserError, match="'a', row 2: missing value"):
        read_table(path)
    table = read_table(path, missing="mean")
    assert table.features[:3].isnan().tolist() == [[False, False], [True, False], [False, True]]
    table = read_table(path, missing="drop")
    assert len(table.targets) == 21
    assert "dropped 1 of 24 rows, which have no class" in table.notes
    assert "dropped 2 of 24 rows, which have missing values" in table.notes
    if name == "table.csv" and text:
        assert any(f"{text.strip()!r} in 'a'" in note for note in table.notes)


@pytest.mark.parametrize("text", ["NA", "None", "nan"])
def test_classes_that_look_missing(text: str) -> None:
    path = write("a,b,kind\n" + f"1,2,{text}\n3,1,y\n" * 10)
    categorical = pl.read_csv(path).with_columns(pl.col("kind").cast(pl.Categorical))
    categorical.write_parquet("table.parquet")
    if text in NA_VALUES:
        for name in (path, "table.parquet"):
            with pytest.raises(UserError, match=f"10 rows have the class '{text}'.*na_values"):
                read_table(name)
    assert read_table(path, na_values=[]).class_names == sorted([text, "y"])


def test_a_number_column_may_begin_with_missing_values() -> None:
    path = write("a,b,kind\n" + ",2,x\n,3,y\n" * 600 + ROWS)
    assert read_table(path, missing="mean").feature_names == ["a", "b"]


def test_columns_of_text_or_booleans_are_categories() -> None:
    path = write("a,ok,kind\n" + "1,True,TRUE\n2,False,FALSE\n3, TRUE ,FALSE\n" * 10)
    is_true = pl.col("ok").str.strip_chars().str.to_lowercase() == "true"
    for source in (path, parquet(path, ok=is_true)):
        table = read_table(source, features=["a", "ok"])
        assert table.class_names == ["false", "true"]
        assert table.feature_names == ["a", "ok=false", "ok=true"]
        assert table.features[:3].tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1]]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["10", "9", "2"], ["2", "9", "10"]),
        (["b", "10", "a"], ["10", "a", "b"]),
        (["1.0", "0.0"], ["0", "1"]),
        ([" b", "a ", "  1.0"], ["1", "a", "b"]),
        (["1.0x", "v1.5"], ["1.0x", "v1.5"]),
        (["花", "🌸"], ["花", "🌸"]),
    ],
)
def test_classes_are_the_sorted_distinct_values(values: list[str], classes: list[str]) -> None:
    rows = [f"{i % 4},{value}\n" for i, value in enumerate(values * 3)]
    table = read_table(write("x,y\n" + "".join(rows)))
    assert table.class_names == classes
    labels = [classes[i] for i in table.targets]
    assert labels == [value.strip().removesuffix(".0") for value in values * 3]


@pytest.mark.parametrize(
    "kind", [pl.Int8, pl.UInt64, pl.Boolean, pl.String, pl.Categorical, pl.Float64]
)
def test_classes_of_any_type_in_parquet(kind: Any) -> None:
    classes = pl.Series([0, 1, 1, 0])
    if kind == pl.Categorical:
        classes = classes.cast(pl.String)
    pl.DataFrame({"x": [1.5, 2.0, 3.0, 4.0], "y": classes.cast(kind)}).write_parquet("t.parquet")
    assert read_table("t.parquet").targets.tolist() == [0, 1, 1, 0]


NUMBERS = st.floats(-(2.0**99), 2.0**99, allow_subnormal=False, width=32)
CHARACTERS = st.characters(
    codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs", "Cc"]
)
PLAIN = r"(?!(true|false|NA|N/A|NaN|null|None|\?|[+-]?\d+\.0*)$).+"
TEXTS = (
    st.text(CHARACTERS, min_size=1)
    .map(lambda text: unicodedata.normalize("NFC", text.strip()))
    .filter(lambda text: re.fullmatch(PLAIN, text, re.IGNORECASE | re.DOTALL) is not None)
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,  # so that a run of the tests can be repeated
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), rows=st.integers(8, 40))
def test_round_trip_of_any_table(data: st.DataObject, rows: int) -> None:
    names = TEXTS.filter(lambda text: text != "prediction")  # a column that predictions add
    *features, target = data.draw(st.lists(names, min_size=2, max_size=5, unique=True))
    numbers = st.lists(NUMBERS, min_size=rows, max_size=rows)
    columns = [data.draw(numbers) for _ in features]
    classes = data.draw(
        st.lists(
            TEXTS.filter(lambda text: not text[-1].isdigit()), min_size=2, max_size=3, unique=True
        )
    )
    assume(target not in classes)  # the header would look like a row
    labels = [classes[i % len(classes)] for i in range(rows)]
    frame = pl.DataFrame([*columns, labels], [*features, target])
    frame.write_csv("table.csv")
    frame.write_parquet("table.parquet")
    for path in ("table.csv", "table.parquet"):
        table = read_table(path, features=features, target=target)
        np.testing.assert_array_equal(table.features, np.array(columns, dtype=np.float32).T)
        assert table.feature_names == features
        assert table.class_names == sorted(classes)
        assert [table.class_names[i] for i in table.targets] == labels


IDENTIFIERS = "a,b\n" + "".join(f"{i % 7},id{i}\n" for i in range(50))
CONTINUOUS = "a,b\n" + "1,5.1\n2,4.9\n" * 10
COUNTS = "a,b\n" + "".join(f"{i % 7},{i % 80}\n" for i in range(300))
DIFFERENT = "a,b,c\n" + "".join(f"text {i},1,{i % 2}\n" for i in range(101))
DATES = "a,day\n" + "".join(f"{i % 7},2026-01-0{i % 9 + 1}\n" for i in range(40))
WITHOUT_NAMES = "".join(f"{'xo'[i % 2]},{'uvw'[i % 3]},,{'ab'[i // 2 % 2]}\n" for i in range(20))
MANY = "1,red,2,a\n" * 7000
NO_HEADER = "".join(f"5.{i % 3},3.{i % 4},{'ab'[i % 2]}\n" for i in range(20))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, {}, "table.csv: no such file"),
        ("", {}, "empty"),
        (HEADER, {}, "table.csv: has no rows"),
        ("a,species\nx,b\ny,c\n", {}, "no column can be a feature"),
        ("a,a,species\n1,2,x\n", {}, "two columns 'a'"),
        ('a,"b,species\n1,2,x\n', {}, "unclosed quote"),
        (NO_HEADER, {}, "header looks like a row: 5.0, 3.0, a; try header: false"),
        (WITHOUT_NAMES, {}, "header looks like a row: x, u, , a; try header: false"),
        ("x,x,a\no,x,b\n" * 9, {}, "two columns 'x'.*try header: false"),
        (GOOD + "1,2,3,a,5\n", {}, "row 21 has more cells"),
        (GOOD + MANY + "1,2,3,a,5\n", {"features": ["length"]}, "row 7021 has more cells"),
        (GOOD + MANY + "1,2,3,a,,,5\n", {"features": ["length"]}, "row 7021 has more cells"),
        (GOOD + MANY + "1,red,2,\0\n", {}, "line 7022 has a NUL"),
        (GOOD.replace("2", "\0", 1), {}, "line 2 has a NUL"),
        (GOOD.encode("utf-16-le"), {}, "line 1 has a NUL.*encoding: utf-16-le"),
        (GOOD.replace("red", "grün").encode("cp1252"), {"encoding": "utf-8"}, "encoding: .*utf-8"),
        (GOOD, {"encoding": "klingon"}, "encoding: table.csv: not in klingon: unknown encoding"),
        (GOOD, {"features": ["length", "colour=pink"]}, "'colour=pink' cannot be a feature"),
        (GOOD, {"features": ["length=999"]}, "'length=999' cannot be a feature: numbers"),
        (DATES, {}, "'day' holds dates"),
        (GOOD, {"target": "specis"}, "target: .*'specis'.*mean 'species'"),
        (GOOD.replace("1.5", "5.l", 1), {"na_values": ["inf"]}, "finite number, got '5.l'"),
        (GOOD, {"features": ["lenght"]}, "'lenght'.*mean 'length'"),
        (GOOD, {"categorical": ["lenght"]}, "categorical: .*'lenght'"),
        (GOOD, {"features": ["length", "species=a"]}, "'species=a' cannot be.*: it is the class"),
        (GOOD, {"features": []}, "no column can be a feature"),
        (DIFFERENT, {"features": ["a", "b"]}, "'a' cannot be a feature: more than 100 distinct"),
        ("a,species\n1,b\n2,b\n1,b\n", {}, "'species' .found by name. has only one class"),
        (IDENTIFIERS, {}, "'b' .the last column.* holds 50 distinct values in 50 rows"),
        (CONTINUOUS, {}, "'b'.*needs classes"),
        (COUNTS, {}, "'b'.* 80 distinct values in 300 rows.*needs classes"),
        (GOOD + "1,red,2cm,a\n", {}, "'width', row 21: .*'2cm'"),
        (GOOD + ",red,2cm,a\n", {"missing": "drop"}, "'width', row 21: .*'2cm'"),
        (GOOD + "1,red,inf,a\n", {}, "'width', row 21: .*'inf'"),
        (GOOD + "1,red,1e39,a\n", {}, "'width', row 21: .*'1e39'"),
        (GOOD + " ,,,\n1,red,1e39,a\n", {"missing": "mean"}, "'width', row 22: .*'1e39'"),
        (GOOD.replace("length", "*") + "1,red,2cm,a\n", {}, "'width', row 21: .*'2cm'"),
        ("a;b;kind\n" + "1,234;2;x\n2,345;1;y\n" * 9, {}, "'1,234'.*decimal_comma: true, or"),
        ("a,kind\n" + "1700000001,x\n1700000002,y\n" * 9, {"features": ["a"]}, "'a'.*float32"),
        ("a,prediction,kind\n" + ROWS, {}, "'prediction'"),
        ("a,kind\n" + '"0,125",x\n1,y\n' * 9, {}, "'0,125'"),
    ],
)  # fmt: skip
def test_invalid_tables(text: str | bytes | None, options: dict[str, Any], message: str) -> None:
    if text is not None:
        write(text)
    with pytest.raises(UserError, match=message):
        read_table("table.csv", **options)


TEXT_AS_PEOPLE_WRITE = [
    (GOOD.replace("red", "grün").encode("cp1252"), {}, "read as cp1252"),
    (GOOD.replace("red", "grün").encode("cp850"), {"encoding": "cp850"}, ""),
    (GOOD.encode("utf-16"), {}, "read as utf-16"),
    (GOOD.encode("utf-32"), {}, "read as utf-32"),
    (GOOD.encode("utf-16-le"), {"encoding": "utf-16-le"}, ""),
    (b"sep=;\n" + GOOD.replace(",", ";").encode(), {}, "before the header: 'sep=;'"),
    (b"# by hand\n\n#twice\n" + GOOD.encode(), {}, "before the header: '# by hand', '#twice'"),
    (b"# from Fisher, 1936, UCI, x\n" + GOOD.encode(), {}, "'# from Fisher, 1936, UCI, x'"),
    (b'","",,\n' + GOOD.encode(), {}, "before the header: "),
    (b"\n\n" + GOOD.encode(), {}, ""),
]


@pytest.mark.parametrize(("text", "options", "note"), TEXT_AS_PEOPLE_WRITE, ids=range(10))
def test_text_as_people_write_it(text: bytes, options: dict[str, Any], note: str) -> None:
    assert_good(write(text), **options)
    table = read_table(write(text), **options)
    assert note in " ".join(table.notes)
    assert len(table.notes) == bool(note)


def test_a_table_without_a_header() -> None:
    table = read_table(write(NO_HEADER), header=False)
    assert table.feature_names == ["column_1", "column_2"]
    assert len(table.targets) == 20


@pytest.mark.parametrize("classes", [("2.0", "1.0"), ("False", "True"), ("x", "y")])
def test_a_missing_header_is_noticed(classes: tuple[str, str]) -> None:
    rows = [f"{i % 7}.5,{i % 5}.25,{classes[i % 2]}\n" for i in range(20)]
    with pytest.raises(UserError, match=f"0.5, 0.25, {classes[0]}; try header: false"):
        read_table(write("".join(rows)))


def test_columns_that_pandas_has_named() -> None:
    table = read_table(write("0,1,2\n" + "1.5,2.5,2\n2.5,1.5,1\n3.5,0.5,0\n" * 9))
    assert table.feature_names == ["0", "1"]
    assert len(table.targets) == 27


def test_columns_that_are_not_used_may_have_the_other_decimal_mark() -> None:
    path = write("a;b;kind\n" + "1.5;0,5;x\n2.5;1,5;y\n" * 9)
    assert read_table(path, features=["a"]).features[:2].tolist() == [[1.5], [2.5]]


def test_numbers_as_people_write_them() -> None:
    rows = "".join(f'"{i},{200 + i}",$ {i}.50,{2 * i} %,{"xy"[i % 2]}\n' for i in range(1, 21))
    table = read_table(write("a,b,c,kind\n" + rows))
    assert table.features[0].tolist() == [1201, 1.5, 2]


def test_few_numbers_with_thousands_separators() -> None:
    rows = "".join(f'"{400 + 3 * i:,}",{"xy"[i % 2]}\n' for i in range(300))
    table = read_table(write("price,kind\n" + rows))
    assert table.features[:, 0].tolist() == [400 + 3 * i for i in range(300)]


def test_codes_of_missing_values_are_compared_as_numbers() -> None:
    rows = "".join(f"{i}.125,{'xy'[i % 2]}\n" for i in range(20))
    path = write("a,kind\n-99.000,x\n" + rows)
    table = read_table(path, missing="mean", na_values=[-99])
    assert table.features[0].isnan()
    assert "holds -99" not in " ".join(table.notes)


def test_stray_texts_in_a_constant_column_are_errors() -> None:
    rows = "".join(f"{i % 7},{'yes' if i == 9 else 0},{'xy'[i % 2]}\n" for i in range(20))
    with pytest.raises(UserError, match=r"'b', row 10: .*'yes'"):
        read_table(write("a,b,kind\n" + rows))


@pytest.mark.parametrize("name", ["value", "variable", "text "])
def test_missing_values_in_columns_of_any_name(name: str) -> None:
    table = read_table(write(f"a,{name},kind\n1,NA,x\n" + ROWS), missing="mean")
    assert f"1 cells 'NA' in {name.strip()!r}" in " ".join(table.notes)


def test_late_classes_that_differ_only_in_case_are_noted() -> None:
    rows = "".join(
        f"{i % 9},{'cat' if i > 5500 else 'CatDog'[3 * (i % 2) :][:3]}\n" for i in range(6000)
    )
    assert "differ only in case" in " ".join(read_table(write("a,kind\n" + rows)).notes)


def test_numbers_that_float32_merges_in_late_rows_are_noted() -> None:
    rows = "".join(f"{i % 9 if i < 6000 else 10**9 + i},{'xy'[i % 2]}\n" for i in range(7000))
    (note,) = read_table(write("time,kind\n" + rows)).notes
    assert "'time' holds numbers too close for float32" in note


def test_missing_categories_of_earlier_versions() -> None:
    data = IrisDataModule(write("a,kind\n" + "u,x\n,y\nv,x\n" * 9))
    assert data.table.features[1].tolist() == [0, 0]
    data.keep_to({"feature_names": ["a=u", "a=v"], "class_names": ["x", "y"]})
    del data.table
    assert data.table.features[1].isnan().all()


def test_numbers_that_only_some_rows_write_with_a_percent_sign() -> None:
    rows = "".join(f"{'50 %' if i % 2 else 0.5},{i % 5},{'xy'[i % 2]}\n" for i in range(40))
    with pytest.raises(UserError, match=r"'a', row 2: .*'50 %'"):
        read_table(write("a,b,kind\n" + rows))


def test_all_rows_are_searched_for_given_categories() -> None:
    rows = "".join(f"{i % 150 if i < 5500 else i},{i % 5},{'xy'[i % 2]}\n" for i in range(5600))
    table = read_table(write("zip,b,kind\n" + rows), categorical=["zip"])
    assert len(table.feature_names) == 251


def test_categories_may_have_commas() -> None:
    path = write("code,a,kind\n" + '"1,2",1.5,x\n"1,3",2.5,y\n' * 9)
    assert read_table(path, categorical=["code"]).feature_names == ["code=1,2", "code=1,3", "a"]


def test_a_category_can_be_named_like_a_measurement_of_iris() -> None:
    path = write("petal width (cm),a,kind\n" + "large,1,x\nsmall,2,y\n" * 9)
    names = read_table(path).feature_names
    assert read_table(path, ["x", "y"], features=names).feature_names == names


def test_empty_columns_of_a_spreadsheet() -> None:
    table = read_table(write("a,b,kind,,\n" + "1,2,x,,\n2,1,y,,\n" * 9))
    assert table.feature_names == ["a", "b"]
    assert table.class_names == ["x", "y"]


def test_codes_and_labels_that_may_mean_the_same() -> None:
    notes = " ".join(read_table(write("a,b,kind\n" + "1,2,x\n-999,1,X\n" * 9)).notes)
    assert "'a' holds -999" in notes
    assert "'kind' has labels that differ only in case" in notes


@pytest.mark.parametrize("row", [" ,,,", '"",,,', "1,red,2,"])
def test_a_row_of_spaces_or_quotes_is_one_without_a_class(row: str) -> None:
    table = read_table(write(GOOD + f"{row}\n1,red,2,a\n"), missing="mean")
    assert table.kept is not None
    assert table.kept.tolist() == [True] * 20 + [False, True]
    assert "dropped 1 of 22 rows, which have no class" in table.notes


def test_numbers_as_categories_and_excluded_columns() -> None:
    path = write("zip,a,b,kind\n" + "0100,1,2,01\n0101,2,1,02\n" * 9)
    table = read_table(path, categorical=["zip"], exclude=["b"])
    assert table.feature_names == ["zip=0100", "zip=0101", "a"]
    assert table.class_names == ["01", "02"]


def test_parquet_columns_that_are_no_text() -> None:
    kinds = {"length": pl.duration(days=1), "colour": pl.concat_list("width")}
    table = read_table(parquet(write(GOOD), **kinds))
    assert [column.reason for column in table.columns[:2]] == [
        "values of type Duration",
        "values of type List",
    ]


@pytest.mark.parametrize("value", [pl.lit("2026-01-01").str.to_date(), pl.lit(True), pl.lit("u")])
def test_parquet_columns_without_numbers(value: pl.Expr) -> None:
    path = parquet(write(GOOD), length=value)
    with pytest.raises(UserError, match="'length', row 1: expected a finite number"):
        read_table(path, features=["length", "width"], class_names=["a", "b"])


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst", "t.parquet", "t.xlsx", "t"])
def test_files_in_the_wrong_format(name: str) -> None:
    with pytest.raises(UserError, match=name):
        read_table(write(b"\x1f\x8b\x08" + bytes(range(200)), name))


def test_damaged_parquet_page() -> None:
    content = bytearray(Path(parquet(write(GOOD))).read_bytes())
    content[10:60] = bytes(50)
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read"):
        read_table(write(bytes(content), "t.parquet"))
