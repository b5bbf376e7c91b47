"""An ensemble of classifiers, trained at once."""

from typing import Any, cast

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from iris_lightning.classifier import IrisClassifier
from iris_lightning.ensemble.batches import StackBatch
from iris_lightning.ensemble.data import EnsembleDataModule
from iris_lightning.ensemble.stack import CURVES, StackedClassifier, mean_and_quartiles
from iris_lightning.errors import UserError
from iris_lightning.weights.averaging import EnsembleNetwork

STACK = "stack."  # prefix of the stack's tensors in a checkpoint


def check_trainer(trainer: L.Trainer) -> None:
    """Raises an error if a Trainer uses several processes."""
    if trainer.world_size > 1:
        raise UserError("an ensemble is trained in a single process", "members")


class EnsembleClassifier(IrisClassifier):
    """Several classifiers, each trained without one fold of the train and validation rows.

    Each member keeps the weights of its epoch with the lowest loss on its fold. For `loss/val` and
    the other validation metrics, each fold is predicted by its member with the weights kept so far.
    Test rows and other tables are predicted with the members' mean probabilities. Each `fit` trains
    new members, unless it resumes from a checkpoint.

    Args:
        members: Number of members, as in the `EnsembleDataModule` that it is trained with.
        **options: Options of the members.

    Attributes:
        template: Class of the members. To train an ensemble of your own classifier, define a
            subclass of this class and yours, and set `template` to yours.
    """

    template: type[IrisClassifier] = IrisClassifier
    stack: StackedClassifier
    network: EnsembleNetwork

    def __init__(self, members: int, **options: Any) -> None:
        super().__init__(**options)
        self._val_batches: list[StackBatch] = []

    def make_network(self) -> EnsembleNetwork:
        """Returns the network that averages the members' probabilities."""
        return EnsembleNetwork(self._make_member().network, self.hparams["members"])

    def _make_member(self) -> IrisClassifier:
        options = {**self.hparams}
        del options["members"]
        return self.template(**options)

    def setup(self, stage: str) -> None:
        """Creates the metrics and, to train, the stack of members."""
        super().setup(stage)
        if stage not in ("fit", "validate"):
            return
        data = cast("Any", self.trainer).datamodule
        number = self.hparams["members"]
        if not isinstance(data, EnsembleDataModule) or data.hparams["members"] != number:
            raise UserError(f"expected an EnsembleDataModule with {number} members")
        if stage == "validate":
            return
        check_trainer(self.trainer)
        self.stack = StackedClassifier(self._make_member(), data, [data.members])
        self.stack.to(next(self.parameters()))
        self.stack.trainer = self.trainer
        # Shared, so that `network` always has the stack's best weights.
        self.stack.best.classifier.network = self.network.members

    @property
    def is_fitting(self) -> bool:
        """Whether `fit` is running, and not its sanity check."""
        return self.trainer.state.fn == "fit" and not self.trainer.sanity_checking

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimizer of all members."""
        return self.stack.make_optimizer(self.make_optimizer)

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clips the gradients of each member by its own norm."""
        self.stack.configure_gradient_clipping(*args, **kwargs)

    def on_fit_start(self) -> None:
        """Checks the optimizer, and records what the members are trained on."""
        self.stack.on_fit_start()
        self.trained_on = self.stack.data.describe_split()

    def on_train_epoch_start(self) -> None:
        """Starts an epoch of the curves."""
        self.stack.on_train_epoch_start()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the sum of the members' losses."""
        logits, losses, class_weighted_losses = self.stack.compute(batch, "train")
        is_real = batch.row_weights > 0  # padding has weight 0
        self.train_metrics.update(
            value=losses.detach()[is_real],
            preds=logits.detach()[is_real],
            target=batch.targets[is_real],
        )
        loss: Tensor = (class_weighted_losses * batch.row_weights).sum()
        return loss

    def on_train_epoch_end(self) -> None:
        """Ends the epoch of the stack, and logs the train metrics."""
        self.stack.on_train_epoch_end()
        super().on_train_epoch_end()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Collects a batch of the members' folds; the metrics follow at the end."""
        if not isinstance(batch, StackBatch):  # of another table
            super().validation_step(batch, batch_idx)
            return
        self._val_batches.append(batch)
        if self.is_fitting:
            self.stack.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of all folds, each predicted by its member with the weights kept."""
        if self.is_fitting:
            self.stack.on_validation_epoch_end()
            self._log_quartiles()
        try:
            for batch in self._val_batches:
                for position, (features, targets, weights) in enumerate(zip(*batch, strict=True)):
                    self.network.only = position
                    is_real = weights > 0
                    super().validation_step((features[is_real], targets[is_real]), 0)
        finally:
            self.network.only = None
            self._val_batches.clear()
        super().on_validation_epoch_end()

    def _log_quartiles(self) -> None:
        """Logs the mean and the quartiles of the members' metrics in this epoch."""
        points = mean_and_quartiles(self.stack.curves[self.current_epoch])
        for name, (mean, lower, upper) in zip(CURVES, points, strict=True):
            tag = f"members/{name.replace('/', '_')}"
            self.log_dict({tag: mean, f"{tag}_lower": lower, f"{tag}_upper": upper})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out the tensors of the stack, unless training is resumed."""
        super().on_load_checkpoint(checkpoint)
        if hasattr(self, "stack"):
            return
        state = checkpoint["state_dict"]
        for name in list(state):
            if name.startswith(STACK):
                del state[name]
