"""How far the probabilities of a classifier can be trusted."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Reliability", "reliability_of"]


class Reliability(NamedTuple):
    """How often predictions of some confidence are right, in bins of equal width from 0 to 1.

    The confidence of a prediction is its probability. Bins without rows have accuracy and confidence 0.
    """

    rows: Tensor  # of each bin, int64, shape (bins,)
    accuracy: Tensor  # share of them whose prediction is right
    confidence: Tensor  # their mean confidence

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over the rows of the distance between accuracy and confidence.

        As defined by Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3.
        """
        return float((self.rows * (self.accuracy - self.confidence).abs()).sum() / self.rows.sum())


def reliability_of(probabilities: Tensor, targets: Tensor, bins: int = 10) -> Reliability:
    """Sorts predictions into bins by their confidence.

    Args:
        probabilities: Those of the classes, shape `(rows, classes)`.
        targets: True classes, int64, shape `(rows,)`.
        bins: Number of bins; each has its upper edge, as in (0.9, 1].
    """
    confidence, predictions = probabilities.double().max(dim=1)
    number = (confidence * bins).ceil().long().clamp(1, bins) - 1
    rows = number.bincount(minlength=bins)
    right = (predictions == targets).double()
    accuracy, mean = (number.bincount(values, bins) / rows.clamp(min=1) for values in (right, confidence))
    return Reliability(rows, accuracy, mean)
