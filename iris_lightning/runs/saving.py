"""What a run writes into its folder beside the curves, each file whole or not at all."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning import __version__
from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, remove_leftovers

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "EpochRecord", "LastCheckpoint", "RunConfig", "RunLogger"]

PACKAGES = ("lightning", "torchmetrics", "scikit-learn", "polars", "numpy")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there; Lightning's own writes in place.

    So a killed run leaves the checkpoint before.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            UserError: If the disk is full or the folder cannot be written; the checkpoint before is as it was.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as new:
                torch.save(checkpoint, new)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch's, of its zip writer
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            kept = "; the one before is kept" if path.is_file() else ""
            raise UserError(f"{path}: cannot be written: {reason}{kept}") from error


class BestCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/best.ckpt`, the epoch with the lowest `loss/val`."""

    def __init__(self) -> None:
        super().__init__(
            filename="best",
            monitor="loss/val",
            mode="min",
            save_on_train_epoch_end=True,  # when the epoch's train metrics are known, too
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best epoch of a resumed run, also where its folder has moved since."""
        best = Path(str(self.dirpath), "best.ckpt")
        if best.is_file() and state_dict["best_model_score"] is not None:
            here = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            super().load_state_dict(
                {**state_dict, **here, "best_k_models": {str(best): state_dict["best_model_score"]}}
            )

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Keeps the file: the new best has taken the place of the one before. There is no public hook for it."""


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`, the latest epoch; before the first one, the start of the run.

    `ModelCheckpoint(save_last=True)` would not do: that file goes stale while the monitored metric worsens.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the run one that can be resumed, however early it is killed."""
        if trainer.is_global_zero:
            remove_leftovers(Path(str(self.dirpath)))
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(Path(str(self.dirpath), "last.ckpt"), weights_only=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores nothing: there is one last checkpoint, and its name is known."""


class EpochRecord(Callback):
    """Writes the metrics of an epoch into its checkpoints, so that a checkpoint says how good it is.

    The Trainer saves an epoch's checkpoint before it logs the train metrics, which a killed run then lacks; so a
    resumed run logs those of its checkpoint again.
    """

    def __init__(self) -> None:
        self.validated: int | None = None  # the last epoch that was
        self.resumed: dict[str, float] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the epoch: the Trainer keeps the validation metrics until there are newer ones."""
        self.validated = trainer.current_epoch

    def metrics_of(self, trainer: L.Trainer, epoch: int) -> dict[str, float]:
        """Returns the latest metrics, without those of an earlier epoch."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return {name: value for name, value in metrics.items() if epoch == self.validated or not name.endswith("/val")}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds `metrics` to a checkpoint."""
        checkpoint["metrics"] = self.metrics_of(trainer, trainer.current_epoch)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes the metrics of the checkpoint."""
        if checkpoint["metrics"]:
            self.resumed = {**checkpoint["metrics"], "epoch": checkpoint["epoch"]}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs them in the place of the run's own, which `RunLogger` passes over (`purge_step`)."""
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger) and self.resumed:
                logger.log_metrics(self.resumed)


class RunLogger(TensorBoardLogger):
    """TensorBoard's curves alone: `hparams.yaml` would repeat `config.yaml`, and a kill could leave half of it."""

    @rank_zero_only
    def save(self) -> None:
        """Hands the points over to the system."""
        self.experiment.flush()


class RunConfig(SaveConfigCallback):
    """Writes what a rerun needs into the run's folder once training starts, so that a refused run leaves none."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Writes nothing yet, unlike the base class."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes `config.yaml`, without the checkpoint that the run was resumed from, and `environment.yaml`."""
        folder = trainer.log_dir  # asks all processes
        if not trainer.is_global_zero or folder is None:
            return
        config = self.config.clone()
        config.ckpt_path = config.weights = None
        data: Any = getattr(trainer, "datamodule", None)
        environment = {
            "python": platform.python_version(),
            "iris_lightning": __version__,
            "torch": str(torch.__version__),  # which names the build as well
            **{name: version(name) for name in PACKAGES},
            "platform": platform.platform(),
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
            "seed": config.seed_everything,
            "data": {"source": data.table.source, "sha256": data.table.sha256},
        }
        files = {
            "config.yaml": self.parser.dump(config, skip_none=False),
            "environment.yaml": yaml.safe_dump(environment, sort_keys=False),
        }
        for name, text in files.items():
            path = Path(folder, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as new:
                    new.write_text(text)
            except OSError as error:
                raise UserError(f"{path}: cannot be written: {error.strerror}") from error
