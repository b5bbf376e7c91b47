"""`predict`: adds predictions to a table."""

import csv
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from sklearn.datasets import load_iris

import iris_lightning
from iris_lightning.cli import main
from tests.conftest import fails, fit
from tests.test_files import full_disk

NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
HEADER = ",".join(NAMES) + "\n"
PROBABILITIES = ["probability_setosa", "probability_versicolor", "probability_virginica"]
FLOWERS = (
    "petal_width,note,sepal_length,petal_length,sepal_width\n"
    '0.20," a, ""b""\n , ",5.10,1.4,3.5\n'
    "2.1,,6.5,5.5,3.0\n"
    "1.3,=1+1,5.5,4.0,2.5\n"
)


@pytest.fixture
def checkpoint(default_run: Path) -> str:
    return str(default_run / "checkpoints" / "best.ckpt")


def predict(checkpoint: str, *args: str) -> None:
    main(["predict", *args, "--ckpt_path", checkpoint])


def test_all_rows_and_columns_are_kept(checkpoint: str) -> None:
    Path("flowers.csv").write_text(FLOWERS)
    predict(checkpoint, "flowers.csv", "--output", "out.csv")
    given = list(csv.reader(FLOWERS.splitlines(keepends=True)))
    with open("out.csv", newline="") as file:
        written = list(csv.reader(file))
    assert [row[:5] for row in written] == given
    assert written[0][5:] == ["prediction", *PROBABILITIES]
    # The oracle: the plain network on tensors.
    model = iris_lightning.load(checkpoint)
    table = pl.read_csv("out.csv")
    logits = model.network(torch.tensor(table[NAMES].to_numpy(), dtype=torch.float32))
    assert table["prediction"].to_list() == model.classes_[logits.argmax(dim=1)].tolist()
    np.testing.assert_allclose(table[PROBABILITIES], logits.softmax(dim=1), atol=1e-7)


@pytest.mark.parametrize(
    ("names", "suffix"),
    [(("*", "^x$"), ".csv"), (("^)$", "*"), ".parquet"), (("^.*$", "^$"), ".csv")],
)
def test_names_that_polars_takes_for_patterns(names: tuple[str, str], suffix: str) -> None:
    number, category = names
    rows = pl.DataFrame({"a": [1.5, 2, 3, None] * 5, "b": ["u", "v", "w", None] * 5, "c": "1,5"})
    rows = rows.with_columns(kind=pl.Series(["x", "y"] * 10))
    probabilities = []
    for unusual in ({}, {"a": number, "b": category}):
        table = rows.rename(unusual)
        if suffix == ".csv":
            table.write_csv("table.csv")
        else:
            table.write_parquet("table.parquet")
        fit("--data.path", f"table{suffix}", "--data.exclude", "[c]", "--trainer.max_epochs", "1")
        main(["predict", f"table{suffix}", "--output", "out.csv"])
        probabilities.append(pl.read_csv("out.csv")["probability_x"])
    assert probabilities[0].equals(probabilities[1])


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in.csv", "out.parquet"),
        ("in.csv.gz", "out.csv.zst"),
        ("in.csv.zst", "out.csv.gz"),
        ("in.parquet", "out.tsv"),
    ],
)
def test_all_formats_of_input_and_output(source: str, output: str, checkpoint: str) -> None:
    frame = pl.read_csv(io.StringIO(FLOWERS))
    compressions: dict[str, Any] = {".gz": "gzip", ".zst": "zstd"}
    if source.endswith(".parquet"):
        frame.write_parquet(source)
    else:
        compression = compressions.get(Path(source).suffix, "uncompressed")
        frame.write_csv(source, compression=compression)
    predict(checkpoint, source, "--output", output)
    if output.endswith(".parquet"):
        found = pl.read_parquet(output)
    else:
        found = pl.read_csv(output, separator="\t" if output.endswith(".tsv") else ",")
    assert_frame_equal(found[frame.columns], frame)
    assert found.columns == [*frame.columns, "prediction", *PROBABILITIES]


