"""The command `predict`."""

import sys

from iris_lightning.cli.source import find_source

__all__ = ["predict"]


def predict(
    table: str,
    output: str = "-",
    ckpt_path: str | None = None,
    weights: str | None = None,
    target: str | None = None,
    decimal_comma: bool | None = None,
) -> None:
    """Predicts the class of every row of a table, with the probability of each class.

    Args:
        table: CSV (also .csv.gz, .csv.zst) or Parquet file with a column for each feature; - is standard input.
        output: Table to write, CSV or Parquet: all columns, prediction, probability_<class>; - is standard output.
        ckpt_path: Checkpoint to use: best or last of the newest run, or a file. By default best.
        weights: Weights to use in place of a checkpoint: .pth or .safetensors.
        target: Column of the true class, for the accuracy; by default that of the training.
        decimal_comma: Whether CSV files separate columns with ; and write numbers as 5,1; by default as in training.
    """
    source = find_source(ckpt_path, weights)
    from iris_lightning.tables.predictions import predict_table  # here: a mistake in the options is told without polars

    trained = source.checkpoint["datamodule_hyper_parameters"] if source.checkpoint else {}
    target = target or trained.get("target") or "species"
    comma = trained.get("decimal_comma", False) if decimal_comma is None else decimal_comma
    done = predict_table(source.predictor(), table, output, target, comma)
    result = f"{'standard output' if output == '-' else output}: {done.rows} rows"
    if done.labelled is None:
        result += f" (no accuracy: there is no column {target!r})"
    elif done.labelled:
        result += f", accuracy {done.correct / done.labelled:.4f} ({done.correct} of {done.labelled} {target!r})"
    if done.unknown is not None:
        result += f"; classes that it does not know, such as {done.unknown!r}, count as wrong"
    # Where predictions go to standard output, nothing else does.
    print(f"{source}\n{result}", file=sys.stderr if output == "-" else sys.stdout)
