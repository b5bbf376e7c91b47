"""What TensorBoard shows of a run beside its curves: the result, what made it, and pictures of the best epoch."""

import copy
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from iris_lightning.files import atomic_write
from iris_lightning.plots import can_draw, draw_classifier, own_style
from iris_lightning.runs.saving import BestCheckpoint
from iris_lightning.runs.signals import Stopped
from iris_lightning.runs.tabs import RESULTS, graph_of, hparams_columns, layout, picture
from iris_lightning.weights.reading import read_torch

__all__ = ["TensorBoardReport", "add_evaluation"]

TESTED = ".test"  # how the files end with the test metrics of a best epoch
METRICS = ("loss/val", "accuracy/val")
COLUMNS = ("batch_size", "hidden", "lr")  # of HParams: with one for all other settings, the best loss is in view
LESSON: dict[str, str | float] = {
    **dict.fromkeys(("activation", "class_weight", "lr_scheduler"), "null"),
    **dict.fromkeys(("standardize", "stratify"), False),
    "optimizer": "Adam",
    "weight_decay": 0.0,
    "table": "Iris",
    "seed": 20,
    "split_seed": 20,
    "noise": 0.0,
}
MOST_ROWS = 65536  # that a network is given at once


class TensorBoardReport(Callback):
    """Adds to the TensorBoard of a run what makes it understood, for `IrisClassifier` and `IrisDataModule`.

    From the start: train and validation on one chart (Custom Scalars), the network (Graphs), the hyperparameters
    (HParams), and `lr` against the epoch if there is a scheduler. At the end: the epoch with the lowest `loss/val`
    beside the hyperparameters, a table of both (Text), and pictures of that epoch's network on the validation split:
    confusion matrix, reliability diagram and, for 2 to 6 features, decision regions over each pair. Without a
    `TensorBoardLogger`, or with a module of another kind, it does nothing.

    Args:
        figures: Whether there are pictures; they need matplotlib.
    """

    def __init__(self, figures: bool = True) -> None:
        self.figures = figures
        self.best: dict[str, float] = {}  # metrics and number of the best epoch, where no `BestCheckpoint` has them
        self.weights: dict[str, Tensor] = {}  # of its network
        self.first = 0  # epoch of this session

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Begins anew, and keeps Lightning from writing columns of its own to HParams, before these."""
        if stage == "fit" and trainer.current_epoch == 0:  # what a resumed run has is restored later
            self.best, self.weights = {}, {}
        for logger in _loggers(trainer):
            logger._default_hp_metric = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes what is known by now."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self.first = trainer.current_epoch
        for logger in _loggers(trainer):
            values, writer = _columns(_hyperparameters(trainer, pl_module)), logger.experiment._get_file_writer()
            for summary in (hparams_columns(values), hparams_pb(values, trial_id=""), layout()):
                writer.add_summary(summary)
            if not trainer.ckpt_path:  # TensorBoard warns where a resumed run has a second graph
                writer.add_event(Event(graph_def=graph_of(pl_module.network).SerializeToString()))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the learning rate with which the epoch starts, if a scheduler may change it."""
        if trainer.lr_scheduler_configs and any(isinstance(item, TensorBoardLogger) for item in trainer.loggers):
            pl_module.log("lr", trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the best epoch in mind where no `BestCheckpoint` keeps it in a file."""
        fits = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not fits or _best_checkpoint(trainer) or not list(_loggers(trainer)):
            return
        metrics = {name: float(trainer.callback_metrics[name]) for name in METRICS if name in trainer.callback_metrics}
        if metrics.get("loss/val", math.inf) < self.best.get("loss/val", math.inf):
            self.best = {**metrics, "epoch": trainer.current_epoch}
            state = cast("Any", pl_module).network.state_dict()
            self.weights = {name: tensor.clone() for name, tensor in state.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns the best epoch, for checkpoints."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best epoch of a resumed run."""
        self.best = state_dict["best"]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the result, and draws."""
        self._write_result(trainer, pl_module, self.figures and can_draw())

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Writes the result of a run that its user ends."""
        if isinstance(exception, KeyboardInterrupt | Stopped):
            self._write_result(trainer, pl_module, draw=False)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds the test metrics to the row of HParams, if they are of the network of the best epoch."""
        state = cast("Any", pl_module).network.state_dict() if self.weights else {}
        best = all(torch.equal(tensor, state[name].to(tensor.device)) for name, tensor in self.weights.items())
        for logger in _loggers(trainer) if state and best else ():
            _write_test(logger.experiment, trainer.callback_metrics, trainer.current_epoch)

    def _write_result(self, trainer: L.Trainer, pl_module: L.LightningModule, draw: bool) -> None:
        progress: Any = trainer.fit_loop.epoch_progress.current
        if not progress.processed or not list(_loggers(trainer)):
            return
        last = progress.processed - 1
        best, network, shown = self._best(trainer, pl_module, last)
        results = {f"result/{name.replace('/', '_')}": best[name] for name in METRICS if name in best}
        results |= {"result/epoch": best["epoch"], "result/epochs": progress.processed}
        table = {**{RESULTS[tag]: value for tag, value in results.items()}, **_hyperparameters(trainer, pl_module)}
        cells = [(name, _text(value).replace("|", r"\|")) for name, value in table.items()]  # of a table in Markdown
        rows = ["| | |", "|:-|:-|", *(f"| {name} | {text} |" for name, text in cells)]
        for logger in _loggers(trainer):
            of_another_epoch = best["epoch"] >= self.first > 0 and [*Path(str(logger.log_dir)).glob(f"*{TESTED}")]
            tested = dict.fromkeys(("result/loss_test", "result/accuracy_test"), math.nan) if of_another_epoch else {}
            for tag, value in {**results, **tested}.items():
                logger.experiment.add_scalar(tag, value, last)
            logger.experiment.add_text("run", "\n".join(rows), last)
        data: Any = getattr(trainer, "datamodule", None)
        finite = all(tensor.isfinite().all() for tensor in network.state_dict().values())
        if draw and finite and hasattr(data, "tensors"):  # an `IrisDataModule`
            predict = partial(_probabilities, trainer.precision_plugin, network.eval())
            of = data.tensors("train"), data.tensors("val"), data.feature_names, data.class_names
            try:
                with own_style():
                    for name, figure in draw_classifier(predict, *of, f"epoch {shown}"):
                        for logger in _loggers(trainer):
                            writer = logger.experiment._get_file_writer()
                            writer.add_summary(picture(f"pictures/{name}", figure), last)
            except Exception as error:  # whatever it is, the run is whole
                rank_zero_warn(f"no pictures: {type(error).__name__}: {error}")

    def _best(self, trainer: L.Trainer, pl_module: Any, last: int) -> tuple[dict[str, Any], nn.Module, int]:
        """Returns metrics and epoch of the lowest `loss/val`, and the network to be shown, with its epoch.

        Without any validation, and where a resumed run has the weights of its best epoch no more, these are the last.
        """
        network: nn.Module = copy.deepcopy(pl_module.network)
        checkpoint = _best_checkpoint(trainer)
        if checkpoint and os.path.isfile(checkpoint.best_model_path):
            found = read_torch(Path(checkpoint.best_model_path), "a checkpoint")
            network.load_state_dict({key.removeprefix("network."): value for key, value in found["state_dict"].items()})
            return {**found["metrics"], "epoch": found["epoch"]}, network, found["epoch"]
        if self.weights:
            network.load_state_dict(self.weights)
        best = self.best or {"epoch": last}
        return best, network, int(best["epoch"]) if self.weights else last


def _best_checkpoint(trainer: L.Trainer) -> BestCheckpoint | None:
    """Returns the callback that saves the best epoch, if there is one."""
    return next((item for item in trainer.checkpoint_callbacks if isinstance(item, BestCheckpoint)), None)


def _loggers(trainer: L.Trainer) -> Iterator[TensorBoardLogger]:
    """Yields the loggers to which the first process of all writes, of the training of an `IrisClassifier`."""
    ours = trainer.is_global_zero and hasattr(getattr(trainer.lightning_module, "network", None), "standardize")
    return (item for item in trainer.loggers if isinstance(item, TensorBoardLogger) and ours)


def _hyperparameters(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, str | float]:
    """Returns the hyperparameters that matter."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    group: dict[str, Any] = groups[0] if groups else {}
    lr, weight_decay = group.get("initial_lr", group.get("lr")), group.get("weight_decay", 0.0)
    kinds = [type(optimizer).__name__ for optimizer in trainer.optimizers]
    schedulers = [type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs]
    values = {name: pl_module.hparams.get(name) for name in ("hidden", "activation", "standardize", "class_weight")}
    values |= {"optimizer": ", ".join(kinds) or None, "lr_scheduler": ", ".join(schedulers) or None}
    values |= {"lr": None if lr is None else float(lr), "weight_decay": float(weight_decay)}
    data: Any = getattr(trainer, "datamodule", None)
    if hasattr(data, "tensors"):
        values |= {"table": data.table.source, "batch_size": data.batch_size, "seed": data.seed}
        values |= {name: data.hparams[name] for name in ("split_seed", "stratify", "noise")}
    return {key: value if isinstance(value, str | float | int) else json.dumps(value) for key, value in values.items()}


def _columns(hyperparameters: dict[str, str | float]) -> dict[str, str | float]:
    """Returns what HParams has columns for, the same ones for each run: TensorBoard has those of one."""
    own = {name: hyperparameters.get(name, "null") for name in COLUMNS}
    unlike = {name: value for name, value in hyperparameters.items() if value != LESSON.get(name, own.get(name))}
    others = [name if value is True else f"{name} {_text(value)}" for name, value in unlike.items()]
    return {**own, "settings": ", ".join(others) or "as in the lesson"}


def _text(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _probabilities(precision: Precision, network: nn.Module, features: Tensor) -> Tensor:
    """Returns those of the classes, float32, shape `(rows, classes)`, in the precision of the training."""
    device = next(network.parameters()).device
    with torch.inference_mode(), precision.forward_context():
        parts = [network(precision.convert_input(rows.to(device))) for rows in features.split(MOST_ROWS)]
    return torch.cat(parts).float().softmax(dim=1).cpu()


def add_evaluation(run: Path, metrics: Mapping[str, float], epoch: int, best: bool) -> None:
    """Adds metrics of a checkpoint to the curves of its run, if there are any.

    Args:
        run: Folder of the run.
        metrics: Metrics that its curves do not have at this epoch.
        epoch: The epoch of the checkpoint.
        best: Whether it is the best one, whose test metrics are in HParams as well.
    """
    from torch.utils.tensorboard import SummaryWriter  # here: a third of a second, that validate seldom needs

    if any(run.glob("events.out.tfevents.*")):
        with tempfile.TemporaryDirectory() as folder:  # a folder that cannot be written to would raise in its thread
            suffix = TESTED if best and "loss/test" in metrics else ".evaluated"
            with SummaryWriter(folder, filename_suffix=suffix) as writer:
                for name, value in metrics.items():
                    writer.add_scalar(name, value, epoch)
                if best:
                    _write_test(writer, metrics, epoch)
            (written,) = Path(folder).iterdir()
            with atomic_write(run / written.name) as new:
                shutil.copyfile(written, new)


def _write_test(writer: Any, metrics: Mapping[str, Any], epoch: int) -> None:
    for name in ("loss", "accuracy"):
        if f"{name}/test" in metrics:
            writer.add_scalar(f"result/{name}_test", metrics[f"{name}/test"], epoch)
