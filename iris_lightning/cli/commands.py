"""The commands `predict` and `export`; their parameters are their options."""

import sys
import textwrap
from pathlib import Path
from typing import Any

from iris_lightning.errors import UserError
from iris_lightning.predictor import IrisPredictor
from iris_lightning.runs.checkpoints import find_source
from iris_lightning.table import CsvFormat
from iris_lightning.weights.export import export as write


def predict(
    table: str,
    output: str = "-",
    ckpt_path: str | None = None,
    weights: str | None = None,
    run: str | None = None,
    **csv: Any,
) -> None:
    """Predicts the class of every row of a table, with the probability of each class.

    Args:
        table: CSV or Parquet file with a column for each feature; - for CSV from standard input. By
            default, a CSV file is read like that of the training.
        output: CSV or Parquet file to write, with all columns of the table, prediction and
            probability_<class>; - for standard output.
        ckpt_path: Checkpoint: best or last of the newest fit, a file, or the folder of a run. By
            default best.
        weights: Weights to use instead of a checkpoint: a .pth or .safetensors file.
        run: Folder of a run, to use its best checkpoint or all networks of its cross-validation.
        **csv: Format of a CSV file: options of `CsvFormat`.
    """
    source = find_source(ckpt_path, weights, run)
    predictor = IrisPredictor.from_weights(source.weights, source.path)
    # Imported here, so that a mistake in the options is reported before polars is imported.
    from iris_lightning.tables.predictions import predict_table

    trained = {"na_values": source.weights.na_values, **source.data}
    options = vars(CsvFormat(**csv))
    for name, default in vars(CsvFormat()).items():
        if options[name] == default:  # then as in the training
            options[name] = trained.get(name, default)
    try:
        counts, notes = predict_table(predictor, table, output, CsvFormat(**options))
    except UserError as error:
        error.add_note(str(source))  # perhaps the wrong one for this table
        raise
    found = [f"{number} {kind}" for kind, number in counts.most_common()]
    result = textwrap.shorten("; ".join(found), 500) or "0 rows"
    stream = sys.stdout
    if output == "-":  # then standard output holds the table only
        output = "standard output"
        stream = sys.stderr
    print(source, *notes, f"{output}: {result}", sep="\n", file=stream)


def export(output: str, ckpt_path: str | None = None, weights: str | None = None) -> None:
    """Writes a trained network to a file for other programs.

    Args:
        output: File to write: .pth for plain torch, .safetensors, or .onnx, which computes
            probabilities.
        ckpt_path: Checkpoint: best or last of the newest fit, a file, or the folder of a run. By
            default best.
        weights: Weights to use instead of a checkpoint: a .pth or .safetensors file.
    """
    source = find_source(ckpt_path, weights)
    source.weights.check_finite(source.path)
    write(source.weights, Path(output), source.path)
    print(f"{source}\n{output}: {len(source.weights.state)} tensors")
