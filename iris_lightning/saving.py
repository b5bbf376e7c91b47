"""What a run writes into its folder beside the curves."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback

__all__ = ["BestCheckpoint", "LastCheckpoint", "RunConfig"]


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
        if best.is_file():
            here = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            super().load_state_dict(
                {**state_dict, **here, "best_k_models": {str(best): state_dict["best_model_score"]}}
            )


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`, the latest epoch.

    `ModelCheckpoint(save_last=True)` would not do: that file goes stale while the monitored metric worsens.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Needs nothing of a resumed run."""


class RunConfig(SaveConfigCallback):
    """Writes the options of the run into its folder once training starts, so that a refused run leaves none."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Waits."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes `config.yaml`, without the checkpoint that the run was resumed from."""
        self.config = self.config.clone()
        self.config.ckpt_path = None
        super().setup(trainer, pl_module, "fit")
