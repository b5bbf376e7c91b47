"""What TensorBoard shows of a run besides its curves."""

import copy
import inspect
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from iris_lightning.data import IrisDataModule
from iris_lightning.plots import Trained, can_draw, draw_all, own_style
from iris_lightning.runs.signals import Stopped

COLUMNS = ("table", "batch_size", "lr", "seed")  # TensorBoard shows five; all others share one
MOST_ROWS = 65536  # that are predicted at once
OF_TABLE = ("path", "target", "features", "feature_names", "class_names")


class TensorBoardReport(Callback):
    """Adds charts, hyperparameters, results and pictures to the TensorBoard of a run.

    During training: train and validation on one chart for each metric (Custom Scalars), and the
    learning rate where a scheduler changes it. At the end, of the best epoch: options and metrics
    (HParams, Text), pictures (Images) and the network (Graphs). The best epoch is that of the first
    `ModelCheckpoint` that monitors `loss/val`; without one, the report is of the last epoch.
    Without a `TensorBoardLogger`, only the learning rate is logged.

    Args:
        figures: Whether to add pictures and the network, of an `IrisDataModule`; they need
            matplotlib.

    Example:
        >>> from lightning.pytorch.loggers import TensorBoardLogger
        >>> logger = TensorBoardLogger(".", default_hp_metric=False)  # it would hide the others
        >>> trainer = L.Trainer(logger=logger, callbacks=[TensorBoardReport()])
    """

    def __init__(self, figures: bool = True) -> None:
        self.figures = figures

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the learning rate if a scheduler may change it."""
        if trainer.lr_scheduler_configs and trainer.loggers:
            pl_module.log("lr", trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lays out the charts as soon as the metrics are known."""
        if trainer.current_epoch > 1:  # 1: TensorBoard drops epoch 0 of a run that is resumed there
            return
        charts = {}
        for tag in trainer.callback_metrics:
            name, _, split = tag.rpartition("/")
            if split == "val":
                charts[name] = ["Multiline", [f"{name}/train", tag]]
        with suppress(OSError):  # the next use of the logger raises it again
            for logger in _loggers(trainer):
                logger.experiment.add_custom_scalars({"train and validation": charts})

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the result, and draws."""
        self._write(trainer, pl_module, self.figures and can_draw())

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Writes the result of a run that its user stops."""
        if isinstance(exception, KeyboardInterrupt | Stopped):
            self._write(trainer, pl_module, draw=False)

    def _write(self, trainer: L.Trainer, module: L.LightningModule, draw: bool) -> None:
        loggers = _loggers(trainer)
        last = trainer.current_epoch - 1
        if not loggers or last < 0:
            return
        try:
            best = _best_checkpoint(trainer, module)
            epoch = best["epoch"]
            metrics = {name: round(float(value), 6) for name, value in best["metrics"].items()}
            options = _options(trainer, module)
            data = getattr(trainer, "datamodule", None)
            row = {name: options.get(name) for name in COLUMNS}
            row["settings"] = _settings(options, module, data)
            for logger in loggers:
                logger.log_hyperparams(row, _results(metrics, epoch), last)
                text = _table({"epoch": epoch, **metrics, **options})
                logger.experiment.add_text("run", text, epoch)
                if draw and isinstance(data, IrisDataModule):
                    module = copy.deepcopy(module).eval()
                    module.load_state_dict(best["state_dict"])
                    _draw(logger, module, data, epoch)
                logger.experiment.flush()
        except Exception as error:  # the run itself is complete
            rank_zero_warn(f"TensorBoard's report is incomplete: {error!r}")


