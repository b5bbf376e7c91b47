"""Tables of the user's own: reading them, training on them, and each way in which they can be invalid."""

import gzip
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iris_lightning.cli import main
from iris_lightning.data import split_rows
from iris_lightning.features import label_of
from iris_lightning.tables.reading import read_table
from iris_lightning.tables.table import load_iris_table
from tests.conftest import REPOSITORY, assert_same_weights, fails, fit, load

ACCURATE = str(REPOSITORY / "configs" / "accurate.yaml")
GOOD = "length,colour,width,species\n" + "1.5,red,2,b\n2.5,blue,3,a\n3.5,red,4,b\n4.5,red,5,a\n" * 5


def sklearn_table(name: str) -> pl.DataFrame:
    """One of scikit-learn's tables, with the class names in a last column."""
    data = getattr(datasets, f"load_{name}")()
    classes = pl.Series("kind", [str(data.target_names[i]) for i in data.target])
    return pl.DataFrame(data.data, schema=[str(name) for name in data.feature_names]).with_columns(classes)


def write(text: str | bytes, name: str = "table.csv") -> str:
    """Writes a file into the current folder."""
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


@pytest.mark.parametrize(("name", "suffix"), [("wine", ".csv"), ("breast_cancer", ".parquet"), ("digits", ".csv")])
def test_as_accurate_as_logistic_regression(name: str, suffix: str) -> None:
    frame = sklearn_table(name)
    path = f"{name}{suffix}"
    (frame.write_csv if suffix == ".csv" else frame.write_parquet)(path)
    fit("--config", ACCURATE, "--data.path", path, "--trainer.max_epochs", "25")
    cli = main(["test"])
    data = cli.datamodule
    features, targets = data.table.features.numpy(), data.table.targets.numpy()
    train, test = data.rows["train"].numpy(), data.rows["test"].numpy()
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(features[train], targets[train])
    accuracy = float(cli.trainer.callback_metrics["accuracy/test"])
    assert accuracy >= peer.score(features[test], targets[test]) - 0.02


def test_csv_and_parquet_of_the_same_rows_give_the_same_weights() -> None:
    frame = sklearn_table("wine")
    frame.write_csv("wine.csv")
    frame.write_parquet("wine.parquet")
    Path("wine.csv.gz").write_bytes(gzip.compress(Path("wine.csv").read_bytes()))
    frame.write_csv("wine.csv.zst", compression="zstd")
    states = [
        fit("--data.path", path, "--trainer.max_epochs", "2").model.state_dict()
        for path in ("wine.csv", "wine.parquet", "wine.csv.gz", "wine.csv.zst")
    ]
    for state in states[1:]:
        assert_same_weights(states[0], state)


def test_iris_as_a_file_gives_the_weights_of_the_embedded_iris(default_run: Path) -> None:
    sklearn_table("iris").rename({"kind": "species"}).write_csv("iris.csv")
    cli = fit("--data.path", "iris.csv")
    assert_same_weights(cli.model.state_dict(), load(default_run / "checkpoints" / "last.ckpt")["state_dict"])
    assert cli.datamodule.class_names == load_iris_table().class_names


