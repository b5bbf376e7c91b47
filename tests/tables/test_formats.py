"""Tables as people have them: separators, missing values, spaces, categories."""

import gzip
from pathlib import Path

import lightning
import numpy as np
import onnxruntime
import pandas
import polars as pl
import pytest
import torch

import iris_lightning
from iris_lightning import IrisClassifier, IrisDataModule, UserError
from iris_lightning.cli import main
from iris_lightning.tables.reading import read_table
from tests.conftest import fails, fit, load
from tests.tables.test_reading import GOOD, sklearn_table, write


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".tsv.gz"])
def test_the_separator_is_found_in_the_file(mark: str, suffix: str) -> None:
    text = GOOD.replace(",", mark).replace("red", '"dark; red, or | brown"').encode()
    table = read_table(write(gzip.compress(text) if suffix.endswith(".gz") else text, f"table{suffix}"))
    assert torch.equal(table.features, read_table(write(GOOD, "plain.csv")).features)


def test_the_separator_can_be_set() -> None:
    path = write("a;b,c;d\n" + "1;x,2;y\n3;z,4;w\n" * 10)
    assert read_table(path).feature_names == ["a"]
    with pytest.raises(ValueError, match="separator: expected one of , ; tab"):
        IrisDataModule(path, separator=":")  # type: ignore[arg-type]  # a mistake, on purpose
    with pytest.raises(ValueError, match="na_values: expected a list of texts, got 'NA'"):
        IrisDataModule(path, na_values="NA")  # type: ignore[arg-type]  # a mistake, on purpose
    with pytest.raises(UserError, match="no column of numbers"):
        read_table(path, separator=",")


PENGUINS = """species,island,bill,mass,sex,year
Adelie,Torgersen,39.1,3750,male,2007
 Adelie,Biscoe,38.6,NA,female,2007
Gentoo,Biscoe,?,4500,NA,2008
Gentoo ,Biscoe,46.1,N/A,male,2008
Gentoo,Dream,50.0,5700,null,2009
Adelie,Dream, NA ,3800,female,2009
"""


def penguins(times: int) -> str:
    """The rows of a table, several times."""
    header, *rows = PENGUINS.splitlines(keepends=True)
    return header + "".join(rows) * times


