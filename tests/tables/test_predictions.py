"""`predict`: a table in, the same table with predictions out."""

import csv
import io
import os
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

import iris_lightning
from iris_lightning.cli import main
from tests.conftest import fails, fit, load
from tests.test_files import full_disk

FLOWERS = (
    "petal_width,note,sepal_length,petal_length,sepal_width\n"
    '0.20," a, ""b""",5.10,1.4,3.5\n'
    "2.1,,6.5,5.5,3.0\n"
    "1.3,=1+1,5.5,4.0,2.5\n"
)
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
HEADER = ",".join(NAMES) + "\n"
PROBABILITIES = ["probability_setosa", "probability_versicolor", "probability_virginica"]


@pytest.fixture
def checkpoint(default_run: Path) -> Path:
    return default_run / "checkpoints" / "best.ckpt"


def predict(checkpoint: Path, *args: str) -> None:
    main(["predict", *args, "--ckpt_path", str(checkpoint)])


def test_all_columns_and_rows_are_kept_and_the_predictions_follow(checkpoint: Path) -> None:
    Path("flowers.csv").write_text(FLOWERS)
    predict(checkpoint, "flowers.csv", "--output", "out.csv")
    lines = Path("out.csv").read_text().splitlines()
    assert lines[0] == FLOWERS.splitlines()[0] + ",prediction," + ",".join(PROBABILITIES)
    assert all(line.startswith(given + ",") for line, given in zip(lines, FLOWERS.splitlines(), strict=True))
    # The oracle: the plain network on tensors.
    model = iris_lightning.load(checkpoint)
    table = pl.read_csv("out.csv")
    logits = model.network(torch.tensor(table[NAMES].to_numpy(), dtype=torch.float32))
    assert table["prediction"].to_list() == [model.classes_[i] for i in logits.argmax(dim=1)]
    np.testing.assert_allclose(table[PROBABILITIES].to_numpy(), logits.softmax(dim=1), atol=1e-7)
    np.testing.assert_allclose(table[PROBABILITIES].to_numpy().sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "output"),
    [(".csv", ".parquet"), (".csv.gz", ".csv.zst"), (".csv.zst", ".csv.gz"), (".parquet", ".csv"), (".csv", ".csv")],
)
def test_every_format_on_either_side(source: str, output: str, checkpoint: Path) -> None:
    frame = pl.read_csv(io.StringIO(FLOWERS))
    if source == ".parquet":
        frame.write_parquet("in.parquet")
    else:
        compression: Any = {".csv": "uncompressed", ".csv.gz": "gzip", ".csv.zst": "zstd"}[source]
        frame.lazy().sink_csv(f"in{source}", compression=compression)
    predict(checkpoint, f"in{source}", "--output", f"out{output}")
    found = pl.read_parquet("out.parquet") if output == ".parquet" else pl.read_csv(f"out{output}")
    assert found[frame.columns].rows() == frame.rows()
    assert found.columns == [*frame.columns, "prediction", *PROBABILITIES]


