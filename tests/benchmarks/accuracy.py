"""Accuracy and log-loss of a preset and of scikit-learn's classifiers on public tables.

    python tests/benchmarks/tables.py --accuracy

Five stratified folds per table, the same for all classifiers. Prints a line per table, then the
geometric means of the ratios of the log-losses (below 1, ours is better) and the mean accuracies.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from lightning.pytorch.callbacks import EarlyStopping
from numpy.typing import NDArray
from torch import Tensor

from iris_lightning import IrisDataModule, cross_validate
from iris_lightning.ensemble.baselines import raw_columns, score_baselines
from iris_lightning.ensemble.results import score_folds
from iris_lightning.table import Table

PRESET = Path(__file__).parents[2] / "configs" / "accurate.yaml"
DEVELOPMENT = {
    "german": ("KEEL", "Class"),
    "vehicle": ("KEEL", "Class"),
    "sonar": ("KEEL", "Class"),
    "ionosphere": ("KEEL", "Class"),
    "contraceptive": ("KEEL", "Class"),
    "saheart": ("KEEL", "Class"),
    "breast_cancer": ("scikit-learn", "target"),
    "wine": ("scikit-learn", "target"),
    "fgl": ("MASS", "type"),
    "weather": ("vega", "weather"),
    "attrition": ("modeldata", "Attrition"),
    "TitanicSurvival": ("carData", "survived"),
    "yeast3": ("KEEL", "Class"),
    "tic-tac-toe": ("KEEL", "Class"),
    "vowel": ("KEEL", "Class"),
    "mammographic": ("KEEL", "Class"),
}
CONFIRMATION = {
    "OJ": ("ISLR", "Purchase"),
    "hpc_data": ("modeldata", "class"),
    "HMDA": ("AER", "deny"),
    "segment": ("KEEL", "Class"),
    "crx": ("KEEL", "Class"),
    "bands": ("KEEL", "Class"),
    "led7digit": ("KEEL", "Class"),
    "biopsy": ("MASS", "class"),
    "phoneme": ("KEEL", "Class"),
    "cells": ("modeldata", "class"),
    "CreditCard": ("AER", "card"),
    "credit_data": ("modeldata", "Status"),
}


# The ten with the fewest rows.
SMALL = [
    *("wine", "sonar", "fgl", "ionosphere", "bands"),
    *("saheart", "led7digit", "breast_cancer", "crx", "biopsy"),
]


class Scores(NamedTuple):
    """Accuracy and log-loss on a table, by classifier, and the seconds that ours took."""

    accuracy: dict[str, float]
    log_loss: dict[str, float]
    seconds: float


def preset() -> dict[str, Any]:
    """Returns the preset's options, as arguments of `cross_validate` and `IrisDataModule`."""
    config = yaml.safe_load(PRESET.read_text())
    callbacks = []
    for callback in config["trainer"].pop("callbacks", []):
        callbacks.append(EarlyStopping(**callback["init_args"]))
    options = {"members": config.get("members", 1), "callbacks": callbacks, **config["trainer"]}
    return {"model": config["model"], "data": config["data"], "options": options}


def predict_realmlp(table: Table, folds: Tensor) -> NDArray[np.float64]:
    """Returns the probabilities of RealMLP-TD for each row while held out."""
    from pytabkit import RealMLP_TD_Classifier

    columns, is_code = raw_columns(table)
    frame = pd.DataFrame(columns)
    frame = frame.fillna(frame.mean())
    for i in np.flatnonzero(is_code):
        frame[i] = frame[i].round().astype(int).astype(str).astype("category")
    probabilities = np.empty((len(frame), len(table.class_names)))
    for fold in range(int(folds.max()) + 1):
        held_out = (folds == fold).numpy()
        classifier = RealMLP_TD_Classifier(device="cpu", random_state=0, verbosity=0)
        classifier.fit(frame[~held_out], table.targets.numpy()[~held_out])
        probabilities[held_out] = classifier.predict_proba(frame[held_out])
    return probabilities


def measure(path: Path, target: str, realmlp: bool) -> Scores:
    """Cross-validates the preset and the baselines on a table."""
    recipe = preset()
    data = IrisDataModule(path=str(path), target=target, **recipe["data"])
    data.table  # noqa: B018 - read before the clock starts
    start = time.perf_counter()
    result = cross_validate(recipe["model"], data, folds=5, repeats=1, **recipe["options"])
    seconds = time.perf_counter() - start
    names = ("majority", "logistic_regression", "gradient_boosting")
    result.baselines = score_baselines(result.table, result.assigned, 0, names)
    scores = {"ours": result.scores, **result.baselines}
    if realmlp:
        predicted = predict_realmlp(result.table, result.assigned[0])
        scores["realmlp"] = score_folds(result.table, predicted[None], result.assigned)
    accuracy, log_loss = {}, {}
    for classifier, values in scores.items():
        accuracy[classifier] = float(values["accuracy"].mean())
        log_loss[classifier] = float(values["log_loss"].mean())
    return Scores(accuracy, log_loss, seconds)


def geometric_mean(ratios: Iterable[float]) -> float:
    """Returns the geometric mean."""
    return math.exp(np.mean([math.log(ratio) for ratio in ratios]))


def compare(tables: Iterable[str], load: Callable[[str, str], Any], realmlp: bool = False) -> None:
    """Prints the scores on each table and their means.

    Args:
        tables: Names of the tables.
        load: Returns a table as a data frame.
        realmlp: Whether to train RealMLP-TD, too, which takes minutes per table.
    """
    found = []
    for table in tables:
        source, target = {**DEVELOPMENT, **CONFIRMATION}[table]
        frame = load(source, table)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "table.csv")
            frame.to_csv(path, index=False)
            scores = measure(path, target, realmlp)
        found.append(scores)
        cells = []
        for classifier, accuracy in scores.accuracy.items():
            cells.append(f"{classifier} {accuracy:.3f} {scores.log_loss[classifier]:.4f}")
        print(f"{table:16} {'  '.join(cells)}  {scores.seconds:.1f} s", flush=True)
    lr = [scores.log_loss["ours"] / scores.log_loss["logistic_regression"] for scores in found]
    hgb = [scores.log_loss["ours"] / scores.log_loss["gradient_boosting"] for scores in found]
    worse = [scores.log_loss["ours"] > scores.log_loss["majority"] for scores in found]
    print(f"log-loss to logistic regression {geometric_mean(lr):.4f}")
    print(f"log-loss to gradient boosting {geometric_mean(hgb):.4f}")
    print(f"log-loss to the better of both {geometric_mean(map(max, lr, hgb)):.4f}")
    print(f"tables worse than the class shares: {sum(worse)}")
    for classifier in found[0].accuracy:
        mean = np.mean([scores.accuracy[classifier] for scores in found])
        print(f"mean accuracy of {classifier} {mean:.4f}")
