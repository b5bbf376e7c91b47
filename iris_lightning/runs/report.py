"""Everything in TensorBoard besides the curves: charts, hyperparameters, plots."""

import copy
import inspect
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.plots import Trained, draw_all, own_style
from iris_lightning.runs.checkpoints import run_folder
from iris_lightning.runs.folders import training_alone
from iris_lightning.table import CsvFormat
from iris_lightning.weights.averaging import EnsembleNetwork
from iris_lightning.weights.reading import read_torch

# HParams shows five columns of options by default: these, and one for all other settings.
HPARAMS_COLUMNS = ("table", "batch_size", "lr", "seed")
# Not in the settings: the column `table` covers them.
TABLE_OPTIONS = {
    "impute",
    "path",
    "target",
    "features",
    "feature_names",
    "class_names",
    "one_hot_features",
}
PREDICTION_BATCH_SIZE = 65536


class TensorBoardReport(Callback):
    """Adds charts, hyperparameters, results and plots to a run's TensorBoard logger.

    During training, Custom Scalars has a chart for each metric, with its train and its validation
    curve.
    At the end, the callback adds the options, the metrics of the best epoch (HParams), its plots
    (Images) and the network (Graphs). The best epoch is that of the final `ModelCheckpoint`
    callback with `monitor="loss/val"`; if there is none, the last epoch. If the Trainer has no
    `TensorBoardLogger`, nothing is added. Train with an `IrisDataModule`.

    Args:
        figures: Whether to add plots and the network.

    Example:
        >>> from lightning.pytorch.loggers import TensorBoardLogger
        >>> logger = TensorBoardLogger(".", default_hp_metric=False)  # True hides other metrics
        >>> trainer = L.Trainer(logger=logger, callbacks=[TensorBoardReport()])
    """

    def __init__(self, figures: bool = True) -> None:
        self.figures = figures
        self.has_layout = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lays out the charts, once the names of the metrics are known."""
        if self.has_layout:
            return
        charts = {}
        for tag in trainer.callback_metrics:
            name, _, split = tag.rpartition("/")
            if split == "val":
                charts[name] = ["Multiline", [f"{name}/train", tag]]
            if f"{tag}_lower" in trainer.callback_metrics:
                charts[tag] = ["Margin", [tag, f"{tag}_lower", f"{tag}_upper"]]
        if charts:
            self.has_layout = True
            with suppress(OSError):  # the logger's next call will raise it
                for logger in _loggers(trainer):
                    logger.experiment.add_custom_scalars({"train and validation": charts})

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds results and plots."""
        loggers = _loggers(trainer)
        last_epoch = trainer.current_epoch - 1
        if not loggers or last_epoch < 0:
            return
        try:
            best = best_checkpoint(trainer) or {
                "state_dict": pl_module.state_dict(),
                "epoch": last_epoch,
                "metrics": trainer.callback_metrics,
            }
            epoch = best["epoch"]
            data = cast("Any", trainer).datamodule
            options = _options(trainer, pl_module, data)
            row = {name: options.pop(name) for name in HPARAMS_COLUMNS}
            row["settings"] = _settings(options)
            for logger in loggers:
                logger.log_hyperparams(row, _results(best["metrics"], epoch), last_epoch)
                if self.figures:
                    with _weights(pl_module, best["state_dict"]):
                        _draw(logger, pl_module, data, epoch)
                logger.experiment.flush()
        except Exception as error:  # the training itself is complete
            rank_zero_warn(f"the TensorBoard report is incomplete: {error!r}")


def _loggers(trainer: L.Trainer) -> list[TensorBoardLogger]:
    """Returns the TensorBoard loggers of the main process; those of other processes are dummies."""
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def best_checkpoint(trainer: L.Trainer) -> dict[str, Any] | None:
    """Returns the checkpoint with the lowest `loss/val`, or `None` if none was saved."""
    for callback in reversed(trainer.checkpoint_callbacks):  # `fit` adds its own last
        if isinstance(callback, ModelCheckpoint) and callback.monitor == "loss/val":
            path = Path(callback.best_model_path)
            if path.is_file():
                checkpoint: dict[str, Any] = read_torch(path)
                checkpoint.setdefault("metrics", {"loss/val": callback.best_model_score})
                return checkpoint
    return None


