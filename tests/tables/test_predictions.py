"""`predict`: a table in, the same table with predictions out."""

import io
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import iris_lightning
from iris_lightning.cli import main
from tests.conftest import fails, fit

FLOWERS = (
    "petal_width,note,sepal_length,petal_length,sepal_width\n"
    '0.20," a, ""b""",5.10,1.4,3.5\n'
    "2.1,,6.5,5.5,3.0\n"
    "1.3,=1+1,5.5,4.0,2.5\n"
)
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
PROBABILITIES = ["probability_setosa", "probability_versicolor", "probability_virginica"]


@pytest.fixture
def checkpoint(default_run: Path) -> Path:
    return default_run / "checkpoints" / "best.ckpt"


def predict(checkpoint: Path, *args: str) -> None:
    main(["predict", "--ckpt_path", str(checkpoint), *args])


def test_all_columns_and_rows_are_kept_and_the_predictions_follow(checkpoint: Path) -> None:
    Path("flowers.csv").write_text(FLOWERS)
    predict(checkpoint, "--data.predict_path", "flowers.csv", "--output", "out.csv")
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


@pytest.mark.parametrize("source", [".csv", ".csv.gz", ".csv.zst", ".parquet"])
@pytest.mark.parametrize("output", [".csv", ".csv.gz", ".csv.zst", ".parquet"])
def test_every_format_on_either_side(source: str, output: str, checkpoint: Path) -> None:
    frame = pl.read_csv(io.StringIO(FLOWERS))
    if source == ".parquet":
        frame.write_parquet("in.parquet")
    else:
        compression: Any = {".csv": "uncompressed", ".csv.gz": "gzip", ".csv.zst": "zstd"}[source]
        frame.lazy().sink_csv(f"in{source}", compression=compression)
    predict(checkpoint, "--data.predict_path", f"in{source}", "--output", f"out{output}")
    found = pl.read_parquet("out.parquet") if output == ".parquet" else pl.read_csv(f"out{output}")
    assert found[frame.columns].rows() == frame.rows()
    assert found.columns == [*frame.columns, "prediction", *PROBABILITIES]