def test_what_the_run_says_of_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = GOOD + "5.5,red,,a\n"
    fit("--data.path", write(rows), "--data.missing", "drop", "--trainer.max_epochs", "1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("table.csv: 20 rows (14 train, 4 val, 2 test), 2 features, 2 classes of 'species'; ")
    assert lines[1] == "table.csv: left out, since not numbers: colour; name them in features to take their categories"
    assert lines[2] == "table.csv: dropped 1 of 21 rows, which have missing values"


def test_a_long_reading_shows_that_it_is_working(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collect = pl.LazyFrame.collect

    def slow(frame: pl.LazyFrame, **options: Any) -> Any:
        for timer in threading.enumerate():
            if "engine" in options and isinstance(timer, threading.Timer):
                timer.join()
        return collect(frame, **options)

    monkeypatch.setattr(pl.LazyFrame, "collect", slow)
    read_table(write(GOOD))
    assert capsys.readouterr().err == "reading table.csv (0 MB) ...\n"


def test_a_checkpoint_knows_its_table_without_repetition() -> None:
    write(GOOD.replace("species", "kind").replace("colour", "note"))
    options = ["--data.path", "table.csv", "--data.target", "kind", "--data.features", "[width,length]"]
    fit(*options, "--trainer.max_epochs", "2", "--model.standardize", "true", "--model.class_weight", "balanced")
    saved = load(Path("lightning_logs/version_0/checkpoints/best.ckpt"))
    assert saved["hyper_parameters"]["feature_names"] == ["width", "length"]
    assert saved["hyper_parameters"]["class_names"] == ["a", "b"]
    cli = main(["validate"])
    assert float(cli.trainer.callback_metrics["loss/val"]) == pytest.approx(saved["metrics"]["loss/val"])


def test_the_same_rows_elsewhere_are_evaluated_on_the_same_split() -> None:
    fit("--data.path", write(GOOD), "--trainer.max_epochs", "2")
    one = main(["test"]).trainer.callback_metrics
    frame = pl.read_csv("table.csv")
    frame.select("species", "width", "length").write_parquet("moved.parquet")  # any order
    other = main(["test", "--data.path", "moved.parquet"])
    assert len(other.datamodule.rows["test"]) == 2
    assert other.trainer.callback_metrics == one


def test_another_table_is_evaluated_whole(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--data.path", write(GOOD), "--trainer.max_epochs", "1")
    write("species,width,length,extra\nb,2,1,x\nb,3,2,y\n", "new.csv")  # one class of the two
    capsys.readouterr()
    cli = main(["test", "--data.path", "new.csv"])
    assert len(cli.datamodule.rows["test"]) == 2
    assert "new.csv: not the table of the checkpoint, so all of its 2 rows" in capsys.readouterr().out


def test_a_changed_table_is_no_split_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--data.path", write(GOOD), "--trainer.max_epochs", "1")
    write(GOOD + "9,red,9,a\n")
    for args in (["test"], ["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"]):
        assert "table.csv: the table has changed" in fails(capsys, *args)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("species,width\na,1\n", "new.csv has no column 'length'; found 'species', 'width'"),
        ("species,width,length\nc,1,2\n", "column 'species' has the unknown class 'c'; known: a, b"),
    ],
)
def test_another_table_needs_the_features_and_known_classes(
    table: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("--data.path", write(GOOD), "--trainer.max_epochs", "1")
    write(table, "new.csv")
    assert message in fails(capsys, "test", "--data.path", "new.csv")


def test_class_weights_are_those_of_scikit_learn_over_the_train_split() -> None:
    cli = fit(
        "--data.path", write(GOOD + "1,red,1,c\n2,red,2,c\n3,red,3,c\n"), "--model.class_weight", "balanced"
    )  # fmt: skip
    counts = torch.bincount(cli.datamodule.tensors("train")[1], minlength=3)
    expected = counts.sum() / (counts.count_nonzero() * counts)
    weights = cli.model.row_weight
    assert weights is not None
    torch.testing.assert_close(weights[counts > 0], expected[counts > 0])
    plain = fit("--data.path", "table.csv")
    assert not torch.equal(*(run.model.state_dict()["network.layers.0.weight"] for run in (plain, cli)))


DIALECTS = {
    "crlf": GOOD.replace("\n", "\r\n"),
    "cr": GOOD.replace("\n", "\r"),
    "bom": "\ufeff" + GOOD,
    "no last line end": GOOD.rstrip(),
    "blank lines": GOOD.replace("\n", "\n\n"),
    "spaces in the header": GOOD.replace(",", ", ", 3),
    "quotes": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in GOOD.splitlines()),
    "line ends and commas in quotes": GOOD.replace("red", '"red,\nish"'),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_of_csv(dialect: str) -> None:
    expected = read_table(write(GOOD, "plain.csv"))
    table = read_table(write(DIALECTS[dialect]))
    assert torch.equal(table.features, expected.features)
    assert torch.equal(table.targets, expected.targets)
    assert (table.feature_names, table.class_names) == (["length", "width"], ["a", "b"])


def test_decimal_commas() -> None:
    text = GOOD.replace(",", ";").replace(".", ",")
    table = read_table(write(text), decimal_comma=True)
    assert torch.equal(table.features, read_table(write(GOOD, "plain.csv")).features)


def test_names_of_any_alphabet() -> None:
    table = read_table(write(GOOD.replace("length", 'Länge, "x" (µm)'.replace('"', "'")).replace("Länge,", "Länge")))
    assert table.feature_names == ["Länge 'x' (µm)", "width"]
    table = read_table(write('"a ""b""\nc",d,e\n' + "1,2,花\n3,4,🌸\n" * 3))
    assert table.feature_names == ['a "b"\nc', "d"]
    assert table.class_names == ["花", "🌸"]


@pytest.mark.parametrize("name", ["*", "^.*$", "^length$"])
def test_names_that_look_like_patterns(name: str) -> None:
    for path in ("table.csv", "table.parquet"):
        frame = pl.read_csv(io.StringIO(GOOD)).rename({"width": name})
        (frame.write_csv if path.endswith("csv") else frame.write_parquet)(path)
        table = read_table(path, features=[name, "length"])
        assert torch.equal(table.features, read_table(write(GOOD, "plain.csv"), features=["width", "length"]).features)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["10", "9", "2"], ["2", "9", "10"]),
        (["true", "false"], ["false", "true"]),
        (["b", "10", "a"], ["10", "a", "b"]),
        (["1.0", "0.0"], ["0", "1"]),
        ([" b", "a ", "  1.0"], ["1", "a", "b"]),
        (["1.0x", "v1.5"], ["1.0x", "v1.5"]),
    ],
)
def test_classes_are_the_sorted_distinct_values(values: list[str], classes: list[str]) -> None:
    rows = "".join(f"{i},{value}\n" for i, value in enumerate(values * 3))
    table = read_table(write("x,y\n" + rows))
    assert table.class_names == classes
    assert [classes[i] for i in table.targets] == [
        value.strip().removesuffix(".0") if value != "v1.0" else value for value in values * 3
    ]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Boolean, pl.String, pl.Categorical, pl.Float64])