def _loggers(trainer: L.Trainer) -> list[TensorBoardLogger]:
    """Returns the loggers that write to TensorBoard, which those of further processes do not."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return [logger for logger in loggers if not isinstance(logger.experiment, _DummyExperiment)]


def _best_checkpoint(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    """Returns the checkpoint with the lowest `loss/val`, or the present state in its place."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor == "loss/val":
            path = Path(callback.best_model_path)
            if path.is_file():
                checkpoint: dict[str, Any] = torch.load(path, "cpu", weights_only=True)
                checkpoint.setdefault("metrics", {"loss/val": callback.best_model_score})
                return checkpoint
    return {
        "state_dict": module.state_dict(),
        "epoch": trainer.current_epoch - 1,
        "metrics": trainer.callback_metrics,
    }


def _options(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    """Returns the options of classifier, data and optimizer."""
    options = dict(module.hparams)
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, IrisDataModule):
        options |= data.hparams
        options |= {"table": data.table.source, "batch_size": data.batch_size, "seed": data.seed}
    for optimizer in trainer.optimizers:
        options["optimizer"] = type(optimizer).__name__
        for group in optimizer.param_groups[:1]:
            options["lr"] = group.get("initial_lr", group.get("lr"))
    for config in trainer.lr_scheduler_configs:
        options["lr_scheduler"] = type(config.scheduler).__name__
    return options


def _settings(options: Mapping[str, Any], *components: Any) -> str:
    """Returns options without a column that are not at the defaults of the components' classes."""
    defaults = {}
    for component in components:
        for name, parameter in inspect.signature(type(component)).parameters.items():
            defaults[name] = parameter.default
    settings = []
    for name, value in options.items():
        if name not in COLUMNS + OF_TABLE and _text(value) != _text(defaults.get(name)):
            settings.append(f"{name} {_text(value)}")
    return ", ".join(settings)


def _results(metrics: Mapping[str, float], epoch: int) -> dict[str, float]:
    """Returns the columns of HParams for results; those of tests wait for `add_evaluation`."""
    validated = {}
    tested = {}
    for tag, value in metrics.items():
        if tag.endswith("/val"):
            validated[f"result/{tag}"] = value
            tested[f"result/{tag.removesuffix('val')}test"] = math.nan
    return {"result/epoch": epoch, **validated, **tested}


def _table(values: Mapping[str, Any]) -> str:
    """Returns a table in Markdown."""
    lines = ["| | |", "| --- | --- |"]
    for name, value in values.items():
        text = _text(value).replace("|", r"\|")
        lines.append(f"| {name} | {text} |")
    return "\n".join(lines)


def _text(value: object) -> str:
    """Returns a value as it is typed in a config."""
    return json.dumps(value, default=str, ensure_ascii=False).strip('"')[:200]


def _draw(
    logger: TensorBoardLogger, module: L.LightningModule, data: IrisDataModule, epoch: int
) -> None:
    parameter = next(module.parameters())

    def predict(features: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = [module(rows.to(parameter)) for rows in features.split(MOST_ROWS)]
        return torch.cat(logits).float().softmax(dim=1).cpu()

    with own_style():
        for name, figure in draw_all(Trained(predict, data, f"epoch {epoch}")):
            logger.experiment.add_figure(f"pictures/{name}", figure, epoch)
    features, _ = data.tensors("val")
    with suppress(RuntimeError):  # it prints why it cannot trace a network
        logger.experiment.add_graph(module.network, features[:1].to(parameter))


def add_evaluation(run: Path, metrics: Mapping[str, float], epoch: int, best: bool) -> None:
    """Adds metrics of a checkpoint to the curves of its run, if there are any.

    Args:
        run: Folder of the run.
        metrics: Metrics that its curves do not have at this epoch.
        epoch: Epoch of the checkpoint.
        best: Whether it is the best one, which HParams is about.
    """
    from torch.utils.tensorboard import SummaryWriter  # here: it takes a third of a second

    if not any(run.glob("events.out.tfevents.*")):
        return
    with SummaryWriter(str(run), filename_suffix=".evaluated") as writer:
        for name, value in metrics.items():
            writer.add_scalar(name, value, epoch)
            if best:
                writer.add_scalar(f"result/{name}", value, epoch)