def test_the_accuracy_is_that_of_the_rows_with_a_class(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_iris

    iris = load_iris()
    kinds = [*(str(iris.target_names[code]) for code in iris.target[:-2]), None, "tulip"]
    pl.DataFrame(iris.data, iris.feature_names).with_columns(species=pl.Series(kinds)).write_csv("in.csv")
    predict(checkpoint, "--data.predict_path", "in.csv", "--output", "out.csv")
    out = capsys.readouterr().out
    correct = (iris_lightning.load(checkpoint).predict(iris.data[:-2]) == np.array(kinds[:-2])).sum()
    assert f"out.csv: 150 rows, accuracy {correct / 149:.4f} ({correct} of 149 'species'); classes" in out
    assert "classes that it does not know, such as 'tulip', count as wrong" in out


def test_decimal_commas_and_spaces_in_the_header(checkpoint: Path) -> None:
    Path("in.csv").write_text(" sepal_length;sepal_width ;petal_length;petal_width\n5,10;3,5;1,4;0,2\n")
    options = ["--data.decimal_comma", "true"]
    predict(checkpoint, "--data.predict_path", "in.csv", "--output", "out.csv", *options)
    header, row = Path("out.csv").read_text().splitlines()
    assert header.startswith(" sepal_length;sepal_width ;petal_length;petal_width;prediction;")
    assert row.startswith("5,10;3,5;1,4;0,2;")
    assert "." not in row


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_no_rows_give_a_header(suffix: str, checkpoint: Path) -> None:
    frame = pl.DataFrame({name: [] for name in NAMES}, schema=dict.fromkeys(NAMES, pl.Float64))
    frame.write_csv("in.csv") if suffix == "csv" else frame.write_parquet("in.parquet")
    predict(checkpoint, "--data.predict_path", f"in.{suffix}", "--output", "out.csv")
    assert Path("out.csv").read_text() == ",".join([*NAMES, "prediction", *PROBABILITIES]) + "\n"


def test_a_model_of_an_own_table_needs_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_wine

    wine = load_wine()
    table = pl.DataFrame(wine.data, wine.feature_names).with_columns(kind=pl.Series(wine.target))
    table.write_csv("wine.csv")
    fit("--data.path", "wine.csv", "--model.standardize", "true", "--data.stratify", "true")
    Path("wine.csv").unlink()
    table.select(pl.all().reverse()).write_parquet("new.parquet")
    main(["predict", "--data.predict_path", "new.parquet", "--output", "out.csv"])
    assert "accuracy" in capsys.readouterr().out
    main(["export", "--output", "model.safetensors"])
    main(["predict", "--model.weights", "model.safetensors", "--data.predict_path", "new.parquet", "--output", "2.csv"])
    assert Path("2.csv").read_text() == Path("out.csv").read_text()


HEADER = ",".join(NAMES) + "\n"
BAD = {
    "sepal_length,sepal_width,petal_length\n1,2,3\n": ["no column 'petal width (cm)'", "found 'sepal_length'"],
    HEADER + "1,2,3,4\n1,2,x,4\n": ["column 'petal_length', row 2: 'x' is not a number"],
    HEADER + "1,2,3,4\n1,2,3,\n": ["column 'petal_width', row 2: no value"],
    HEADER + "1,2,inf,4\n": ["column 'petal_length', row 1", "not a finite number"],
    HEADER + "1,2,3,4,5\n": ["cannot be read as CSV: a row has more cells than the header"],
    "prediction," + HEADER + "a,1,2,3,4\n": ["has a column 'prediction' already"],
    "": ["cannot be read as CSV"],
    HEADER + "1,2,3,4\n\n,,,\n": ["line 4 has no value at all"],
    HEADER + "3e38,3e38,3e38,3e38\n": ["a row is too large for the network, with the features [3.0"],
    HEADER.replace(",", ";") + "1,5;2,5;3,5;4,5\n": ["give --data.decimal_comma true"],
}


@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "-"])
@pytest.mark.parametrize("text", BAD)
def test_bad_tables(text: str, output: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.csv").write_text(text)
    message = fails(
        capsys, "predict", "--ckpt_path", str(checkpoint), "--data.predict_path", "in.csv", "--output", output
    )
    assert "in.csv" in message
    for part in BAD[text]:
        assert part in message


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("--output out.csv", ["--data.predict_path", "got null"]),
        ("--data.predict_path none.csv --output out.csv", ["--data.predict_path none.csv", "no such file"]),
        ("--data.predict_path in.txt --output out.csv", ["--data.predict_path in.txt", ".csv, .csv.gz"]),
        ("--data.predict_path in.csv --output out.xls", ["--output out.xls", ".csv, .csv.gz, .csv.zst, .parquet"]),
        ("--data.predict_path in.csv --output no/out.csv", ["--output no/out.csv", "no folder no"]),
        ("--data.predict_path in.csv --output in.csv", ["--output in.csv", "is the input as well"]),
        ("--data.predict_path in.csv --output twin.csv", ["--output twin.csv", "is the input as well"]),
        ("--data.predict_path in.csv --output sub.csv", ["--output sub.csv", "is a folder"]),
        ("--data.predict_path in.csv --output o.csv --data.missing drop", ["--data.missing drop", "predict"]),
        ("--data.predict_path in.csv --output o.csv --model.weights w.pth", ["w.pth", "no such file"]),
    ],
)
def test_bad_commands(command: str, parts: list[str], checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.csv").write_text(HEADER + "1,2,3,4\n")
    Path("in.txt").touch()
    Path("sub.csv").mkdir()
    os.link("in.csv", "twin.csv")
    message = fails(capsys, "predict", "--ckpt_path", str(checkpoint), *command.split())
    for part in parts:
        assert part in message
    assert Path("in.csv").read_text() == HEADER + "1,2,3,4\n"


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_a_full_disk_leaves_the_old_output(output: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pl.DataFrame(rng.random((30_000, 4)), NAMES).write_csv("in.csv")
    Path(output).write_text("of yesterday")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        message = fails(
            capsys, "predict", "--ckpt_path", str(checkpoint), "--data.predict_path", "in.csv", "--output", output
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"--output {output}: File too large" in message
    assert Path(output).read_text() == "of yesterday"


def test_a_pipe_and_a_killed_process(checkpoint: Path) -> None:
    command = [sys.executable, "-m", "iris_lightning", "predict", "--ckpt_path", str(checkpoint), "--data.predict_path"]
    Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * 3_000_000)
    piped = subprocess.run(
        [*command, "-", "--output", "-"], input=FLOWERS, capture_output=True, text=True, timeout=120, check=False
    )
    assert piped.returncode == 0
    assert [line.count(",") for line in piped.stdout.splitlines()] == [8, 9, 8, 8]
    assert piped.stdout.startswith("petal_width,note,")
    assert piped.stderr.splitlines()[-1] == "standard output: 3 rows (no accuracy: there is no column 'species')"
    before = sorted(os.listdir())
    process = subprocess.Popen([*command, "in.csv", "--output", "killed.csv"])
    descriptors = Path(f"/proc/{process.pid}/fd")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if any(_is_output(link) for link in descriptors.iterdir()):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it should have been writing still"
    assert sorted(os.listdir()) == before


def _is_output(link: Path) -> bool:
    try:
        return f"{Path.cwd()}/" in os.readlink(link) and os.stat(link).st_size > 0 and "in.csv" not in os.readlink(link)
    except OSError:
        return False


def test_a_long_table_takes_little_memory(checkpoint: Path) -> None:
    def peak(rows: int) -> int:
        code = "import resource, sys; from iris_lightning.cli import main; main(sys.argv[1:]); "
        code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        Path("in.csv").write_text(HEADER + "5.1,3.5,1.4,0.2\n" * rows)
        command = ["predict", "--ckpt_path", str(checkpoint), "--data.predict_path", "in.csv", "--output", "out.csv"]
        result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
        assert f"{rows} rows" in result.stdout
        return int(result.stdout.splitlines()[-1]) // 1024

    # Seven million rows more would take 900 MB more, were they kept; what polars has in hand at a time grows to 400.
    assert peak(8_000_000) - peak(1_000_000) < 550
