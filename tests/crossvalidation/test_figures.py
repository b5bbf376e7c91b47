"""The figures are scikit-learn's, and the standard error of a difference is that of Nadeau and Bengio."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from iris_lightning.crossvalidation.figures import difference, figures_of_folds, figures_of_rows, summary_of


def test_the_figures_of_each_fold_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    targets = draw.integers(0, 4, size=200)
    assigned = np.stack([draw.permutation(np.arange(200) % 7) for _ in range(3)]).astype(np.int32)
    probabilities = draw.dirichlet([0.1] * 4, size=(3, 200))
    probabilities[0, :5] = [0, 0, 1, 0]  # certain, and sometimes wrong
    found = figures_of_folds(targets, probabilities, assigned)
    for repeat, number in np.ndindex(3, 7):
        rows = assigned[repeat] == number
        true, predicted = targets[rows], probabilities[repeat, rows].argmax(axis=1)
        expected = {
            "accuracy": accuracy_score(true, predicted),
            "log_loss": log_loss(true, probabilities[repeat, rows], labels=range(4)),
            "f1": f1_score(true, predicted, average="macro"),
        }
        assert {name: values[repeat, number] for name, values in found.items()} == pytest.approx(expected)
    rows_found = figures_of_rows(["a", "b", "c", "d"], targets, probabilities)
    true, predicted = np.tile(targets, 3), probabilities.argmax(axis=2).ravel()
    assert rows_found["confusion"] == confusion_matrix(true, predicted).tolist()
    scores = precision_recall_fscore_support(true, predicted)
    for i, name in enumerate(("precision", "recall", "f1")):
        assert [own[name] for own in rows_found["by_class"].values()] == pytest.approx(list(scores[i]))


def test_the_standard_error_is_that_over_the_repeats() -> None:
    values = np.array([[0.9, 1.0], [0.7, 0.8], [0.8, 0.9]])
    expected = {"mean": 0.85, "std": np.std(values, ddof=1), "standard_error": 0.1 / 3**0.5}
    assert summary_of(values) == pytest.approx(expected)
    assert summary_of(values[:1])["standard_error"] == pytest.approx(0.05)  # of a single repeat: over its folds


def test_the_error_of_a_difference_is_corrected_for_shared_train_rows() -> None:
    ours, theirs = np.random.default_rng(1).random((2, 4, 5))
    found = difference(ours, theirs)
    variance = np.var(ours - theirs, ddof=1)
    test_rows, train_rows = 30, 120  # of five folds of 150 rows
    assert found["mean"] == pytest.approx((ours - theirs).mean())
    assert found["standard_error"] == pytest.approx(((1 / 20 + test_rows / train_rows) * variance) ** 0.5)
