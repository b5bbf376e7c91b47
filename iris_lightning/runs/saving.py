"""What a run writes into its folder beside the curves, each file whole or not at all."""

import os
import platform
import shutil
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, remove_leftovers
from iris_lightning.hyperparameters import to_yaml
from iris_lightning.runs.checkpoint_io import hold, write_held
from iris_lightning.runs.folders import claim_run
from iris_lightning.runs.logger import RunLogger

__all__ = [
    "BestCheckpoint",
    "LastCheckpoint",
    "RunFolder",
    "describe_run",
    "environment_of",
]

WITHOUT_EFFECT = ("trainer", "figures", "threads")  # on what a resumed run keeps
PACKAGES = ("iris_lightning", "lightning", "torchmetrics", "scikit-learn", "polars", "numpy")


def _is_whole(trainer: L.Trainer) -> bool:
    """Whether the epoch in progress has trained its last batch."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


class BestCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/best.ckpt`, the epoch with the lowest `loss/val`, or the step, if epochs are validated within.

    Args:
        within_epochs: Whether they are (the Trainer's `val_check_interval`).
    """

    def __init__(self, within_epochs: bool) -> None:
        how: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": not within_epochs}
        super().__init__(filename="best", monitor="loss/val", **how)
        self.saved: dict[str, Any] = {}  # at the end of the epoch, if it is the best so far

    @cached_property
    def state_key(self) -> str:
        """Lightning's, which would make it anew for each of the hooks that it calls, ten times a batch."""
        return super().state_key

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Saves nothing, as Lightning's, which would look after each batch whether it should."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes the checkpoint, which is the last one as well."""
        self.saved = checkpoint

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Passes over an epoch before the first validation, and one that a run has ended within."""
        self.saved = {}
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


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt`, the latest epoch; before the first one, the start of the run.

    Lightning's `save_last` would be stale while the monitored metric worsens. A run that ends within an epoch cannot go
    on from there. For that it keeps what was the last before, as `checkpoints/whole_epoch.ckpt`.

    Args:
        best: What keeps the best epoch, and comes before: where it has just saved, this is saved here as well.
    """

    def __init__(self, best: BestCheckpoint) -> None:
        self.best = best

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return Path(str(self.best.dirpath), "last.ckpt")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the run one that can be resumed, however early it is killed."""
        if trainer.is_global_zero:
            remove_leftovers(self.path.parent, alone=True)
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path, weights_only=False)
        self.whole = self.path.with_name("whole_epoch.ckpt")
        self.resumes_whole = self.whole.exists()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the epoch, and keeps the one before it if this one is not whole."""
        if trainer.is_global_zero and not _is_whole(trainer) and not self.resumes_whole:
            write_held(trainer)
            with atomic_write(self.whole) as new:
                shutil.copyfile(self.path, new)
        if self.best.saved:
            trainer.strategy.save_checkpoint(self.best.saved, self.path)
        else:
            trainer.save_checkpoint(self.path, weights_only=False)
        if trainer.is_global_zero and _is_whole(trainer) and self.resumes_whole:
            write_held(trainer)
            self.whole.unlink()
            self.resumes_whole = False


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
        checkpoints = self.run.absolute() / "checkpoints"  # from wherever it is resumed
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(checkpoints)
        hold(trainer, checkpoints)

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
        """Leaves what was trained before, if it can be written."""
        with suppress(UserError):  # what has ended the run is to be told; the checkpoints before are whole
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
