"""Loss, optimizer, metrics and steps around a network."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import lightning as L
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import plain
from iris_lightning.metrics import EpochMetrics, plot_against_epoch
from iris_lightning.network import IRIS_CLASSES, IRIS_FEATURES, IrisNetwork
from iris_lightning.sharing import class_weights, weigh_loss

__all__ = ["IrisClassifier"]


class IrisClassifier(L.LightningModule):
    """Trains an `IrisNetwork` with cross-entropy and Adam.

    Every epoch of a split (train, val, test) logs `loss/<split>`, the mean cross-entropy in nats over the split's rows,
    `accuracy/<split>`, correct predictions over all rows, and `macro_f1/<split>`, the mean of the classes' F1 scores.
    `loss/<split>` counts rows alike also with `class_weight`, so that runs with and without it can be compared.

    Args:
        feature_names: Names of the features, in the order of their columns; by default those of Iris.
        class_names: Names of the classes, in the order of the logits; by default those of Iris.
        hidden: Sizes of the hidden layers; `[]` is multinomial logistic regression.
        activation: What follows each hidden layer: `relu`, `tanh`, `gelu`, `silu`, or `null` for nothing.
        standardize: Whether features are scaled to mean 0 and standard deviation 1 over the train split.
        class_weight: `balanced` weighs all classes alike in training, however rare they are: as in scikit-learn, a row
            weighs `rows / (classes * rows of its class)`, over the train split; with `null`, all rows weigh alike.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty of Adam.
        impute: Whether missing features (NaN) are replaced by their means over the train split.

    A ValueError names what is out of range.

    Example:
        >>> IrisClassifier()(torch.tensor([[5.1, 3.5, 1.4, 0.2]])).shape
        torch.Size([1, 3])
    """

    row_weight: Tensor | None

    def __init__(
        self,
        feature_names: Sequence[str] = IRIS_FEATURES,
        class_names: Sequence[str] = IRIS_CLASSES,
        hidden: Sequence[int] = (16, 8),
        activation: str | None = None,
        standardize: bool = False,
        class_weight: Literal["balanced"] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        impute: bool = False,
    ) -> None:
        super().__init__()
        if class_weight not in ("balanced", None):
            raise ValueError(f"class_weight: expected balanced or null, got {class_weight!r}")
        if not 0 < lr <= torch.finfo(torch.float32).max:
            raise ValueError(f"lr: expected a finite number above 0, got {lr}")
        if not 0 <= weight_decay <= torch.finfo(torch.float32).max:
            raise ValueError(f"weight_decay: expected a finite number of at least 0, got {weight_decay}")
        self.save_hyperparameters()
        self.hparams.update(plain(dict(self.hparams)))
        self.network = IrisNetwork(len(feature_names), len(class_names), hidden, activation, standardize, impute)
        self.train_metrics = EpochMetrics(len(class_names))
        self.val_metrics = EpochMetrics(len(class_names))
        self.test_metrics = EpochMetrics(len(class_names))
        self.register_buffer("row_weight", None, persistent=False)  # of each class; `on_fit_start` computes it
        self.trained_on: dict[str, Any] = {}  # the table and the split, for an `IrisDataModule` to keep to

    def forward(self, features: Tensor) -> Tensor:
        """Computes logits, shape `(rows, classes)`, of features, shape `(rows, features)`."""
        return cast("Tensor", self.network(features))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam over the network's parameters."""
        options = {name: self.hparams[name] for name in ("lr", "weight_decay")}
        return torch.optim.Adam(self.network.parameters(), **options)

    def _step(self, batch: tuple[Tensor, Tensor], metrics: EpochMetrics) -> tuple[Tensor, Tensor]:
        features, targets = batch
        logits = self(features)
        loss = cross_entropy(logits, targets)
        metrics.update(loss.detach(), logits.detach(), targets)
        return logits, loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of a batch; the Trainer zeroes the gradients, runs the backward pass and steps."""
        logits, loss = self._step(batch, self.train_metrics)
        targets = batch[1]
        if self.row_weight is not None:
            # Over the number of rows, not over the sum of their weights: each row counts alike in whichever batch.
            loss = cross_entropy(logits, targets, self.row_weight, reduction="sum") / len(targets)
        return weigh_loss(loss, len(targets))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Adds a batch to the validation metrics; the Trainer sets eval mode and inference mode."""
        self._step(batch, self.val_metrics)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Adds a batch to the test metrics."""
        self._step(batch, self.test_metrics)

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Returns probabilities, shape `(rows, classes)`, of features, or of `(features, targets)`."""
        return cast("Tensor", self(batch if isinstance(batch, Tensor) else batch[0])).softmax(dim=1)

    def on_train_epoch_end(self) -> None:
        """Logs the train metrics."""
        self._log("train", self.train_metrics)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        self._log("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics."""
        self._log("test", self.test_metrics)

    def _log(self, split: str, metrics: EpochMetrics) -> None:
        if not metrics.update_called:  # the rest of an epoch that a resumed run had finished
            return
        # Once an epoch: `self.log` in each step would cost more than the step. The values are of all processes already.
        values = {f"{name}/{split}": value for name, value in metrics.compute().items()}
        self.log_dict(values, prog_bar=True, sync_dist=True)
        metrics.reset()

    def setup(self, stage: str) -> None:
        """Gives TensorBoard's curves their x axis."""
        plot_against_epoch(self.trainer)

    def on_fit_start(self) -> None:
        """Takes the scale of the features and the weights of the classes from the train split."""
        data = cast("Any", self.trainer).datamodule
        self.trained_on = data.state_dict() if hasattr(data, "tensors") else {}
        network = self.network
        scale = (network.standardize or network.impute) and not network.is_scaled  # a trained one keeps its scale
        balanced = self.hparams["class_weight"] == "balanced"
        if not (scale or balanced):
            return
        if not self.trained_on:  # loaders, or a data module of a user's own
            raise UserError("standardize, impute and class_weight need a train split: expected an IrisDataModule")
        features, targets = data.tensors("train")
        if scale:
            network.fit_scaler(features)
        if balanced:
            self.row_weight = class_weights(targets, len(self.hparams["class_names"])).to(next(self.parameters()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds which data the weights were trained on, so that they are evaluated on the other rows."""
        checkpoint["trained_on"] = self.trained_on

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes which data the weights were trained on."""
        self.trained_on = checkpoint.get("trained_on", {})