def test_standard_input_and_standard_output(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    Path("in.csv").write_text(FLOWERS)
    predict(checkpoint, "in.csv", "--output", "out.csv")
    pl.read_csv("in.csv").write_parquet("in.parquet")
    capsysbinary.readouterr()
    for source in ("in.csv", "in.parquet"):
        reader, writer = os.pipe()
        with open(writer, "wb") as pipe:
            pipe.write(Path(source).read_bytes())
        with open(reader, encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            predict(checkpoint, "-")
        out, err = capsysbinary.readouterr()
        if source == "in.csv":
            assert out == Path("out.csv").read_bytes()
        assert_frame_equal(pl.read_csv(out), pl.read_csv("out.csv"))
        assert b"standard output: 3 rows (no accuracy: " in err


def test_the_accuracy_is_that_of_the_rows_with_a_class_known_or_not(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sklearn.datasets import load_iris

    iris = load_iris()
    kinds = [*(str(iris.target_names[code]) for code in iris.target[:-2]), None, "tulip"]
    pl.DataFrame(iris.data, iris.feature_names).with_columns(kind=pl.Series(kinds)).write_csv("in.csv")
    predict(checkpoint, "in.csv", "--output", "out.csv", "--target", "kind")
    out = capsys.readouterr().out
    correct = (iris_lightning.load(checkpoint).predict(iris.data[:-2]) == np.array(kinds[:-2])).sum()
    assert f"out.csv: 150 rows, accuracy {correct / 149:.4f} ({correct} of 149 'kind')" in out


def test_decimal_commas_and_spaces_in_the_header(checkpoint: Path) -> None:
    Path("in.csv").write_text(" sepal_length;sepal_width ;petal_length;petal_width\n5,10;3,5;1,4;0,2\n")
    predict(checkpoint, "in.csv", "--output", "out.csv", "--decimal_comma", "true")
    header, row = Path("out.csv").read_text().splitlines()
    assert header.startswith(" sepal_length;sepal_width ;petal_length;petal_width;prediction;")
    assert row.startswith("5,10;3,5;1,4;0,2;")
    assert "." not in row


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_no_rows_give_a_header(suffix: str, checkpoint: Path) -> None:
    frame = pl.DataFrame({name: [] for name in NAMES}, schema=dict.fromkeys(NAMES, pl.Float64))
    frame.write_csv("in.csv") if suffix == "csv" else frame.write_parquet("in.parquet")
    predict(checkpoint, f"in.{suffix}", "--output", "out.csv")
    assert Path("out.csv").read_text() == ",".join([*NAMES, "prediction", *PROBABILITIES]) + "\n"


def test_a_model_of_an_own_table_needs_no_table_and_remembers_how_it_was_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sklearn.datasets import load_wine

    wine = load_wine()
    table = pl.DataFrame(wine.data, wine.feature_names).with_columns(kind=pl.Series(wine.target))
    table.write_csv("wine.csv", separator=";", decimal_comma=True)
    fit("--data.path", "wine.csv", "--data.decimal_comma", "true", "--model.standardize", "true")
    Path("wine.csv").unlink()
    table.select(reversed(table.columns)).reverse().write_csv("new.csv", separator=";", decimal_comma=True)
    capsys.readouterr()
    main(["predict", "new.csv", "--output", "out.csv"])
    labels = [str(code) for code in reversed(wine.target)]
    found = pl.read_csv("out.csv", separator=";", decimal_comma=True, schema_overrides={"prediction": pl.String})
    correct = sum(one == other for one, other in zip(found["prediction"], labels, strict=True))
    assert f"({correct} of 178 'kind')" in capsys.readouterr().out
    main(["export", "model.safetensors"])  # which knows names, but nothing of files
    main(["predict", "new.csv", "--weights", "model.safetensors", "--output", "2.csv", "--decimal_comma", "true"])
    assert Path("2.csv").read_text() == Path("out.csv").read_text()


def test_cells_and_class_names_are_written_as_they_are(checkpoint: Path) -> None:
    content = load(checkpoint)
    names = ["=1+1", "@a,=b\n+c", '-"1"']
    for place in ("hyper_parameters", "trained_on", "IrisDataModule"):
        content[place]["class_names"] = names
    torch.save(content, "formulas.ckpt")
    rows = [("=1+1", 5.1, 3.5, 1.4, 0.2), ("@x", 6.5, 3.0, 5.5, 2.0), ("-a", 5.5, 2.5, 4.0, 1.3), ("+b", 1.0, 9, 1, 9)]
    pl.DataFrame(rows, ["note", *NAMES], orient="row").write_csv("in.csv")
    predict(Path("formulas.ckpt"), "in.csv", "--output", "out.csv")
    with open("out.csv", newline="", encoding="utf-8") as file:
        header, *cells = csv.reader(file)
    assert [row[0] for row in cells] == [row[0] for row in rows]
    assert header[6:] == [f"probability_{name}" for name in names]
    likeliest = [max(range(3), key=lambda i: float(row[6 + i])) for row in cells]
    assert [row[5] for row in cells] == [names[i] for i in likeliest]
    assert len(set(likeliest)) > 1


BAD = {
    "sepal_length,sepal_width,petal_length\n1,2,3\n": ["no column 'petal width (cm)'", "found 'sepal_length'"],
    HEADER + "1,2,3,4\n1,2,x,4\n": ["column 'petal_length', row 2: 'x' is not a number"],
    HEADER + "1,2,3,4\n1,2,3,\n": ["column 'petal_width', row 2: missing value"],
    HEADER + "1,2,inf,4\n": ["column 'petal_length', row 1", "not a finite number"],
    HEADER + "1,2,3,4,5\n": ["cannot be read as CSV: row 1 has more cells than the header"],
    "prediction," + HEADER + "a,1,2,3,4\n": ["has a column 'prediction' already"],
    "": ["cannot be read as CSV"],
    HEADER + "1,2,3,4\n\n,,,\n": ["line 4 has no value at all"],
    HEADER + "3e38,3e38,3e38,3e38\n": ["a row is too large for the network, with the features [3.0"],
    HEADER.replace(",", ";") + "1,5;2,5;3,5;4,5\n": ["try --decimal_comma true"],
}


@pytest.mark.parametrize(
    ("text", "output"), [*((text, "out.csv") for text in BAD), *((list(BAD)[1], other) for other in ("o.parquet", "-"))]
)
def test_bad_tables(text: str, output: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.csv").write_text(text)
    message = fails(capsys, "predict", "in.csv", "--ckpt_path", str(checkpoint), "--output", output)
    assert "in.csv" in message
    for part in BAD[text]:
        assert part in message


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("--output out.csv", ["required: table"]),
        ("none.csv --output out.csv", ["none.csv: no such file"]),
        ("in.xls --output out.csv", ["in.xls", ".csv, .tsv, .txt (also with .gz or .zst) or .parquet"]),
        ("in.csv --output out.xls", ["out.xls", ".csv, .tsv, .txt (also with .gz or .zst) or .parquet, or -"]),
        ("in.csv --output no/out.csv", ["no/out.csv", "no folder no"]),
        ("in.csv --output in.csv", ["in.csv", "is the input as well"]),
        ("in.csv --output sub.csv", ["sub.csv", "is a folder"]),
        ("in.csv --output o.csv --missing drop", ["unknown option --missing"]),
        ("in.csv --output o.csv --targt kind", ["unknown option --targt", "did you mean --target?"]),
        ("in.csv --output o.csv --decimal_comma 3", ["--decimal_comma", "true or false", "got 3"]),
        ("in.csv more.csv --output o.csv", ["unexpected argument 'more.csv'"]),
    ],
)
def test_bad_commands(command: str, parts: list[str], checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.csv").write_text(HEADER + "1,2,3,4\n")
    Path("in.xls").touch()
    Path("sub.csv").mkdir()
    message = fails(capsys, "predict", *command.split(), "--ckpt_path", str(checkpoint))
    for part in parts:
        assert part in message
    assert Path("in.csv").read_text() == HEADER + "1,2,3,4\n"


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_a_full_disk_leaves_the_old_output(output: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pl.DataFrame(rng.random((30_000, 4)), NAMES).write_csv("in.csv")
    Path(output).write_text("of yesterday")
    with full_disk(100_000):
        message = fails(capsys, "predict", "in.csv", "--ckpt_path", str(checkpoint), "--output", output)
    assert f"{output}: cannot be written: File too large" in message
    assert Path(output).read_text() == "of yesterday"


def test_a_killed_process_leaves_the_old_output_and_the_next_one_removes_the_rest(checkpoint: Path) -> None:
    Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * 3_000_000)
    Path("out.csv").write_text("of yesterday")
    before = sorted(os.listdir())
    command = ["predict", "in.csv", "--output", "out.csv", "--ckpt_path", str(checkpoint)]
    with subprocess.Popen([sys.executable, "-m", "iris_lightning", *command]) as process:
        while process.poll() is None and not any(path.stat().st_size for path in Path().glob(".out.csv.*.part/*")):
            time.sleep(0.002)
        process.kill()
    assert process.returncode, "it should have been writing still"
    assert len(os.listdir()) == len(before) + 1
    assert Path("out.csv").read_text() == "of yesterday"
    Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n")
    main(command)
    assert sorted(os.listdir()) == before
    assert pl.read_csv("out.csv")["prediction"].to_list() == iris_lightning.load(checkpoint).predict(
        [[5.1, 3.5, 1.4, 0.2]]
    )


@pytest.mark.slow
def test_a_long_table_takes_little_memory(checkpoint: Path) -> None:
    def peak(rows: int) -> int:
        code = "import resource, sys; from iris_lightning.cli import main; main(sys.argv[1:]); "
        code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * rows)
        command = ["predict", "in.csv", "--output", "out.csv", "--ckpt_path", str(checkpoint)]
        result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
        assert f"{rows} rows" in result.stdout
        return int(result.stdout.splitlines()[-1]) // 1024

    # Seven million rows more would take 900 MB more, were they kept; what polars has in hand at a time grows to 400.
    assert peak(8_000_000) - peak(1_000_000) < 550


def test_a_cell_with_lines_is_no_empty_row(checkpoint: Path) -> None:
    Path("in.csv").write_text("note," + HEADER + '"one\n , \ntwo",5.1,3.5,1.4,0.2\n')
    predict(checkpoint, "in.csv", "--output", "out.tsv.csv")
    (row,) = csv.reader(Path("out.tsv.csv").read_text().splitlines(keepends=True)[1:])
    assert row[:2] == ["one\n , \ntwo", "5.1"]


def test_the_network_is_named_where_the_table_may_be_that_of_another_run(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wine.csv").write_text("alcohol,kind\n14,a\n")
    first, second = fails(capsys, "predict", "wine.csv", "--ckpt_path", str(checkpoint)).splitlines()
    assert "wine.csv has no column 'sepal length (cm)'" in first
    assert second == f"checkpoint: {checkpoint} (epoch 4)"


def test_rows_that_were_trained_on_are_not_shown_off(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("a,b,kind\n" + "1,2,x\n2,1,y\n3,4,x\n" * 20)
    fit("--data.path", "rows.csv", "--trainer.max_epochs", "1")
    Path("others.csv").write_text("a,b,kind\n1,2,x\n")
    for table, shown in (("rows.csv", True), ("others.csv", False)):
        capsys.readouterr()
        main(["predict", table, "--output", "out.csv"])
        assert capsys.readouterr().out.endswith("; most of them are its train rows: see test\n") == shown