def test_targets_of_any_type_in_parquet(dtype: pl.DataType) -> None:
    pl.DataFrame(
        {
            "x": [1.0, 2.0, 3.0, 4.0],
            "y": pl.Series([0, 1, 1, 0]).cast(pl.String if dtype == pl.Categorical else dtype).cast(dtype),
        }
    ).write_parquet("t.parquet")
    assert read_table("t.parquet").targets.tolist() == [0, 1, 1, 0]


def test_whole_numbers_beyond_float32_are_fine() -> None:
    rows = "".join(f"{2**40 + i},{'ab'[i % 2]}\n" for i in range(4))
    assert read_table(write("x,y\n" + rows)).features[1].item() == np.float32(2**40 + 1)
    pl.read_csv("table.csv").write_parquet("t.parquet")
    assert torch.equal(read_table("t.parquet").features, read_table("table.csv").features)


NUMBERS = st.floats(-1e30, 1e30, allow_subnormal=False)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs", "Cc"]), min_size=1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), rows=st.integers(8, 40), columns=st.integers(1, 4))
def test_any_table_is_read_as_it_was_written(data: st.DataObject, rows: int, columns: int) -> None:
    names = data.draw(
        st.lists(TEXTS.map(str.strip).filter(bool), min_size=columns + 1, max_size=columns + 1, unique=True)
    )
    values = data.draw(st.lists(st.lists(NUMBERS, min_size=rows, max_size=rows), min_size=columns, max_size=columns))
    labels = TEXTS.map(str.strip).filter(lambda text: label_of(text) == text)
    classes = data.draw(st.lists(labels, min_size=2, max_size=3, unique=True))
    target = [classes[i % len(classes)] for i in range(rows)]
    frame = pl.DataFrame(dict(zip(names, [*values, target], strict=True)))
    try:
        numbers = [float(name) for name in classes]
    except ValueError:
        numbers = []
    if numbers:
        return  # covered above: classes that are numbers sort by value
    frame.write_csv("generated.csv")
    frame.write_parquet("generated.parquet")
    for path in ("generated.csv", "generated.parquet"):
        table = read_table(path, target=names[-1])
        expected = torch.tensor(np.array(values, dtype=np.float64).T.astype(np.float32))
        assert torch.equal(table.features, expected)
        assert table.feature_names == names[:-1]
        assert table.class_names == sorted(classes)
        assert [table.class_names[i] for i in table.targets] == target


