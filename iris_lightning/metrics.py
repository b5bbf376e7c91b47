"""The metrics of a classifier."""

import warnings

from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)
from torchmetrics.utilities.data import dim_zero_cat


def make_metrics(num_classes: int) -> dict[str, Metric | MetricCollection]:
    """Returns the metrics by name.

    A metric added here appears in the curves of `fit`, in the output of `test` and `crossvalidate`,
    and in `summary.json`. It is updated with `preds`, logits of shape `(rows, num_classes)`, and
    `target`, int64 classes of shape `(rows,)`.
    """
    metrics: dict[str, Metric | MetricCollection] = {}
    # The share of correct predictions.
    metrics["accuracy"] = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
    # The mean F1 score of the classes, so that a frequent class does not dominate.
    metrics["macro_f1"] = MulticlassF1Score(num_classes, average="macro", validate_args=False)
    return metrics


class RocAuc(MulticlassAUROC):
    """The area under the ROC curve of logits, one class against the rest, averaged over classes.

    A class without rows, or with all of them, has no such curve and is left out.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds logits; torchmetrics would take logits from 0 to 1 for probabilities."""
        super().update(preds.double().softmax(dim=1), target)

    def compute(self) -> Tensor:  # type: ignore[override]  # as in MulticlassAUROC itself
        """Returns the mean area; NaN if all rows are of one class."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes without rows
            areas = super().compute()
        targets = dim_zero_cat(self.target)
        rows = targets.bincount(minlength=len(areas))
        has_curve = (rows > 0) & (rows < len(targets))
        return areas[has_curve].mean()


class BalancedAccuracy(MulticlassConfusionMatrix):
    """The mean recall of the classes that have rows, as in scikit-learn."""

    def compute(self) -> Tensor:
        """Returns the mean recall."""
        confusion = super().compute().double()
        rows = confusion.sum(dim=1)
        recalls = confusion.diag() / rows
        return recalls[rows > 0].mean()


def make_test_metrics(num_classes: int) -> dict[str, Metric | MetricCollection]:
    """Returns the metrics of `test` and `crossvalidate`: those of an epoch, and slower ones."""
    metrics = make_metrics(num_classes)
    metrics["balanced_accuracy"] = BalancedAccuracy(num_classes)
    metrics["roc_auc"] = RocAuc(num_classes)
    return metrics


def epoch_metrics(num_classes: int, split: str) -> MetricCollection:
    """Returns the metrics of an epoch and `loss/<split>`, the mean of the row losses.

    Besides `preds` and `target`, it is updated with `value`, the losses of the rows.
    """
    metrics = make_test_metrics(num_classes) if split == "test" else make_metrics(num_classes)
    metrics["loss"] = MeanMetric(nan_strategy="disable")  # so that a diverged loss is logged as NaN
    return MetricCollection(metrics, postfix=f"/{split}", compute_groups=False)
