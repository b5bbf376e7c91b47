"""Cross-validation from Python, and how a stack is trained."""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.ensemble.baselines import score_baselines
from iris_lightning.ensemble.members import members_of_folds, split_into_stacks
from iris_lightning.ensemble.results import CrossValidation
from iris_lightning.ensemble.stack import EVALUATION_BATCH, StackedClassifier
from iris_lightning.errors import UserError
from iris_lightning.runs.threads import threads

MEMORY = 1e9  # bytes of a stack by default; the imports take 0.6e9
MAX_STACK = 1000  # by default: larger stacks are no faster
MAX_POINTS = 50  # of a curve
TRAINER: dict[str, Any] = {
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "num_sanity_val_steps": 0,
}


def cross_validate(
    model: Mapping[str, Any] | IrisClassifier | None = None,
    data: IrisDataModule | None = None,
    folds: int = 10,
    repeats: int = 10,
    fold_seed: int = 0,
    seed: int = 20,
    max_parallel: int | None = None,
    baselines: bool = False,
    **trainer: Any,
) -> CrossValidation:
    """Cross-validates a classifier: all folds are trained at once, as one stacked model.

    Each fold ends as a classifier that is trained alone on the fold's train rows, with the fold's
    seed. Nothing is written.

    Args:
        model: An `IrisClassifier`, also of a subclass, or options such as `{"hidden": [32]}`. A
            classifier is not changed; each fold trains a new one with its options.
        data: The table, how it is read, and the batch size; its split has no effect. By default
            Iris.
        folds: Folds of each repeat.
        repeats: Repeats, each with other folds.
        fold_seed: Seed of the folds, as scikit-learn's `random_state`.
        seed: Seed from which the initial weights and the order of the rows of each fold follow.
        max_parallel: Folds that are trained at once, by default up to 1000, within 2 GB. But for
            rounding and dropout, no result depends on it.
        baselines: Whether scikit-learn's classifiers are measured on the same folds.
        **trainer: Options of `lightning.Trainer`, such as `max_epochs`, by default 5.

    Raises:
        UserError: If the table, the folds or an option does not fit, or the training diverges.

    Example:
        >>> cross_validate(folds=5, repeats=1, max_epochs=1).summary()["rows"]
        150
    """
    data = data or IrisDataModule()
    table = data.table
    if not isinstance(model, IrisClassifier):
        options = {"impute": data.hparams["missing"] == "mean", **(model or {})}
        model = IrisClassifier(table.feature_names, table.class_names, **options)
    result = CrossValidation(table, folds, repeats, fold_seed, seed)

    def make_trainer() -> L.Trainer:
        return L.Trainer(**{"max_epochs": 5, **trainer}, **TRAINER)

    train_folds(result, model, data, make_trainer, max_parallel)
    if baselines:
        result.baselines = score_baselines(table, result.assigned, seed)
    return result


def train_folds(
    result: CrossValidation,
    model: IrisClassifier,
    data: IrisDataModule,
    make_trainer: Callable[[], L.Trainer],
    max_parallel: int | None = None,
) -> None:
    """Trains the folds of a cross-validation in stacks, and adds what they predict.

    Args:
        result: The cross-validation.
        model: A classifier, of whose class and hyperparameters those of the folds are made.
        data: The table and the batch size.
        make_trainer: Returns a new Trainer with the options `TRAINER`.
        max_parallel: Folds that are trained at once.
    """
    data.table.check_names(model.hparams)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if max_parallel is None:
        max_parallel = _largest_stack(model, parameters, data)
    if max_parallel < 1:
        raise UserError(f"expected at least 1, got {max_parallel}", "max_parallel")
    for stack in split_into_stacks(
        members_of_folds(result.assigned, result.seed), data.batch_size, max_parallel
    ):
        trainer = make_trainer()
        result.epochs = trainer.max_epochs or 0
        if result.epochs < 1:
            raise UserError(f"max_epochs: expected at least 1, got {result.epochs}")
        trainer.check_val_every_n_epoch = math.ceil(result.epochs / MAX_POINTS)
        with isolate_rng(), threads(None, len(stack) * parameters * data.batch_size):
            stacked = StackedClassifier(model, data, stack)
            trainer.fit(stacked)
            logits = torch.cat(cast("list[Tensor]", trainer.predict(stacked)), dim=1)
        for member, padded in zip(stack, logits.double(), strict=True):
            own = padded[: len(member.held_out)]
            if not own.isfinite().all():
                found = f"fold {member.fold} of repeat {member.repeat} has diverged"
                raise UserError(f"{found}; try a smaller learning rate")
            result.probabilities[member.repeat, member.held_out] = own.softmax(dim=1)
        for epoch, curves in stacked.curves.items():
            result.curves[epoch].append(curves)


def _largest_stack(model: IrisClassifier, parameters: int, data: IrisDataModule) -> int:
    """Returns how many folds, trained at once, take less than 2 GB in all."""
    rows, features = data.table.features.shape
    # The first dimension of weights and biases is the number of outputs of their layer.
    width = features + sum(parameter.shape[:1].numel() for parameter in model.parameters())
    batch = min(rows, max(data.batch_size, EVALUATION_BATCH))
    # Weights, gradients, the optimizer's state and intermediates; number, loss and share of each
    # train row; what the layers return for each row of a batch, and its gradients.
    numbers = 8 * parameters + 16 * rows + 4 * batch * width
    return max(1, min(MAX_STACK, int(MEMORY / (4 * numbers))))
