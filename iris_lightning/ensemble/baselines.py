"""scikit-learn's classifiers on the same folds, for comparison."""

import contextlib
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iris_lightning.ensemble.results import score_folds
from iris_lightning.tables.table import Table


def _baselines(seed: int) -> dict[str, list[Any]]:
    """Returns the steps of each classifier's pipeline."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return {
        "majority": [DummyClassifier()],
        "logistic_regression": [StandardScaler(), LogisticRegression(max_iter=1000)],
        "linear_discriminant_analysis": [LinearDiscriminantAnalysis()],
        "svc_rbf": [StandardScaler(), SVC()],
        "k_nearest_neighbors": [StandardScaler(), KNeighborsClassifier()],
        "random_forest": [RandomForestClassifier(random_state=seed)],
    }


def score_baselines(
    table: Table, assigned: Tensor, seed: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Returns the metrics of each classifier in each fold, shape `(repeats, folds)`.

    `SVC` has no log-loss. A classifier that cannot be trained has no metrics at all, such as
    nearest neighbours with fewer rows than neighbours.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline

    features = table.features.double().numpy()
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, steps in _baselines(seed).items():
        classifier = make_pipeline(SimpleImputer(keep_empty_features=True), *steps)
        method = "predict_proba" if hasattr(classifier, "predict_proba") else "predict"
        predict = partial(cross_val_predict, classifier, features, table.targets, method=method)
        found[name] = {}
        with contextlib.suppress(ValueError):
            predictions = [predict(cv=PredefinedSplit(folds)) for folds in assigned.numpy()]
            found[name] = score_folds(table, np.stack(predictions), assigned)
    return found
