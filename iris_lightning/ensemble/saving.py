"""The files of a cross-validation."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.ensemble.results import CrossValidation
from iris_lightning.ensemble.stack import CURVES, mean_and_quartiles
from iris_lightning.files import atomic_write
from iris_lightning.plots import draw_summary, own_style
from iris_lightning.runs.folders import NETWORKS, SUMMARY, claim_run, remove_run, training_alone
from iris_lightning.tables.predictions import prediction_columns
from iris_lightning.weights.averaging import PREFIX
from iris_lightning.weights.export import export
from iris_lightning.weights.reading import Weights


@contextlib.contextmanager
def open_run(root: Path, name: str | None) -> Iterator[Path]:
    """Creates the folder of a new run, and removes it if the block ends without a summary."""
    run = claim_run(root, name)
    try:
        with training_alone(run):
            yield run
    finally:
        if not (run / SUMMARY).exists():
            remove_run(run)


def write_results(run: Path, result: CrossValidation) -> None:
    """Writes `predictions.csv`, then `summary.json`.

    Args:
        run: Folder of the run.
        result: The cross-validation.
    """
    table = result.table
    classes = np.array(table.class_names, dtype=object)
    rows = torch.arange(len(table.targets))
    if table.kept is not None:
        rows = table.kept.nonzero()[:, 0]
    labels = pl.DataFrame({"row": rows + 1, "class": classes[table.targets]})
    predictions = prediction_columns(classes, result.probabilities.mean(axis=0))
    with atomic_write(run / "predictions.csv") as new:
        labels.hstack(predictions).write_csv(new)
    text = json.dumps(result.summary(), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(run / SUMMARY) as new:
        new.write_text(f"{text}\n", encoding="utf-8")


def write_networks(
    run: Path, result: CrossValidation, model: IrisClassifier, data: IrisDataModule
) -> None:
    """Writes the networks of all folds as one ensemble, for `predict --run`.

    Args:
        run: Folder of the run.
        result: The cross-validation.
        model: Template of the folds' classifiers.
        data: The data module.
    """
    state = {}
    for name in result.networks[0]:
        tensors = [stack[name] for stack in result.networks]
        state[f"{PREFIX}{name}"] = torch.cat(tensors).cpu()
    network: Any = model.network
    na_values = data.hparams["na_values"]
    weights = Weights(state, network.options, data.feature_names, data.class_names, na_values)
    export(weights, run / NETWORKS)


def write_curves(run: Path, result: CrossValidation, plots: bool) -> None:
    """Writes curves and plots for TensorBoard.

    The curves are the mean and the quartiles over the folds; TensorBoard's Custom Scalars tab shows
    the quartiles as a band around the mean.

    Args:
        run: Folder of the run.
        result: The cross-validation.
        plots: Whether to draw plots.
    """
    from torch.utils.tensorboard import SummaryWriter

    charts = {}
    for name in CURVES:
        quartile = f"quartiles/{name.replace('/', '_')}"  # a group of their own, below the metrics
        charts[name] = ["Margin", [name, f"{quartile}_lower", f"{quartile}_upper"]]
    with SummaryWriter(str(run)) as writer:
        writer.add_custom_scalars({"mean and quartiles of the folds": charts})
        for epoch, stacks in result.curves.items():
            points = mean_and_quartiles(torch.cat(stacks, dim=1))
            for (_, tags), values in zip(charts.values(), points, strict=True):
                for tag, value in zip(tags, values, strict=True):
                    writer.add_scalar(tag, value, epoch)
        if plots:
            with own_style():
                for name, figure in draw_summary(result.summary()):
                    writer.add_figure(f"plots/{name}", figure)
