"""What a run writes into its folder beside the curves, each file whole or not at all."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, remove_leftovers

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "LastCheckpoint", "RunConfig", "RunLogger"]

# At the end of the train epoch, when its train metrics are known as well.
EACH_EPOCH: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
PACKAGES = ("iris_lightning", "lightning", "torchmetrics", "scikit-learn", "polars", "numpy")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there, so that a killed run leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; a UserError says why it cannot be written, and the one before is as it was."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as new:
                torch.save(checkpoint, new)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch's, of its zip writer
            kept = "; the one before is kept" if path.is_file() else ""
            raise UserError(f"{path}: cannot be written: {str(error).splitlines()[0]}{kept}") from error


class BestCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/best.ckpt`, the epoch with the lowest `loss/val`."""

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="loss/val", **EACH_EPOCH)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best epoch of a resumed run, also where its folder has moved since."""
        best, score = os.path.join(str(self.dirpath), "best.ckpt"), state_dict["best_model_score"]
        if os.path.isfile(best) and score is not None:
            here = {"dirpath": self.dirpath, "best_model_path": best, "kth_best_model_path": best}
            super().load_state_dict({**state_dict, **here, "best_k_models": {best: score}})


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`, the latest epoch; before the first one, the start of the run."""

    def __init__(self) -> None:
        super().__init__(filename="last", **EACH_EPOCH)  # `save_last` would be stale while the monitored metric worsens

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the run one that can be resumed, however early it is killed."""
        if trainer.is_global_zero:
            remove_leftovers(Path(str(self.dirpath)))
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(Path(str(self.dirpath), "last.ckpt"), weights_only=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores nothing: there is one last checkpoint, and its name is known."""


class RunLogger(TensorBoardLogger):
    """TensorBoard's curves alone: `hparams.yaml` would repeat `config.yaml`, and a kill could leave half of it."""

    @rank_zero_only
    def save(self) -> None:
        """Hands the points over to the system."""
        self.experiment.flush()


class RunConfig(Callback):
    """Writes what a rerun needs into the run's folder once training starts, so that a refused run leaves none."""

    def __init__(self, parser: ArgumentParser, config: Namespace) -> None:
        self.parser = parser
        self.config = config

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes `config.yaml`, without the checkpoint that the run was resumed from, and `environment.yaml`."""
        folder = trainer.log_dir  # asks all processes
        if not trainer.is_global_zero or folder is None:
            return
        config = self.config.clone()
        config.ckpt_path = None
        data: Any = getattr(trainer, "datamodule", None)
        environment = {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # which names the build as well
            **{name: version(name) for name in PACKAGES},
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
            "seed": int(config.seed_everything),
            "data": {"source": data.table.source, "sha256": data.table.sha256},
        }
        texts = self.parser.dump(config, skip_none=False), yaml.safe_dump(environment, sort_keys=False)
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in zip(("config.yaml", "environment.yaml"), texts, strict=True):
            with atomic_write(Path(folder, name)) as new:
                new.write_text(text)
