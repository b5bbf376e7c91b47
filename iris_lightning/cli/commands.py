"""The command line's own `predict` and `export`, which train nothing: their parameters are their options."""

import sys
from pathlib import Path
from typing import Literal

from iris_lightning.cli.source import find_source
from iris_lightning.errors import UserError
from iris_lightning.files import same_file
from iris_lightning.predictor import IrisPredictor
from iris_lightning.weights.export import export as write

__all__ = ["export", "predict"]


def predict(
    table: str,
    output: str = "-",
    ckpt_path: str | None = None,
    weights: str | None = None,
    target: str | None = None,
    decimal_comma: bool | None = None,
    separator: Literal[",", ";", "tab", "|"] | None = None,
    na_values: list[str | int | float | bool | None] | None = None,
) -> None:
    """Predicts the class of every row of a table, with the probability of each class.

    Args:
        table: CSV or Parquet file with a column for each feature; - is standard input.
        output: Table to write, CSV or Parquet: all columns, prediction, probability_<class>; - is standard output.
        ckpt_path: Checkpoint to use: best or last of the newest run, or a file. By default best.
        weights: Weights to use in place of a checkpoint: .pth or .safetensors.
        target: Column of the true class, for the accuracy; by default that of the training.
        decimal_comma: Whether numbers in CSV files are written as 5,1; by default as in training.
        separator: What is between the columns of a CSV file; by default found in the file.
        na_values: Texts that mean no value, as in '[-999, none]'; by default those of training.
    """
    source = find_source(ckpt_path, weights)
    predictor = IrisPredictor.from_weights(source.weights, source.path)
    # Here: a mistake in the options is told without polars.
    from iris_lightning.tables.formats import Dialect
    from iris_lightning.tables.predictions import predict_table

    trained = source.checkpoint["datamodule_hyper_parameters"] if source.checkpoint else {}
    usual = trained.get("target") or "species"
    comma = trained.get("decimal_comma", False) if decimal_comma is None else decimal_comma
    dialect = Dialect(comma, separator, source.weights.na_values if na_values is None else na_values)
    try:
        rows, labelled, correct, unknown = predict_table(predictor, table, output, target, usual, dialect)
    except UserError as error:  # the table may be that of another run
        raise UserError(f"{error.message}\n{source}", error.parameter, error.remedy) from error
    result = f"{'standard output' if output == '-' else output}: {rows} row{'' if rows == 1 else 's'}"
    if labelled:
        result += f", accuracy {correct / labelled:.4f} ({correct} of {labelled} {target or usual!r})"
        result += f"; {unknown} rows are of a class that the model does not know" if unknown else ""
        result += "; most of them are its train rows: see test" if same_file(table, trained.get("path")) else ""
    else:
        result += f" (no accuracy: no class in a column {target or usual!r}; name the column by --target)"
    # Where predictions go to standard output, nothing else does.
    print(f"{source}\n{result}", file=sys.stderr if output == "-" else sys.stdout)


def export(output: str, ckpt_path: str | None = None, weights: str | None = None) -> None:
    """Writes a trained network as a file for others, and checks it.

    Args:
        output: File to write: .pth for plain torch, .safetensors, or .onnx, which gives probabilities.
        ckpt_path: Checkpoint to use: best or last of the newest run, or a file. By default best.
        weights: Weights to use in place of a checkpoint: .pth or .safetensors.
    """
    source = find_source(ckpt_path, weights)
    predictor = IrisPredictor.from_weights(source.weights, source.path)
    names = [str(name) for name in predictor.feature_names_in_], [str(name) for name in predictor.classes_]
    named = source.weights._replace(feature_names=names[0], class_names=names[1])
    result = write(predictor.network, named, Path(output), source.path)
    print(f"{source}\n{output}: {result}")