def test_standard_input_and_standard_output(
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    Path("in.csv").write_text(FLOWERS)
    predict(checkpoint, "in.csv", "--output", "out.csv")
    capsysbinary.readouterr()
    with open("in.csv", encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        predict(checkpoint, "-")
    out, err = capsysbinary.readouterr()
    assert out == Path("out.csv").read_bytes()
    assert b"3 rows" in err


def test_predict_uses_the_dialect_of_the_training() -> None:
    iris = load_iris()
    table = pl.DataFrame(iris.data, ["a", "b", "c", "d"]).with_columns(kind=pl.Series(iris.target))
    table.write_csv("iris.csv", separator=";", decimal_comma=True)
    fit("--data.path", "iris.csv", "--data.decimal_comma", "true")
    Path("iris.csv").unlink()
    table.select("kind", "d", "c", "b", "a").write_csv("new.csv", separator=";", decimal_comma=True)
    main(["predict", "new.csv", "--output", "out.csv"])
    found = pl.read_csv("out.csv", separator=";", decimal_comma=True)
    predictions = iris_lightning.load("lightning_logs/version_0/checkpoints/best.ckpt").predict(
        iris.data
    )
    assert found["prediction"].cast(pl.String).to_list() == predictions.tolist()
    main(["export", "model.safetensors"])  # which does not know how the table was written
    options = ["--weights", "model.safetensors", "--decimal_comma", "true"]
    main(["predict", "new.csv", "--output", "2.csv", *options])
    assert Path("2.csv").read_text() == Path("out.csv").read_text()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_empty_tables_give_a_header(suffix: str, checkpoint: str) -> None:
    frame = pl.DataFrame(schema=dict.fromkeys(NAMES, pl.Float64))
    frame.write_csv("in.csv")
    frame.write_parquet("in.parquet")
    predict(checkpoint, f"in.{suffix}", "--output", "out.csv")
    assert Path("out.csv").read_text() == ",".join([*NAMES, "prediction", *PROBABILITIES]) + "\n"


def test_categories_may_have_commas() -> None:
    columns = {"x": [1.5, 2.5, 3.5, 4.5, 5.5], "size": ["7,5", "8,5", "kids", "baby", "none"]}
    table = pl.concat([pl.DataFrame({**columns, "kind": list("aabba")})] * 8)
    table.write_csv("table.csv", separator=";")
    fit("--data.path", "table.csv", "--trainer.max_epochs", "1")
    table.head(2).write_csv("new.csv", separator=";")
    main(["predict", "new.csv", "--output", "out.csv"])
    assert pl.read_csv("out.csv", separator=";").height == 2


def test_ambiguous_commas_are_refused_as_in_training(capsys: pytest.CaptureFixture[str]) -> None:
    Path("table.csv").write_text("a,kind\n" + "0.125,x\n1.5,y\n" * 9)
    fit("--data.path", "table.csv", "--trainer.max_epochs", "1")
    Path("new.csv").write_text("a;b\n" + "1,000;u\n2,001;v\n" * 9)
    assert "decimal_comma true, or" in fails(capsys, "predict", "new.csv", "--output", "out.csv")


def test_class_names_are_written_as_they_are() -> None:
    names = ["+c", '-"1"', "=1+1", "@a,=b\n"]
    pl.DataFrame({"x": [*range(5)] * 8, "kind": names * 10}).write_csv("in.csv")
    fit("--data.path", "in.csv", "--trainer.max_epochs", "1")
    main(["predict", "in.csv", "--output", "out.csv"])
    with open("out.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[3:] == [f"probability_{name.strip()}" for name in names]
    assert [row[1] for row in rows] == names * 10


X = HEADER + "1,2,3,4\n1,2,x,4\n"


@pytest.mark.parametrize(
    ("text", "output", "message"),
    [
        ("sepal_length,sepal_width,petal_length\n1,2,3\n", "out.csv", "petal width (cm)"),
        (X, "out.csv", "column 'petal_length', row 2: expected a finite number, got 'x'"),
        (X, "out.parquet", "column 'petal_length', row 2"),
        (X, "-", "column 'petal_length', row 2"),
        (HEADER + "1,2,3,4\n\n1,2,3,\n", "out.csv", "column 'petal_width', row 2: missing value"),
        (HEADER + "1,2,3,4,5\n", "out.csv", "row 1 has more cells"),
        ("prediction," + HEADER + "a,1,2,3,4\n", "out.csv", "a column 'prediction' already"),
        ("", "out.csv", "empty"),
        (HEADER + "3e38,3e38,3e38,3e38\n", "out.csv", "too large"),
        (HEADER.replace(",", ";") + "1,5;2,5;3,5;4,5\n", "out.csv", "try --decimal_comma true"),
    ],
)  # fmt: skip
def test_bad_tables(
    text: str, output: str, message: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_text(text)
    said = fails(capsys, "predict", "in.csv", "--ckpt_path", checkpoint, "--output", output)
    assert "in.csv" in said
    assert message in said


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("none.csv --output out.csv", "none.csv: no such file"),
        ("in.xls --output out.csv", "in.xls: expected a file that ends in .csv"),
        ("in.csv --output out.xls", "out.xls: expected a file that ends in .csv"),
        ("in.csv --output no/out.csv", "no folder no"),
        ("in.csv --output in.csv", "is also the input"),
        ("in.csv --output sub.csv", "is not a regular file"),
    ],
)
def test_bad_paths_and_options(
    command: str, message: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_text(HEADER + "1,2,3,4\n")
    Path("in.xls").touch()
    Path("sub.csv").mkdir()
    said = fails(capsys, "predict", *command.split(), "--ckpt_path", checkpoint)
    assert message in said
    assert Path("in.csv").read_text() == HEADER + "1,2,3,4\n"


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_a_full_disk_leaves_the_old_output(
    output: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    pl.DataFrame(rng.random((30_000, 4)), NAMES).write_csv("in.csv")
    Path(output).write_text("of yesterday")
    with full_disk(100_000):
        command = ["predict", "in.csv", "--ckpt_path", checkpoint, "--output", output]
        assert f"{output}: cannot be written" in fails(capsys, *command)
    assert Path(output).read_text() == "of yesterday"


def test_a_killed_process_leaves_the_old_output(checkpoint: str) -> None:
    Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * 3_000_000)
    Path("out.csv").write_text("of yesterday")
    command = ["predict", "in.csv", "--output", "out.csv", "--ckpt_path", checkpoint]
    with subprocess.Popen([sys.executable, "-m", "iris_lightning", *command]) as process:
        while process.poll() is None and not list(Path().glob(".out.csv.*.part/out.csv")):
            time.sleep(0.002)
        process.kill()
    assert process.returncode, "it should have been writing still"
    assert Path("out.csv").read_text() == "of yesterday"


PEAK = """
import resource, sys
from iris_lightning.cli import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_is_bounded(checkpoint: str) -> None:
    peaks = []
    for rows in (1_000_000, 8_000_000):
        Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * rows)
        command = ["predict", "in.csv", "--output", "out.csv", "--ckpt_path", checkpoint]
        run = [sys.executable, "-c", PEAK, *command]
        output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        peaks.append(int(output.splitlines()[-1]))
    # Seven million rows more would take 900 MB more, were they kept.
    assert peaks[1] - peaks[0] < 550


def test_errors_name_the_checkpoint(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("wine.csv").write_text("alcohol,kind\n14,a\n")
    first, second = fails(capsys, "predict", "wine.csv", "--ckpt_path", checkpoint).splitlines()
    assert "wine.csv has no column 'sepal length (cm)'" in first
    assert checkpoint in second
