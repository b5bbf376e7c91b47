"""Metrics of folds equal those of scikit-learn; standard errors are correct."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from torchmetrics.classification import MulticlassCohenKappa

from iris_lightning.ensemble import results
from iris_lightning.ensemble.baselines import score_baselines
from iris_lightning.ensemble.members import assign_folds
from iris_lightning.ensemble.results import (
    CrossValidation,
    difference,
    mean_and_error,
)
from iris_lightning.metrics import make_metrics
from iris_lightning.table import Table, load_iris_table


@pytest.fixture
def guesses() -> CrossValidation:
    """Returns 3 repeats of 5 folds of Iris, with random probabilities."""
    result = CrossValidation(load_iris_table(), folds=5, repeats=3)
    result.probabilities = np.random.default_rng(0).dirichlet([0.1] * 3, size=(3, 150))
    result.probabilities[0, :5] = [0, 0, 1]  # certain, and wrong
    return result


def test_metrics_equal_scikit_learn(guesses: CrossValidation) -> None:
    targets = guesses.table.targets.numpy()
    for repeat, fold in np.ndindex(3, 5):
        rows = guesses.assigned[repeat].numpy() == fold
        probabilities = guesses.probabilities[repeat, rows]
        predictions = probabilities.argmax(axis=1)
        expected = {
            "accuracy": accuracy_score(targets[rows], predictions),
            "macro_f1": f1_score(targets[rows], predictions, average="macro"),
            "log_loss": log_loss(targets[rows], probabilities),
            "balanced_accuracy": balanced_accuracy_score(targets[rows], predictions),
            "roc_auc": roc_auc_score(targets[rows], probabilities, multi_class="ovr"),
        }
        found = {name: guesses.scores[name][repeat, fold] for name in expected}
        assert found == pytest.approx(expected)
    summary = guesses.summary()
    predictions = guesses.probabilities.argmax(axis=2).ravel()
    assert summary["confusion"] == confusion_matrix(np.tile(targets, 3), predictions).tolist()
    f1 = f1_score(np.tile(targets, 3), predictions, average=None)
    assert [scores["f1-score"] for scores in summary["by_class"].values()] == pytest.approx(
        list(f1)
    )


def test_a_new_metric_appears_in_the_results(
    guesses: CrossValidation, monkeypatch: pytest.MonkeyPatch
) -> None:
    kappa = {"kappa": MulticlassCohenKappa(3)}
    monkeypatch.setattr(results, "make_metrics", lambda classes: make_metrics(classes) | kappa)
    assert "kappa" in str(guesses)
    assert "kappa" in guesses.summary()


def test_standard_error_is_computed_over_repeats() -> None:
    values = np.array([[0.9, 1.0], [0.7, 0.8], [0.8, 0.9]])
    expected = {"mean": 0.85, "std": np.std(values, ddof=1), "standard_error": 0.1 / 3**0.5}
    assert mean_and_error(values) == pytest.approx(expected)
    assert mean_and_error(values[:1])["standard_error"] == pytest.approx(0.05)  # over the folds


def test_standard_error_of_a_difference_is_corrected() -> None:
    ours, theirs = np.random.default_rng(1).random((2, 4, 5))
    found = difference(ours, theirs)
    assert found["mean"] == pytest.approx((ours - theirs).mean())
    variance = (1 / 20 + 30 / 120) * np.var(ours - theirs, ddof=1)  # folds of 30 of 150 rows
    assert found["standard_error"] == pytest.approx(variance**0.5)


def test_baselines_equal_scikit_learn() -> None:
    table = load_iris_table()
    found = score_baselines(table, assign_folds(table, 2, 1, 3), seed=20)
    assert len(found) == 7
    folds = RepeatedStratifiedKFold(n_splits=2, n_repeats=1, random_state=3)
    features, targets = table.features.double().numpy(), table.targets.numpy()
    for name, scoring, sign in (("accuracy", "accuracy", 1), ("log_loss", "neg_log_loss", -1)):
        oracle = LinearDiscriminantAnalysis()
        scores = sign * cross_val_score(oracle, features, targets, cv=folds, scoring=scoring)
        assert found["linear_discriminant_analysis"][name].ravel() == pytest.approx(scores)


def test_untrainable_baselines_have_no_scores() -> None:
    targets = torch.tensor([0, 1, 0, 1])
    table = Table(torch.rand(4, 1), targets, ["x"], ["a", "b"], "kind", "rows", [])
    assigned = torch.tensor([[0, 0, 1, 1]])
    assert score_baselines(table, assigned, seed=20)["k_nearest_neighbors"] == {}
