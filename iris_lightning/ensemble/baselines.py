"""Scores scikit-learn's classifiers on the same folds, for comparison."""

from typing import Any

import numpy as np
from torch import Tensor

from iris_lightning.ensemble.results import Scores, score_folds
from iris_lightning.table import Table


def _pipeline_steps(seed: int) -> dict[str, list[Any]]:
    """Returns the preprocessing and estimator of each baseline."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    steps: dict[str, list[Any]] = {}
    steps["majority"] = [DummyClassifier()]
    steps["logistic_regression"] = [StandardScaler(), LogisticRegression(max_iter=1000)]
    steps["linear_discriminant_analysis"] = [LinearDiscriminantAnalysis()]
    steps["svc_rbf"] = [StandardScaler(), SVC()]
    steps["k_nearest_neighbors"] = [StandardScaler(), KNeighborsClassifier()]
    steps["random_forest"] = [RandomForestClassifier(random_state=seed)]
    return steps


def score_baselines(table: Table, assigned: Tensor, seed: int) -> dict[str, Scores]:
    """Cross-validates scikit-learn's classifiers.

    Args:
        table: The table.
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
        seed: Seed of the random forest.

    Returns:
        The metrics of each classifier in each fold, shape `(repeats, folds)`. `SVC` has no
        log-loss. A classifier that cannot be trained has no metrics at all: nearest neighbors, for
        example, with fewer rows than neighbors.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline

    features = table.features.double().numpy()
    scores: dict[str, Scores] = {}
    for name, steps in _pipeline_steps(seed).items():
        classifier = make_pipeline(SimpleImputer(keep_empty_features=True), *steps)
        method = "predict"
        if hasattr(classifier, "predict_proba"):
            method = "predict_proba"
        predictions = []
        try:
            for folds in assigned.numpy():
                splitter = PredefinedSplit(folds)
                predicted = cross_val_predict(
                    classifier, features, table.targets, cv=splitter, method=method
                )
                predictions.append(predicted)
            scores[name] = score_folds(table, np.stack(predictions), assigned)
        except ValueError:
            scores[name] = {}
    return scores
