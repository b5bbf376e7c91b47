"""Loss, optimizer, metrics and steps around a network."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MetricCollection

from iris_lightning.batching import balanced_weights, batch_loss
from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import class_name, describe_origin, to_builtin
from iris_lightning.metrics import epoch_metrics
from iris_lightning.network import IRIS_CLASSES, IRIS_FEATURES, IrisNetwork, uncompiled
from iris_lightning.scores import make_scores

Batch = tuple[Tensor, Tensor]  # features and targets
# Options whose buffers are computed from the train split.
NETWORK_STATISTICS = ("standardize", "impute", "bins")
STATISTICS = (*NETWORK_STATISTICS, "class_weight")


class IrisClassifier(L.LightningModule):
    """Trains an `IrisNetwork` with cross-entropy and Adam.

    Logs in every epoch `loss/<split>`, the mean loss over the rows of the split (train, val or
    test), and the metrics in `iris_lightning/metrics.py`; in tests, also those in
    `iris_lightning/scores.py`. `loss/<split>` is never weighted, even with `class_weight`, so that
    runs with and without it can be compared.

    To change the optimizer or the loss, edit `make_optimizer` or `row_losses`; to change the
    network, edit `IrisNetwork`: all commands use the change. In Python, you can also override these
    two methods, or `make_network`, in a subclass.

    Args:
        feature_names: Names of the features, in the order of the columns; by default those of Iris.
        class_names: Names of the classes, in the order of the logits; by default those of Iris.
        hidden: Sizes of the hidden layers; `[]` makes it multinomial logistic regression.
        activation: Activation after each hidden layer, such as `relu`; `null` for none.
        standardize: Whether to scale features to mean 0 and standard deviation 1 over the train
            split.
        class_weight: With `balanced`, classes are weighted inversely to their frequency in the
            train split, as in scikit-learn: `rows / (classes * rows of the class)`. With `null`,
            all rows have equal weight.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty of Adam.
        impute: Whether to replace missing features (NaN) with their means over the train split.
        bins: Quantile bins per numeric feature; 0 for none. Each bin is one more input of the first
            layer, which can thus learn steps.
        one_hot_features: Features that encode categories as 0 and 1; they are neither scaled nor
            binned.

    Attributes:
        network: Any module that computes logits from features.
        trained_on: Describes the table and the split it was trained on, so that an
            `IrisDataModule` can reuse them.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> IrisClassifier()(torch.tensor([[5.1, 3.5, 1.4, 0.2]])).shape
        torch.Size([1, 3])
    """

    class_weights: Tensor | None

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
        bins: int = 0,
        one_hot_features: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if class_weight not in ("balanced", None):
            raise ValueError(f"class_weight: expected balanced or null, got {class_weight!r}")
        self.save_hyperparameters()
        self.hparams.update(to_builtin(self.hparams))
        self.network = self.make_network()
        self.example_input_array = torch.zeros(1, len(feature_names))
        self.register_buffer("class_weights", None, persistent=False)
        self.trained_on: dict[str, Any] = {}

    def make_network(self) -> nn.Module:
        """Returns the network: any module that computes logits from features.

        All options, including those of a subclass, are in `self.hparams`. The commands and `load`
        can only read checkpoints of an `IrisNetwork`.

        Example:
            >>> class LogisticRegression(IrisClassifier):
            ...     def make_network(self):
            ...         options = self.hparams
            ...         return nn.Linear(len(options["feature_names"]), len(options["class_names"]))
            >>> LogisticRegression().network
            Linear(in_features=4, out_features=3, bias=True)
        """
        options = self.hparams
        names = options["feature_names"]
        is_category = np.isin(names, options["one_hot_features"])
        return IrisNetwork(
            len(names),
            len(options["class_names"]),
            hidden=options["hidden"],
            activation=options["activation"],
            standardize=options["standardize"],
            impute=options["impute"],
            bins=options["bins"],
            one_hot=np.flatnonzero(is_category).tolist(),
        )

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> OptimizerLRScheduler:
        """Returns the optimizer, or Lightning's dict of an optimizer and a scheduler.

        Args:
            parameters: Parameters to optimize. In a cross-validation, they are those of many
                classifiers, stacked.

        Example:
            >>> class Cosine(IrisClassifier):
            ...     def make_optimizer(self, parameters):
            ...         optimizer = torch.optim.SGD(parameters, lr=0.1)
            ...         scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
            ...         return {"optimizer": optimizer, "lr_scheduler": scheduler}
        """
        return torch.optim.Adam(
            parameters,
            lr=self.hparams["lr"],
            weight_decay=self.hparams["weight_decay"],
            foreach=True,  # faster, with identical results
        )

    def row_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each row, shape `(rows,)`: by default the cross-entropy, in nats.

        Args:
            logits: Shape `(rows, classes)`.
            targets: Classes, int64, shape `(rows,)`.

        Example:
            >>> class Smoothed(IrisClassifier):
            ...     def row_losses(self, logits, targets):
            ...         return cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)
        """
        return cross_entropy(logits, targets, reduction="none")

    def forward(self, features: Tensor) -> Tensor:
        """Computes logits, shape `(rows, classes)`, from features, shape `(rows, features)`."""
        logits: Tensor = self.network(features)
        return logits

    def setup(self, stage: str) -> None:
        """Creates the metrics."""
        num_classes = len(self.hparams["class_names"])
        self.train_metrics = epoch_metrics(num_classes, "train")
        self.val_metrics = epoch_metrics(num_classes, "val")
        self.test_metrics = epoch_metrics(num_classes, "test")
        self.test_metrics.add_metrics(make_scores(num_classes))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the result of `make_optimizer`."""
        return self.make_optimizer(self.parameters())

    def weigh_classes(self, losses: Tensor, targets: Tensor) -> Tensor:
        """Multiplies losses by the class weights, if there are any."""
        if self.class_weights is None:
            return losses
        return losses * self.class_weights[targets]

    def _step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        features, targets = batch
        logits = self(features)
        losses = self.row_losses(logits, targets)
        if len(targets):  # a process may get no rows of a small batch
            metrics.update(value=losses.detach(), preds=logits.detach(), target=targets)
        return losses

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch; the Trainer does zero_grad, backward and step."""
        losses = self._step(batch, self.train_metrics)
        return batch_loss(self.weigh_classes(losses, batch[1]))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Updates the validation metrics; the Trainer sets eval mode and inference mode."""
        self._step(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Updates the test metrics."""
        self._step(batch, self.test_metrics)

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Returns probabilities, shape `(rows, classes)`, for a batch with or without targets."""
        if not isinstance(batch, Tensor):
            batch = batch[0]
        logits: Tensor = self(batch)
        return logits.softmax(dim=1)

    def on_train_epoch_end(self) -> None:
        """Logs the train metrics."""
        self._log(self.train_metrics)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        self._log(self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics."""
        self._log(self.test_metrics)

    def _log(self, metrics: MetricCollection) -> None:
        # Once per epoch: a mean of batch means would overweight a smaller last batch.
        self.log_dict(metrics.compute(), prog_bar=True, sync_dist=True)
        metrics.reset()

    def on_fit_start(self) -> None:
        """Fits the network's buffers, and records what it is trained on."""
        data = cast("Any", self.trainer).datamodule
        if hasattr(data, "tensors"):
            self.fit_statistics(*data.tensors("train"))
            self.trained_on = data.describe_split()
        elif any(map(self.hparams.get, STATISTICS)):
            raise UserError(f"{', '.join(STATISTICS)} need an IrisDataModule")

    def fit_statistics(self, features: Tensor, targets: Tensor) -> None:
        """Fits the network's buffers and the class weights.

        Args:
            features: Shape `(rows, features)`.
            targets: Classes, int64, shape `(rows,)`.
        """
        if any(map(self.hparams.get, NETWORK_STATISTICS)):
            network = uncompiled(self.network)
            if not isinstance(network, IrisNetwork):
                raise UserError(
                    f"{', '.join(NETWORK_STATISTICS)} need an IrisNetwork, not "
                    f"{class_name(network)}; compute them in your network"
                )
            if not network.is_fitted:  # else keep the buffers that the weights were trained with
                network.fit_buffers(features)
        if self.hparams["class_weight"] == "balanced":
            weights = balanced_weights(targets, len(self.hparams["class_names"]))
            self.class_weights = weights.to(next(self.parameters()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Records what the weights were trained on, and the types of module and network."""
        checkpoint["trained_on"] = self.trained_on
        checkpoint["iris_lightning"] = describe_origin(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the record of what the weights were trained on."""
        self.trained_on = checkpoint.get("trained_on", {})
