"""The metrics of a classifier."""

from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


def make_metrics(num_classes: int) -> dict[str, Metric | MetricCollection]:
    """Returns the metrics of predictions, by name.

    A metric added here appears in the curves of `fit`, in what `test` and `crossvalidate` print,
    and in `summary.json`. It is updated with logits or probabilities of shape `(rows,
    num_classes)` as `preds`, and int64 classes of shape `(rows,)` as `target`.
    """
    return {
        # Correct predictions over all rows.
        "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        # The mean of the F1 scores of the classes that occur, which a frequent class cannot
        # dominate.
        "macro_f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
    }


def epoch_metrics(num_classes: int, split: str) -> MetricCollection:
    """Returns `loss/<split>`, the mean of the row losses, and the metrics of an epoch.

    Update it with `value`, the losses of the rows, beside `preds` and `target`.
    """
    metrics = make_metrics(num_classes)
    metrics["loss"] = MeanMetric(nan_strategy="disable")  # a diverged loss is logged as NaN
    return MetricCollection(metrics, postfix=f"/{split}", compute_groups=False)
