"""Random draws of an epoch that a resumed run repeats."""

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

__all__ = ["SeedEpochs"]


class SeedEpochs(Callback):
    """Seeds what the network draws in an epoch, as dropout does, from the seed of the run and the epoch alone."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the seed of the run."""
        self.seed = torch.initial_seed()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seeds the epoch; 1 sets these draws apart from the order of the rows, which is drawn from the first two."""
        mixed = np.random.SeedSequence([self.seed, trainer.current_epoch, 1]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(mixed))