def test_missing_values_as_people_write_them(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(penguins(5))
    message = fails(capsys, "fit", "--data.path", path)
    assert "column 'mass', row 2: missing value; expected a number; try --data.missing drop or mean" in message
    fit("--data.path", path, "--data.missing", "drop", "--trainer.max_epochs", "1", "--data.split", "[0.5, 0.25, 0.25]")
    said = capsys.readouterr().out.splitlines()
    assert "10 rows" in said[0]
    assert "2 classes of 'species'" in said[0]
    assert said[1].endswith("left out, since not numbers: island, sex; name them in features to take their categories")
    assert said[2].endswith("dropped 20 of 30 rows, which have missing values")


def test_other_missing_values() -> None:
    text = "a,b,kind\n" + "1,-999,x\n2,1.5,NA\n-,2.5,y\n-999.0,3,NA\n" * 3
    path = write(text)
    table = read_table(path, missing="mean", na_values=["-", -999])
    assert table.class_names == ["NA", "x", "y"]
    expected = torch.tensor([[1, torch.nan], [2, 1.5], [torch.nan, 2.5], [torch.nan, 3]])
    assert torch.equal(table.features[:4].nan_to_num(-1), expected.nan_to_num(-1))
    with pytest.raises(UserError, match="'-' is not a number"):
        read_table(path, missing="mean", na_values=[])
    pl.read_csv("table.csv", null_values="-").write_parquet("t.parquet")
    again = read_table("t.parquet", missing="mean", na_values=["-", -999])
    assert torch.equal(again.features.nan_to_num(-1), table.features.nan_to_num(-1))


def test_columns_of_text_are_categories(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.preprocessing import OneHotEncoder

    path = write(penguins(5))
    table = read_table(path, features=["year", "island"], missing="drop")
    frame = pl.read_csv(path, null_values=["NA", "N/A"])
    expected = OneHotEncoder(sparse_output=False).fit_transform(frame.select("island"))
    assert table.feature_names == ["year", "island=Biscoe", "island=Dream", "island=Torgersen"]
    np.testing.assert_array_equal(table.features[:, 1:].numpy(), expected)

    fit("--data.path", path, "--data.features", "[year, island]", "--trainer.max_epochs", "1")
    checkpoint = "lightning_logs/version_0/checkpoints/best.ckpt"
    assert load(Path(checkpoint))["hyper_parameters"]["feature_names"] == table.feature_names
    assert main(["test"]).datamodule.feature_names == table.feature_names
    again = fit("--ckpt_path", "last", "--data.features", "[year, island]", "--trainer.max_epochs", "2")
    assert again.datamodule.feature_names == table.feature_names, "a column of text means its categories here, too"
    assert "was trained with" in fails(capsys, "fit", "--ckpt_path", "last", "--data.features", "[island]")
    main(["export", "model.pth"])
    for source in (checkpoint, "model.pth"):
        flowers = iris_lightning.load(source)
        by_name = flowers.predict_proba(frame.select("island", "year"))
        assert np.array_equal(by_name, flowers.predict_proba(table.features.numpy()))
        assert np.array_equal(by_name, flowers.predict_proba(pandas.DataFrame(frame.to_dict(as_series=False))))
    main(["predict", path, "--output", "out.csv"])
    found = pl.read_csv("out.csv")
    np.testing.assert_allclose(found["probability_Gentoo"], by_name[:, 1], rtol=1e-6)
    assert found["mass"].to_list() == pl.read_csv(path)["mass"].to_list(), "kept as they are"

    message = "expected a column or some of its categories, got both"
    assert message in fails(capsys, "fit", "--data.path", path, "--data.features", "[island=Dream, island]")
    write("year,island\n2007,Mars\n", "new.csv")
    message = "column 'island', row 1: unknown category 'Mars'; known: Biscoe, Dream, Torgersen"
    assert message in fails(capsys, "predict", "new.csv")
    with pytest.raises(UserError, match="row 0, 'island': unknown category 'Mars'"):
        flowers.predict(pl.read_csv("new.csv"))
    write("year,island,species\n2007,Mars,Adelie\n", "other.csv")
    assert message in fails(capsys, "test", "--data.path", "other.csv")


def test_missing_values_become_the_mean_of_the_train_split(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    path = write(penguins(10))
    options = ["--data.path", path, "--data.missing", "mean", "--data.features", "[bill, mass, sex]"]
    cli = fit(*options, "--model.standardize", "true", "--trainer.max_epochs", "2")
    assert "missing values in 50 of 60 rows get the mean of the train split" in capsys.readouterr().out
    network, features = cli.model.network, cli.datamodule.tensors("train")[0]
    imputer, scaler = SimpleImputer(), StandardScaler()
    scaler.fit(filled := imputer.fit_transform(features.double().numpy()))
    torch.testing.assert_close(network.fill, torch.tensor(imputer.statistics_, dtype=torch.float32))
    torch.testing.assert_close(network.mean, torch.tensor(scaler.mean_, dtype=torch.float32))
    torch.testing.assert_close(network.std, torch.tensor(scaler.scale_, dtype=torch.float32))
    torch.testing.assert_close(network(features), network(torch.tensor(filled, dtype=torch.float32)))

    main(["test"])
    main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    main(["predict", path, "--output", "out.csv"])
    expected = pl.read_csv("out.csv")
    rows = cli.datamodule.table.features
    for name in ("model.pth", "model.safetensors", "model.onnx"):
        main(["export", name])
        if name == "model.onnx":
            found = onnxruntime.InferenceSession(name).run(None, {"features": rows.numpy()})[0]
        else:
            found = iris_lightning.load(name).predict_proba(rows.numpy())
        np.testing.assert_allclose(found[:, 0], expected["probability_Adelie"], atol=2e-6)
    assert "fill" not in iris_lightning.IrisNetwork().state_dict()


def test_missing_values_need_a_network_that_fills_them(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(penguins(10))
    fit("--data.path", path, "--data.features", "[year]", "--trainer.max_epochs", "1")
    message = fails(capsys, "test", "--data.missing", "mean")
    assert "--data.missing mean: lightning_logs/version_0/checkpoints/best.ckpt was trained without" in message
    data = IrisDataModule(path, missing="mean", features=["bill"])
    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(UserError, match="has missing values; expected a classifier with impute=True"):
        trainer.fit(IrisClassifier(data.feature_names, data.class_names), data)
    trainer.fit(model := IrisClassifier(data.feature_names, data.class_names, impute=True), data)
    assert model.network.is_scaled


def test_iris_in_its_other_spelling_is_evaluated() -> None:
    fit("--trainer.max_epochs", "1")
    iris = sklearn_table("iris")
    expected = main(["test"]).trainer.callback_metrics
    spelled = {name: name.removesuffix(" (cm)").replace(" ", "_") for name in iris.columns}
    iris.rename({**spelled, "kind": "species"}).write_csv("s.csv")
    again = main(["test", "--data.path", "s.csv"])
    assert again.trainer.callback_metrics == expected
    assert len(again.datamodule.rows["test"]) == 15, "the same rows, and the same split"


def test_parquet_columns_that_hold_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    iris = sklearn_table("iris").drop("kind")
    dates = pl.lit("2026-01-01").str.to_date()
    for values, kind in ((dates, "Date"), (pl.lit(True), "Boolean"), (pl.lit("5.1"), "String")):
        iris.with_columns(values.alias("sepal length (cm)")).write_parquet("t.parquet")
        expected = f"t.parquet: column 'sepal length (cm)' holds {kind}, not numbers"
        assert expected in fails(capsys, "predict", "t.parquet")


def test_a_damaged_page_of_parquet(capsys: pytest.CaptureFixture[str]) -> None:
    sklearn_table("iris").write_parquet("t.parquet")
    content = bytearray(Path("t.parquet").read_bytes())
    content[100:160] = bytes(60)
    Path("t.parquet").write_bytes(content)
    assert "t.parquet: cannot be read as Parquet" in fails(capsys, "fit", "--data.path", "t.parquet")


def test_a_target_that_is_typed_must_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    fit("--trainer.max_epochs", "1")
    write("sepal_length,sepal_width,petal_length,petal_width,species\n5,3,1,0.2,setosa\n5,3,1,0.2,SETOSA\n", "f.csv")
    assert "--target: no column 'specis' in f.csv" in fails(capsys, "predict", "f.csv", "--target", "specis")
    main(["predict", "f.csv", "--output", "out.csv"])
    assert "of 2 'species'); 1 rows are of a class that the model does not know" in capsys.readouterr().out


def test_a_path_object() -> None:
    data = IrisDataModule(Path(write(GOOD)))  # type: ignore[arg-type]  # a mistake, on purpose
    assert data.hparams["path"] == "table.csv"
    assert data.feature_names == ["length", "width"]


def test_a_column_that_numbers_the_rows_is_no_feature(capsys: pytest.CaptureFixture[str]) -> None:
    table = sklearn_table("iris").with_row_index("")  # as R's write.csv and pandas' to_csv write it
    table.write_csv("numbered.csv")
    fit("--data.path", "numbered.csv")
    assert "left out: the column without a name" in capsys.readouterr().out
    main(["predict", "numbered.csv", "--output", "predictions.csv"])
    predictions = pl.read_csv("predictions.csv", has_header=False, skip_rows=1)
    assert predictions.to_series().to_list() == list(range(150))
    assert Path("predictions.csv").read_text().startswith('"",sepal length (cm),'), "its name is still none"


def test_a_separator_at_the_end_of_lines_makes_no_column() -> None:
    ended = read_table(write(GOOD.replace("\n", ",\n"), "ended.csv"))
    plain = read_table(write(GOOD, "plain.csv"))
    assert (ended.target, ended.feature_names) == (plain.target, plain.feature_names)
    assert torch.equal(ended.features, plain.features)
    with pytest.raises(UserError, match="column 6 has no name"):
        read_table(write(GOOD.replace("\n", ",,\n"), "twice.csv"))


ROWS = "1.5,2,x\n2.5,3,y\n" * 10


def test_a_row_of_nothing_but_missing_values_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a,b,kind\nNA,NA,NA\n" + ROWS)
    assert "column 'a', row 1: missing value" in fails(capsys, "fit", "--data.path", path)
    table = read_table(path, missing="drop")
    assert len(table.targets) == 20
    assert table.notes == ["dropped 1 of 21 rows, which have missing values"]


def test_a_column_that_begins_with_missing_values_is_one_of_numbers() -> None:
    path = write("a,b,kind\n" + ",2,x\n,3,y\n" * 600 + ROWS)
    table = read_table(path, missing="mean")
    assert table.feature_names == ["a", "b"]
    assert table.features[-1].tolist() == [2.5, 3]


def test_cells_that_hold_lines_or_a_book() -> None:
    book = "word " * 50_000
    path = write(f'a,note,kind\n1,"{book}",x\n2,"one\r\ntwo",y\n3,a\rb,x\n' + "1.5,,x\n2.5,,y\n" * 10)
    assert read_table(path).features.squeeze(1)[:4].tolist() == [1, 2, 3, 1.5]


def test_decimal_commas_in_quotes_between_commas(capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a,b,kind\n" + '"1,5",2,x\n"2,5",3,y\n' * 10)
    assert "decimal commas, such as '1,5'; try --data.decimal_comma true" in fails(capsys, "fit", "--data.path", path)
    expected = read_table(write("a,b,kind\n" + ROWS, "plain.csv")).features
    assert torch.equal(read_table(path, decimal_comma=True).features, expected)
    message = fails(capsys, "fit", "--data.path", "plain.csv", "--data.decimal_comma", "true")
    assert "column 'a' has decimal points, such as '1.5'; try --data.decimal_comma false" in message
    write("a;b;kind\n1,5;2;x\n1.234;2;y\n" + "1,5;2;x\n2,5;3;y\n" * 10)
    message = fails(capsys, "fit", "--data.path", "table.csv", "--data.decimal_comma", "true")
    assert "column 'a', row 2: '1.234' is not a number\n" in message


def test_booleans_are_the_same_however_they_are_written() -> None:
    text = "a,ok,kind\n" + "1,True,TRUE\n2,False,FALSE\n3,True,FALSE\n" * 10
    table = read_table(write(text), features=["a", "ok"])
    assert table.class_names == ["false", "true"]
    assert table.feature_names == ["a", "ok=false", "ok=true"]
    pl.read_csv("table.csv").with_columns(
        kind=pl.col("kind").cast(pl.String).str.to_lowercase() == "true"
    ).write_parquet("t.parquet")
    again = read_table("t.parquet", features=["a", "ok"])
    assert again.sha256 == table.sha256
    assert (again.feature_names, again.class_names) == (table.feature_names, table.class_names)


def test_missing_values_given_as_numbers_count_in_the_class_too() -> None:
    path = write("a,kind\n" + "1,1.0\n2,2\n3,-999.0\n" * 10)
    assert read_table(path, missing="drop", na_values=[-999]).class_names == ["1", "2"]
    pl.read_csv(path).write_parquet("t.parquet")
    assert read_table("t.parquet", missing="drop", na_values=[-999]).class_names == ["1", "2"]


@pytest.mark.parametrize("name", ["TABLE.CSV", "table.CSV.GZ", "t.Parquet"])
def test_upper_case_suffixes(name: str) -> None:
    frame = pl.read_csv(write("a,b,kind\n" + ROWS))
    if name.endswith("Parquet"):
        frame.write_parquet(name)
    else:
        Path(name).write_bytes(
            gzip.compress(Path("table.csv").read_bytes()) if "GZ" in name else frame.write_csv().encode()
        )
    assert torch.equal(read_table(name).features, read_table("table.csv").features)


BAD = {  # header and rows, options, and what the message says
    "a,island=Biscoe,island,kind\n" + "1,2,Biscoe,x\n2,3,Dream,y\n" * 10: (
        ["--data.features", "[a,island]"],
        "a category of 'island' would be called 'island=Biscoe', as a column of table.csv is; rename that",
    ),
    "a,prediction,kind\n" + ROWS: ([], "column 'prediction' is called like one that predict adds; rename it"),
    "a,probability_x,kind\n" + ROWS: ([], "column 'probability_x' is called like one that predict adds"),
    "a,b,kind\n1,2,x\n1,2,x,3\n": ([], "row 2 has more cells than the header"),
    "a,b,kind\n" + ROWS: (
        ["--data.na_values", "[no]"],
        "--data.na_values: expected texts or numbers, got False; put it in",
    ),
    "a,b,kind\n1,2,x\n" + '"1,234.5",2,y\n' + ROWS: ([], "'1,234.5' is not a number\n"),
    "a,b,kind\n1,2,x\n" + '"1,234",2,y\n' + ROWS: ([], "'1,234' is not a number\n"),
    "a,b,kind\n1,2,x\n1e99,2,y\n" + ROWS: ([], "'1e99' is not a finite number of float32"),
    ",b,kind\n" + ROWS: (["--data.features", "[c]"], "no column 'c' in table.csv ('', 'b', 'kind')"),
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_read_as_meant(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, message = BAD[text]
    write(text)
    assert message in fails(capsys, "fit", "--data.path", "table.csv", *options)


def test_columns_of_parquet_that_are_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.read_csv(write("a,b,kind\n" + ROWS)).with_columns(many=pl.concat_list("a", "b"))
    frame.select("a", "b", "many", "kind").write_parquet("t.parquet")
    assert read_table("t.parquet").notes == ["left out, since neither numbers nor text: many"]
    message = fails(capsys, "fit", "--data.path", "t.parquet", "--data.target", "many")
    assert "--data.target: column 'many' holds List(Float64); expected text" in message
    for option in (["--data.separator", ";"], ["--data.decimal_comma", "true"]):
        assert "have no part in a Parquet file" in fails(capsys, "fit", "--data.path", "t.parquet", *option)
