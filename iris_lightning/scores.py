"""ROC AUC and balanced accuracy, which leave out classes without rows, unlike torchmetrics."""

import warnings

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAUROC, MulticlassConfusionMatrix
from torchmetrics.utilities.data import dim_zero_cat


def make_scores(num_classes: int) -> dict[str, Metric | MetricCollection]:
    """Returns the metrics, by name, that only `test` and `crossvalidate` compute."""
    return {"balanced_accuracy": BalancedAccuracy(num_classes), "roc_auc": RocAuc(num_classes)}


class RocAuc(MulticlassAUROC):
    """The area under the ROC curve of logits, one class against the rest, averaged over classes.

    A class without rows, or with all of them, has no such curve and is left out.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds the probabilities; torchmetrics would take logits in [0, 1] for probabilities."""
        if preds.device.type != "mps":  # which has no float64
            preds = preds.double()
        super().update(preds.softmax(dim=1), target)

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
        confusion = super().compute()
        rows = confusion.sum(dim=1)
        recalls = confusion.diag() / rows
        return recalls[rows > 0].mean()
