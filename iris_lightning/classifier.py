"""Loss, optimizer, metrics and steps around a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import Metric, SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from iris_lightning.network import IrisNetwork
from iris_lightning.weights import read_weights

__all__ = ["METRICS", "IrisClassifier", "scores"]

METRICS = ("loss", "accuracy", "f1")


def scores(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Computes accuracy and macro F1 from a confusion matrix, which is summed once for both.

    The same as torchmetrics' `MulticlassAccuracy(average="micro")` and `MulticlassF1Score(average="macro")`.

    Args:
        confusion: Rows of each class (first axis) that were taken for each class (second), shape `(classes, classes)`.

    Returns:
        Correct rows over all rows, and the mean of `2 correct / (true + predicted)` over the classes that occur.
    """
    correct = confusion.diagonal()
    occurring = confusion.sum(dim=0) + confusion.sum(dim=1)
    f1 = 2 * correct / occurring.clamp(min=1)
    return correct.sum() / confusion.sum(), f1[occurring > 0].mean()


class IrisClassifier(L.LightningModule):
    """Trains an `IrisNetwork` with cross-entropy and Adam.

    Every epoch of a part (train, val, test) yields `loss/<part>`, the mean cross-entropy in nats over the part's rows,
    `accuracy/<part>`, correct predictions over all rows, and `f1/<part>`, the mean of the classes' F1 scores, which a
    frequent class cannot dominate. Loggers get them with the epoch, from 0 on, as their step.

    `loss/<part>` counts rows alike also with `class_weight`, so that runs with and without it can be compared.

    Args:
        feature_names: Names of the features, in the order of their columns.
        class_names: Names of the classes, in the order of the logits.
        hidden: Sizes of the hidden layers; `[]` is multinomial logistic regression.
        activation: What follows each hidden layer: `relu`, `tanh`, `gelu`, `silu`, or `null` for nothing.
        standardize: Whether features are scaled to mean 0 and standard deviation 1 over the train part.
        class_weight: `balanced` gives every class the same say in training, however rare it is, with scikit-learn's
            weights `rows / (classes * rows of the class)` over the train part; `null` gives it to every row.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty of Adam.
        weights: File of weights to start from: one that `export` wrote, or the lesson's `model.pth`.

    Raises:
        ValueError: If a value is out of range.
    """

    class_weight: Tensor

    def __init__(
        self,
        feature_names: list[str],
        class_names: list[str],
        hidden: Sequence[int] = (16, 8),
        activation: str | None = None,
        standardize: bool = False,
        class_weight: Literal["balanced"] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        largest = torch.finfo(torch.float32).max
        if not 0 < lr <= largest:
            raise ValueError(f"lr: expected a finite number above 0, got {lr}")
        if not 0 <= weight_decay <= largest:
            raise ValueError(f"weight_decay: expected a finite number of at least 0, got {weight_decay}")
        hidden = list(hidden)
        self.save_hyperparameters(ignore="weights")  # a checkpoint has its own
        classes = len(class_names)
        self.network = IrisNetwork(len(feature_names), classes, hidden, activation, standardize)
        self.weights = weights
        self.scales = standardize and weights is None  # those of the weights belong to them
        if weights is not None:
            self._start_from(weights)
        self.register_buffer("class_weight", torch.ones(classes), persistent=False)  # `setup` computes it
        self.balanced = class_weight == "balanced"
        self._seed = 0
        self._processes = 1
        self.epoch_metrics: dict[str, float] = {}  # of the epoch in progress, as far as they are known
        self.metrics = nn.ModuleDict()
        for part in ("train", "val", "test"):
            self.metrics[f"loss/{part}"] = SumMetric(nan_strategy="disable")  # NaN shows that a run has diverged
            self.metrics[f"confusion/{part}"] = MulticlassConfusionMatrix(classes, validate_args=False)

    def _start_from(self, weights: str) -> None:
        given = read_weights(Path(weights))
        for key, ours in (
            ("feature_names", self.hparams["feature_names"]),
            ("class_names", self.hparams["class_names"]),
        ):
            theirs = getattr(given, key)
            if theirs is not None and theirs != list(ours):
                raise ValueError(f"weights {weights}: their {key} are {theirs}, and those of the data {list(ours)}")
        try:
            given.fill(self.network)
        except ValueError as error:
            raise ValueError(f"weights {weights}: {error}") from error
        if given.class_names is not None and given.hidden and given.activation != self.network.activation:
            raise ValueError(
                f"weights {weights}: made with activation {given.activation or 'null'}, "
                f"got {self.network.activation or 'null'}"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook in progress two dozen times a step: too often for what Module.__setattr__ looks up.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Before training, takes the scale of the features and the class weights from the data module's train part."""
        if stage != "fit":
            return
        data = cast("Any", self.trainer).datamodule
        if data is None and (self.scales or self.balanced):
            raise ValueError("standardize and class_weight need a data module with `parts`, got none")
        if self.scales:
            self.network.fit_scaler(data.parts["train"].features)
        if self.balanced:
            train = data.parts["train"]
            from sklearn.utils.class_weight import compute_class_weight

            present = train.targets.unique()
            weights = compute_class_weight("balanced", classes=present.numpy(), y=train.targets.numpy())
            self.class_weight[present] = torch.tensor(weights, dtype=torch.float32)

    def forward(self, features: Tensor) -> Tensor:
        """Computes logits, shape `(rows, num_classes)`, of features, shape `(rows, in_features)`."""
        return cast("Tensor", self.network(features))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam over the network's parameters."""
        return torch.optim.Adam(
            self.network.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"]
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the mean loss of a batch; the Trainer zeroes gradients, goes backward and steps."""
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Adds a batch to the validation metrics; the Trainer sets eval mode and inference mode."""
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Adds a batch to the test metrics."""
        self._step(batch, "test")

    def _step(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        features, targets = batch
        logits = self.network(features)
        share = len(targets)
        # This process may have no row of the batch, of which there is no mean.
        loss = cross_entropy(logits, targets) if share else logits.sum()
        # Sums now, logged once an epoch: `self.log` in each step would cost more than the step.
        self._metric(f"loss/{part}").update(loss.detach() * share)
        # The index of `max` is that of `argmax`, found three times as fast.
        self._metric(f"confusion/{part}").update(logits.detach().max(dim=1).indices, targets)
        if part != "train":
            return loss
        if self.balanced and share:
            # Over the number of rows, not over the sum of their weights: each row counts alike in whichever batch.
            loss = cross_entropy(logits, targets, self.class_weight, reduction="sum") / share
        if self._processes > 1:
            # The strategy takes the mean of the processes' gradients, whatever their shares; so that it is the mean
            # over the rows of all, each process' loss counts as much as it has rows.
            rows = self.trainer.strategy.reduce(torch.tensor(float(share), device=loss.device), reduce_op="sum")
            loss = loss * (share * self._processes / rows)
        return loss

    def _metric(self, name: str) -> Metric:
        return cast("Metric", self.metrics[name])

    def on_fit_start(self) -> None:
        """Notes the seed of the run, and how many processes share a batch."""
        self._seed = torch.initial_seed()
        self._processes = self.trainer.world_size

    def on_train_epoch_start(self) -> None:
        """Forgets the metrics of the epoch before, and seeds what the network draws, as dropout does.

        From the seed and the epoch alone, so that a resumed run draws the same.
        """
        self.epoch_metrics.clear()
        torch.manual_seed((self._seed + self.current_epoch) % 2**63)

    def on_train_epoch_end(self) -> None:
        """Logs the train metrics."""
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics."""
        self._log_epoch("test")

    def _log_epoch(self, part: str) -> None:
        total_loss, confusion = self._metric(f"loss/{part}"), self._metric(f"confusion/{part}")
        if not confusion.update_called:  # the rest of an epoch that a resumed run had finished
            return
        matrix = confusion.compute()
        accuracy, f1 = scores(matrix)
        values = {f"loss/{part}": total_loss.compute() / matrix.sum(), f"accuracy/{part}": accuracy, f"f1/{part}": f1}
        total_loss.reset()
        confusion.reset()
        if self.trainer.sanity_checking:
            return
        # For callbacks and results. Loggers get them directly, since `self.log` would put them at the global step.
        self.log_dict(values, logger=False)
        numbers = {name: float(value) for name, value in values.items()}
        self.epoch_metrics |= numbers
        for logger in self.loggers:
            logger.log_metrics(numbers, step=self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the metrics of the epoch into its checkpoint, so that a checkpoint says how good it is."""
        checkpoint["metrics"] = dict(self.epoch_metrics)
