"""What a run writes into its folder beside the curves, each file whole or not at all."""

import os
import platform
import shutil
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyExperiment  # type: ignore[attr-defined]  # of lightning.fabric
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning.files import atomic_write, remove_leftovers
from iris_lightning.hyperparameters import to_yaml
from iris_lightning.runs.checkpoint_io import write_held
from iris_lightning.runs.folders import RUNS, claim_run

__all__ = [
    "BestCheckpoint",
    "LastCheckpoint",
    "RunFolder",
    "RunLogger",
    "describe_run",
    "environment_of",
]

# At the end of the train epoch, when its train metrics are known as well.
EACH_EPOCH: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
WITHOUT_EFFECT = ("trainer", "figures", "threads")  # on what a resumed run keeps
PACKAGES = ("iris_lightning", "lightning", "torchmetrics", "scikit-learn", "polars", "numpy")


def _is_whole(trainer: L.Trainer) -> bool:
    """Whether the epoch in progress has trained its last batch."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


class _Checkpoint(ModelCheckpoint):
    """Lightning's, which would make its key anew for each of its hooks that Lightning calls, ten times a batch."""

    @cached_property
    def state_key(self) -> str:
        return super().state_key


class BestCheckpoint(_Checkpoint):
    """Keeps `checkpoints/best.ckpt`, the epoch with the lowest `loss/val`, or the step, if epochs are validated within.

    Args:
        within_epochs: Whether they are (the Trainer's `val_check_interval`).
    """

    def __init__(self, within_epochs: bool) -> None:
        how = {**EACH_EPOCH, "save_on_train_epoch_end": not within_epochs}
        super().__init__(filename="best", monitor="loss/val", **how)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Passes over an epoch before the first validation, and one that a run has ended within."""
        if self.monitor in trainer.callback_metrics and _is_whole(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Passes over the validation at which a run ends within an epoch, if none was due: a resumed one has it not."""
        loop = trainer.fit_loop.epoch_loop
        batches = loop.batch_idx if trainer.check_val_every_n_epoch else loop.total_batch_idx
        due = (batches + 1) % (trainer.val_check_batch or 1) == 0
        if due or not trainer.should_stop:
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best epoch of a resumed run, also where its folder has moved since."""
        best, score = os.path.join(str(self.dirpath), "best.ckpt"), state_dict["best_model_score"]
        if os.path.isfile(best) and score is not None:
            here = {"dirpath": self.dirpath, "best_model_path": best, "kth_best_model_path": best}
            super().load_state_dict({**state_dict, **here, "best_k_models": {best: score}})


class LastCheckpoint(_Checkpoint):
    """Keeps `checkpoints/last.ckpt`, the latest epoch; before the first one, the start of the run.

    A run that ends within an epoch cannot go on from there. For that it keeps what was the last before, as
    `checkpoints/whole_epoch.ckpt`.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", **EACH_EPOCH)  # `save_last` would be stale while the monitored metric worsens

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the run one that can be resumed, however early it is killed."""
        if trainer.is_global_zero:
            remove_leftovers(Path(str(self.dirpath)), alone=True)
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(Path(str(self.dirpath), "last.ckpt"), weights_only=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the epoch, and keeps the one before it if this one is not whole."""
        last, whole = (Path(str(self.dirpath), name) for name in ("last.ckpt", "whole_epoch.ckpt"))
        if trainer.is_global_zero and not _is_whole(trainer) and not whole.exists():
            write_held(trainer)
            with atomic_write(whole) as new:
                shutil.copyfile(last, new)
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero and _is_whole(trainer):
            whole.unlink(missing_ok=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores nothing: there is one last checkpoint, and its name is known."""


class RunLogger(TensorBoardLogger):
    """TensorBoard's curves alone: `hparams.yaml` would repeat `config.yaml`, and a kill could leave half of it.

    Args:
        root: Where `lightning_logs/` is.
        purge_step: The epoch from which on the run writes, 0 for a new one: what it has of later ones is passed over.
    """

    def __init__(self, root: Path, purge_step: int) -> None:
        super().__init__(root, RUNS, "", default_hp_metric=False, purge_step=purge_step)
        self.run: Path | None = None  # `RunFolder` says which, once training starts

    @property
    def log_dir(self) -> str:
        """The folder of the run."""
        return str(self.run or self.root_dir)

    @property
    def experiment(self) -> Any:
        """TensorBoard's writer; none before training starts, since opening it changes the curves of a resumed run."""
        return super().experiment if self.run else DummyExperiment()

    @rank_zero_only
    def save(self) -> None:
        """Hands the points over to the system."""
        self.experiment.flush()


class RunFolder(Callback):
    """Claims the folder of a run, places checkpoints and curves there, and writes what a rerun needs.

    Args:
        root: Where `lightning_logs/` is.
        run: The folder of a run to be resumed; by default a new one is claimed.
        options: The options of the run, as plain values.
    """

    def __init__(self, root: Path, run: Path | None, options: dict[str, Any]) -> None:
        self.root = root
        self.run = run
        self.options = options

    def claim(self, trainer: L.Trainer) -> None:
        """Claims the folder in the first process of all; the others learn from it where the checkpoints are."""
        if self.run is None and trainer.is_global_zero:
            self.run = claim_run(self.root, self.options["name"])
        if self.run is None:
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run.absolute() / "checkpoints")  # from wherever it is resumed

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds `options`, of what a resumed run keeps, so that a `config.yaml` edited since is noticed."""
        checkpoint["options"] = {key: value for key, value in self.options.items() if key not in WITHOUT_EFFECT}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes `config.yaml` and `environment.yaml`: now, since a run that is refused leaves a folder as it was."""
        if self.run is None or not trainer.is_global_zero:
            return
        data: Any = getattr(trainer, "datamodule", None)
        seed, table = self.options["seed_everything"], data.table
        environment = environment_of(trainer.strategy.root_device, trainer.world_size, seed, table.source, table.sha256)
        remove_leftovers(self.run, alone=True)
        describe_run(self.run, self.options, environment)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.run = self.run

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves checkpoints that are whole to all who look at the end of the run."""
        write_held(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leaves what was trained before."""
        write_held(trainer)


def environment_of(device: Any, processes: int, seed: int, source: str, sha256: str) -> dict[str, Any]:
    """Returns what the result of a run depends on beside its options."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # which names the build as well
        **{name: version(name) for name in PACKAGES},
        "device": str(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "seed": seed,
        "data": {"source": source, "sha256": sha256},
    }


def describe_run(run: Path, options: dict[str, Any], environment: dict[str, Any]) -> None:
    """Writes `config.yaml` and `environment.yaml` of a run, from which it can be repeated."""
    for name, content in (("config.yaml", options), ("environment.yaml", environment)):
        with atomic_write(run / name) as new:
            new.write_text(to_yaml(content), encoding="utf-8")
