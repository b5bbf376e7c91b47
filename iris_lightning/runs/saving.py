"""What a run writes into its folder beside the curves, each file whole or not at all."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyExperiment  # type: ignore[attr-defined]  # of lightning.fabric
from lightning.pytorch.utilities import rank_zero_only

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, remove_leftovers
from iris_lightning.runs.folders import RUNS, claim_run

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "LastCheckpoint", "RunFolder", "RunLogger"]

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

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Passes over an epoch before the first validation."""
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

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

    def __init__(self, root: Path, purge_step: int | None) -> None:
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
            self.run = claim_run(self.root)
        if self.run is None:
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run / "checkpoints")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes `config.yaml` and `environment.yaml`: now, since a run that is refused leaves a folder as it was."""
        if self.run is None or not trainer.is_global_zero:
            return
        data: Any = getattr(trainer, "datamodule", None)
        environment = {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # which names the build as well
            **{name: version(name) for name in PACKAGES},
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
            "seed": self.options["seed_everything"],
            "data": {"source": data.table.source, "sha256": data.table.sha256},
        }
        for name, content in (("config.yaml", self.options), ("environment.yaml", environment)):
            with atomic_write(self.run / name) as new:
                new.write_text(yaml.safe_dump(content, sort_keys=False))
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.run = self.run