@settings(max_examples=100, deadline=None)
@given(
    targets=st.lists(st.integers(0, 2), min_size=30, max_size=200),
    seed=st.integers(0, 2**32 - 1),
    stratify=st.booleans(),
)
def test_any_split_is_disjoint_complete_and_keeps_shares(targets: list[int], seed: int, stratify: bool) -> None:
    classes = torch.tensor(targets + [0, 1, 2] * 10)
    splits = split_rows(classes, (0.6, 0.2, 0.2), seed, stratify)
    assert sorted(torch.cat(splits).tolist()) == list(range(len(classes)))
    if stratify:
        for split in splits:
            shares = torch.bincount(classes[split], minlength=3) / len(split)
            assert torch.allclose(shares, torch.bincount(classes, minlength=3) / len(classes), atol=2 / len(split))


BAD = {
    "a row without any value": (GOOD + ",,,\n\n1,red,2,a\n", [], ["table.csv: line 22 has no value at all"]),
    "no such file": (None, [], ["table.csv: no such file"]),
    "empty": ("", [], ["table.csv", "empty"]),
    "header only": ("a,b,species\n", [], ["table.csv: has no rows, only a header"]),
    "one column": ("a\n1\n2\n", [], ["table.csv: has one column only ('a')"]),
    "decimal commas": (
        GOOD.replace(",", ";").replace(".", ","),
        [],
        ["column 'length' has decimal commas, such as ", "--data.decimal_comma true"],
    ),
    "another separator": (GOOD, ["--data.separator", ";"], ["table.csv: has one column only"]),
    "no separator": (GOOD, ["--data.separator", "x"], ["--data.separator", "',', ';', 'tab', '|'", "got x"]),
    "duplicate columns": ("a,a,species\n1,2,x\n", [], ["table.csv: has two columns 'a'"]),
    "more cells than columns": (GOOD + "1,2,3,a,5\n", [], ["table.csv", "more cells than the header"]),
    "not text": (bytes(range(256)), [], ["table.csv: cannot be read as CSV"]),
    "utf-16": (GOOD.encode("utf-16"), [], ["table.csv: is written in UTF-16; save it as UTF-8"]),
    "latin-1": (GOOD.replace("red", "gr\xfcn").encode("latin-1"), [], ["table.csv", "not written in UTF-8"]),
    "unknown target": (GOOD, ["--data.target", "specis"], ["target: no column 'specis'", "mean 'species'?"]),
    "unknown feature": (GOOD, ["--data.features", "[lenght]"], ["features: no column 'lenght'", "mean 'length'?"]),
    "target among features": (GOOD, ["--data.features", "[length,species]"], ["'species' is the target"]),
    "no feature": (GOOD, ["--data.features", "[]"], ["--data.features", "one or more"]),
    "feature twice": (GOOD, ["--data.features", "[width,width]"], ["--data.features", "distinct"]),
    "texts that are no categories": (
        "a,b,c\n" + "".join(f"text {i},1,{'xy'[i % 2]}\n" for i in range(101)),
        ["--data.features", "[a,b]"],
        ["--data.features: ", "column 'a' has 101 distinct texts in 101 rows; expected numbers, or"],
    ),
    "no numeric column": ("a,species\nx,b\ny,c\n", [], ["no column of numbers beside the target 'species'"]),
    "one class": ("a,species\n1,b\n2,b\n", [], ["column 'species' has one class only ('b')"]),
    "missing class": (GOOD + "1,red,2,\n", [], ["column 'species', row 21: no class"]),
    "missing value": (GOOD + "1,red,,a\n", [], ["column 'width', row 21: missing value", "--data.missing drop"]),
    "not a number": (GOOD + "1,red,2cm,a\n", [], ["column 'width', row 21: '2cm' is not a number"]),
    "not a number, early": (GOOD.replace("2,b", "2cm,b", 1), [], ["column 'width', row 1: '2cm' is not a number"]),
    "not a number, dropping": (
        GOOD + "1,red,2cm,a\n", ["--data.missing", "drop"], ["column 'width', row 21: '2cm' is not a number"]
    ),
    "nan": (GOOD + "nan,red,2,a\n", [], ["column 'length', row 21: missing value"]),
    "infinity": (GOOD + "1,red,inf,a\n", [], ["column 'width', row 21: 'inf' is not a finite number"]),
    "beyond float32": (GOOD + "1,red,1e39,a\n", [], ["column 'width', row 21: '1e39' is not a finite number"]),
    "continuous": (
        "a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(50)), [], ["'b' looks continuous: 50 distinct numbers"]
    ),
    "identifier": ("a,b\n" + "".join(f"{i},id{i}\n" for i in range(50)), [], ["'b' has 50 distinct values in 50 rows"]),
    "too few to stratify": (
        GOOD + "1,red,2,c\n",
        ["--data.stratify", "true"],
        ["--data.stratify", "'c'"],
    ),
    "too few rows": ("a,b\n1,x\n2,y\n1,x\n2,y\n", [], ["--data.split", "4 rows", "test split empty"]),
    "missing option": (GOOD, ["--data.missing", "ignore"], ["--data.missing", "'error', 'drop'", "got ignore"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_invalid_tables(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, options, expected = BAD[case]
    if text is not None:
        write(text)
    message = fails(capsys, "fit", "--data.path", "table.csv", *options)
    for part in expected:
        assert part in message


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst", ".parquet"])
def test_files_that_are_not_what_their_suffix_says(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        b"\x1f\x8b\x08" + bytes(range(200)) if suffix == ".csv.gz" else GOOD.encode()[:50] * 9, f"table{suffix}"
    )
    message = fails(capsys, "fit", "--data.path", path)
    assert f"{path}: " in message


@pytest.mark.parametrize("path", ["table.xlsx", "table", "table.gz"])
def test_unknown_suffixes(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD, path)
    assert f"{path}: expected a file that ends in .csv, .tsv, .txt (also with .gz or .zst) or .parquet" in fails(
        capsys, "fit", "--data.path", path
    )


def test_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "table.csv").mkdir()
    assert "table.csv: is a folder" in fails(capsys, "fit", "--data.path", "table.csv")


def test_missing_values_in_parquet(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.read_csv(io.StringIO(GOOD))
    frame.with_columns(width=pl.when(pl.col("length") > 4).then(None).otherwise("width")).write_parquet("t.parquet")
    assert "column 'width', row 4: missing value" in fails(capsys, "fit", "--data.path", "t.parquet")
    assert len(read_table("t.parquet", missing="drop").targets) == 15
    frame.with_columns(width=pl.when(pl.col("length") > 4).then(float("nan")).otherwise("width")).write_parquet(
        "t.parquet"
    )
    assert "column 'width', row 4: missing value" in fails(capsys, "fit", "--data.path", "t.parquet")
    assert len(read_table("t.parquet", missing="drop").targets) == 15