def _options(trainer: L.Trainer, module: L.LightningModule, data: IrisDataModule) -> dict[str, Any]:
    """Returns the options of the classifier, the data module and the optimizer."""
    options: dict[str, Any] = {**module.hparams, **data.hparams}
    options |= {"table": data.table.source, "batch_size": data.batch_size, "seed": data.seed}
    for optimizer in trainer.optimizers:
        options["optimizer"] = type(optimizer).__name__
        group = optimizer.param_groups[0]
        options["lr"] = group.get("initial_lr", group.get("lr"))
    for config in trainer.lr_scheduler_configs:
        options["lr_scheduler"] = type(config.scheduler).__name__
    return options


def _settings(options: Mapping[str, Any]) -> str:
    """Describes the options that differ from their defaults.

    They are compared as JSON, in which a tuple equals a list.
    """
    usual = {}
    for kind in (IrisClassifier, IrisDataModule, CsvFormat):
        for name, parameter in inspect.signature(kind).parameters.items():
            usual[name] = json.dumps(parameter.default, default=str)
    settings = []
    for name, value in options.items():
        text = json.dumps(value, default=str, ensure_ascii=False)
        if name not in TABLE_OPTIONS and text != usual.get(name):
            settings.append(f"{name} " + text.strip('"'))
    return ", ".join(settings)


def _results(metrics: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """Returns the metrics for HParams; `add_test_metrics` fills in those of the test split."""
    results: dict[str, float] = {"result/epoch": epoch}
    for tag, value in metrics.items():
        if tag.endswith("/val"):
            results[f"result/{tag}"] = float(value)
            results[f"result/{tag.removesuffix('val')}test"] = math.nan
    return results


@contextmanager
def _weights(module: L.LightningModule, state: Mapping[str, Any]) -> Iterator[None]:
    """Gives a module other weights, in eval mode, during the block."""
    own = copy.deepcopy(module.state_dict())
    is_training = module.training
    try:
        module.load_state_dict(state)
        module.eval()
        yield
    finally:
        module.load_state_dict(own)
        module.train(is_training)


def _draw(
    logger: TensorBoardLogger, module: L.LightningModule, data: IrisDataModule, epoch: int
) -> None:
    parameter = next(module.parameters())  # has the device and the precision
    network: Any = module.network

    def predict(features: Tensor) -> Tensor:
        batches = features.split(PREDICTION_BATCH_SIZE)
        with torch.inference_mode():
            logits = torch.cat([module(batch.to(parameter)) for batch in batches])
        probabilities = logits.float().softmax(dim=1)
        return probabilities.cpu()

    with own_style():
        for name, figure in draw_all(Trained(predict, data, f"epoch {epoch}", network)):
            logger.experiment.add_figure(f"plots/{name}", figure, epoch)
    if isinstance(network, EnsembleNetwork):  # it cannot be traced
        return
    features, _ = data.tensors("val")
    with suppress(RuntimeError):  # not every network can be traced; torch prints the reason
        logger.experiment.add_graph(network, features[:1].to(parameter))


@rank_zero_only
def add_test_metrics(path: Path, epoch: int, metrics: Mapping[str, float]) -> None:
    """Adds the test metrics of a run's best checkpoint to the row of the run in HParams."""
    from torch.utils.tensorboard import SummaryWriter  # takes a third of a second to import

    run = run_folder(path, "best")
    if run is None:
        return
    with (
        # The run must not be training: once a newer event file exists, TensorBoard no longer reads
        # the one that training writes to.
        training_alone(run),
        SummaryWriter(str(run), filename_suffix=".evaluated") as writer,
    ):
        for name, value in metrics.items():
            writer.add_scalar(f"result/{name}", value, epoch)
