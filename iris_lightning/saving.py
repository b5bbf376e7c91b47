"""What a run writes into its folder beside the curves, each file whole or not at all."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning import __version__
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError
from iris_lightning.files import whole_file

__all__ = ["BestCheckpoint", "LastCheckpoint", "RunConfig", "RunLogger", "WholeCheckpointIO"]

PACKAGES = ("lightning", "torchmetrics", "scikit-learn", "polars", "numpy")


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there, so that a killed run leaves the one before.

    Lightning's own writes in place.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            UserError: If the disk is full or the folder cannot be written; the checkpoint before is as it was.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                torch.save(checkpoint, file)
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
        """Knows the best epoch of a resumed run, also where its folder has moved since."""
        best = Path(str(self.dirpath), "best.ckpt")
        if best.is_file() and state_dict["best_model_score"] is not None:
            here = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            super().load_state_dict(
                {**state_dict, **here, "best_k_models": {str(best): state_dict["best_model_score"]}}
            )

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Leaves the file: the new best has taken the place of the one before."""


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`, the latest epoch; before the first one, the start of the run.

    `ModelCheckpoint(save_last=True)` would not do: that file goes stale while the monitored metric worsens.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the run one that can be resumed, however early it is killed."""
        for part in Path(str(self.dirpath)).glob(".*.part"):  # of a process killed while it renamed a whole file
            part.unlink(missing_ok=True)
        if trainer.current_epoch == 0 and not cast("Any", trainer).fast_dev_run:
            trainer.save_checkpoint(Path(str(self.dirpath), "last.ckpt"), weights_only=False)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        for logger in trainer.loggers:
            logger.save()  # first the points of the epochs that it says are done: a killed run loses what is buffered
        super()._save_checkpoint(trainer, filepath)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Needs nothing of a resumed run."""


class RunLogger(TensorBoardLogger):
    """TensorBoard's curves alone: `hparams.yaml` would repeat `config.yaml`, and a kill could leave half of it."""

    @rank_zero_only
    def save(self) -> None:
        """Hands the points over to the system."""
        self.experiment.flush()


class RunConfig(SaveConfigCallback):
    """Writes what a rerun needs into the run's folder once training starts, so that a refused run leaves none."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Waits."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes `config.yaml`, without the checkpoint that the run was resumed from, and `environment.yaml`."""
        folder = trainer.log_dir  # asks all processes
        if not trainer.is_global_zero or folder is None:
            return
        config = self.config.clone()
        config.ckpt_path = None
        # As text: to let the parser write the file would leave half of it in a killed run.
        options = self.parser.dump(config, skip_none=False)
        data = cast("IrisDataModule", cast("Any", trainer).datamodule)
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
            "data": {"source": data.table.source, "sha256": data.sha256},
        }
        files = {"config.yaml": options, "environment.yaml": yaml.safe_dump(environment, sort_keys=False)}
        for name, text in files.items():
            path = Path(folder, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as file:
                    file.write(text.encode())
            except OSError as error:
                raise UserError(f"{path}: cannot be written: {error.strerror}") from error
