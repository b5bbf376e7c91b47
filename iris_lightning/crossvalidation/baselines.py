"""scikit-learn's classifiers on the same folds, so that "better" has a meaning."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iris_lightning.crossvalidation.folds import folds_of
from iris_lightning.tables.table import Table

__all__ = ["figures_of_baselines"]

SCORES = {"accuracy": "accuracy", "log_loss": "neg_log_loss", "f1": "f1_macro"}


def _baselines(seed: int) -> dict[str, list[Any]]:
    """The classifiers, each with its scaler where the scale of the features matters to it."""
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


def figures_of_baselines(
    table: Table, assigned: Tensor, seed: int
) -> Iterator[tuple[str, dict[str, NDArray[np.float64]]]]:
    """Yields each classifier's name and its figures of the folds, shape `(repeats, folds)`; `SVC` has no log-loss.

    One that cannot be trained, as nearest neighbours with fewer rows than neighbours, has no figures.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import cross_validate
    from sklearn.pipeline import make_pipeline

    features, targets = table.features.double().numpy(), table.targets.numpy()
    impute = [SimpleImputer(keep_empty_features=True)] if table.lacks_values else []
    for name, steps in _baselines(seed).items():
        scores = {
            key: score for key, score in SCORES.items() if key != "log_loss" or hasattr(steps[-1], "predict_proba")
        }
        splits = ((fold.train.numpy(), fold.held_out.numpy()) for fold in folds_of(assigned, seed))
        how: dict[str, Any] = {"cv": splits, "scoring": scores, "error_score": "raise"}
        try:
            found = cross_validate(make_pipeline(*impute, *steps), features, targets, **how)
        except ValueError:
            yield name, {}
            continue
        values = {key: found[f"test_{key}"].reshape(len(assigned), -1) for key in scores}
        yield name, {key: -value if key == "log_loss" else value for key, value in values.items()}
