"""The metrics of a classifier."""

from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


def make_metrics(num_classes: int) -> dict[str, Metric | MetricCollection]:
    """Returns the metrics by name.

    A metric added here appears in the curves of `fit`, in the output of `test` and `crossvalidate`,
    and in `summary.json`. It computes a single number. It is updated with `preds`, logits of shape
    `(rows, num_classes)`, and `target`, int64 classes of shape `(rows,)`.
    """
    metrics: dict[str, Metric | MetricCollection] = {}
    metrics["accuracy"] = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
    # The mean F1 score of the classes, so that a frequent class does not dominate.
    metrics["macro_f1"] = MulticlassF1Score(num_classes, average="macro", validate_args=False)
    return metrics


def epoch_metrics(num_classes: int, split: str) -> MetricCollection:
    """Returns the metrics of an epoch and `loss/<split>`, the mean of the row losses.

    Besides `preds` and `target`, it is updated with `value`, the losses of the rows.
    """
    metrics = make_metrics(num_classes)
    metrics["loss"] = MeanMetric(nan_strategy="disable")  # so that a diverged loss is logged as NaN
    return MetricCollection(metrics, postfix=f"/{split}", compute_groups=False)
