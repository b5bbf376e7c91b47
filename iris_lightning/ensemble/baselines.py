"""Scores scikit-learn's classifiers on the same folds, for comparison."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iris_lightning.ensemble.results import Scores, score_folds
from iris_lightning.table import Table


def _classifiers(table: Table, seed: int) -> dict[str, Any]:
    """Returns all baselines except gradient boosting, with their preprocessing."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import make_column_transformer
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    is_number = ~np.isin(table.feature_names, table.one_hot_features)
    scaled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    prepare = make_column_transformer((scaled, is_number), remainder="passthrough")
    classifiers: dict[str, Any] = {
        "majority": DummyClassifier(),
        "logistic_regression": LogisticRegression(max_iter=1000),
        "linear_discriminant_analysis": LinearDiscriminantAnalysis(),
        "svc_rbf": CalibratedClassifierCV(SVC(), ensemble=False),  # for probabilities
        "k_nearest_neighbors": KNeighborsClassifier(),
        "random_forest": RandomForestClassifier(random_state=seed),
    }
    for name, classifier in classifiers.items():
        classifiers[name] = make_pipeline(prepare, classifier)
    return classifiers


def raw_columns(table: Table) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns the table's columns, and which of them are category codes; NaN means missing."""
    features = table.features.double().numpy()
    is_number = ~np.isin(table.feature_names, table.one_hot_features)
    columns = [features[:, is_number]]
    for column in table.columns:
        inputs = [f"{column.name}={category}" for category in column.categories]
        one_hot = features[:, np.isin(table.feature_names, inputs)]
        if one_hot.size:
            codes = one_hot.argmax(axis=1).astype(np.float64)
            codes[one_hot.sum(axis=1) == 0] = np.nan
            columns.append(codes)
    raw = np.column_stack(columns)
    is_code = np.arange(raw.shape[1]) >= is_number.sum()
    return raw, is_code


def score_baselines(
    table: Table, assigned: Tensor, seed: int, names: Collection[str] | None = None
) -> dict[str, Scores]:
    """Cross-validates scikit-learn's classifiers.

    Gradient boosting gets the columns of the table; the others get the network's features, with
    numbers imputed by their mean and scaled.

    Args:
        table: The table.
        assigned: The fold in which each row is held out, shape `(repeats, rows)`.
        seed: Seed of the random forest and of gradient boosting.
        names: Names of the baselines to score; by default all.

    Returns:
        The metrics of each classifier in each fold, shape `(repeats, folds)`. A classifier that
        cannot be trained has none: nearest neighbors, for example, with fewer rows than neighbors.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    raw, is_code = raw_columns(table)
    classifiers = _classifiers(table, seed)
    boosting = HistGradientBoostingClassifier(categorical_features=is_code, random_state=seed)
    classifiers["gradient_boosting"] = boosting
    scores: dict[str, Scores] = {}
    for name, classifier in classifiers.items():
        if names is not None and name not in names:
            continue
        features = raw if classifier is boosting else table.features.double().numpy()
        predictions = []
        try:
            for folds in assigned.numpy():
                splitter = PredefinedSplit(folds)
                predicted = cross_val_predict(
                    classifier, features, table.targets, cv=splitter, method="predict_proba"
                )
                predictions.append(predicted)
            scores[name] = score_folds(table, np.stack(predictions), assigned)
        except ValueError:
            scores[name] = {}
    return scores
