"""Cross-validation: trains the folds in stacks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.ensemble.baselines import score_baselines
from iris_lightning.ensemble.members import Member, groups_of_folds, split_into_stacks
from iris_lightning.ensemble.results import CrossValidation
from iris_lightning.ensemble.stack import EVALUATION_BATCH_SIZE, StackedClassifier
from iris_lightning.errors import UserError
from iris_lightning.runs.threads import threads

MAX_STACK_BYTES = 1e9  # imported libraries take another 0.6e9
MAX_STACK_SIZE = 1000  # networks; larger stacks are no faster
TRAINER: dict[str, Any] = {  # options that differ from Lightning's defaults
    "max_epochs": 5,
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


def cross_validate(
    model: Mapping[str, Any] | IrisClassifier | None = None,
    data: IrisDataModule | None = None,
    folds: int = 10,
    repeats: int = 10,
    fold_seed: int = 0,
    seed: int = 20,
    members: int = 1,
    choose: Literal["best", "last"] = "best",
    baselines: bool = False,
    **trainer: Any,
) -> CrossValidation:
    """Cross-validates a classifier; the folds are trained at once, as stacked models.

    A stack has at most 1000 networks, and fewer if it would need more than about 1 GB of memory.

    In each fold, the held-out rows are the test split. Unless `choose` is `last`, the others are
    divided as in `fit`: in the ratio of the data module's train and validation splits or, for an
    ensemble, into inner folds.
    The classifier of each fold is the same as if it had been trained alone, with the fold's seed.
    Nothing is written to disk.

    Args:
        model: An `IrisClassifier` or an instance of a subclass, or options such as
            `{"hidden": [32]}`. An instance serves as a template and is not changed.
        data: The table, how to read it, its split and the batch size. By default Iris.
        folds: Number of folds per repeat.
        repeats: Number of repeats, each with a different assignment of rows to folds.
        fold_seed: Seed of the folds: scikit-learn's `random_state`.
        seed: Seed from which the initial weights and the order of the rows in each fold are
            derived.
        members: Number of classifiers per fold, whose probabilities are averaged.
        choose: `best` to predict with the epoch of the lowest validation loss; `last` to train on
            all rows that are not held out, and predict with the last epoch.
        baselines: Whether to score scikit-learn's classifiers, not only the majority class, on the
            same folds.
        **trainer: Options of `lightning.Trainer`, such as `max_epochs`, which is 5 by default. An
            `EarlyStopping` on `loss/val` among its callbacks stops each fold independently.

    Raises:
        UserError: If the table or an option is not suitable, or if training diverges.

    Example:
        >>> cross_validate(folds=5, repeats=1, max_epochs=1).summary()["rows"]
        150
    """
    data = data or IrisDataModule()
    table = data.table
    if not isinstance(model, IrisClassifier):
        options = data.classifier_options() | dict(model or {})
        model = IrisClassifier(**options)
    table.check_options(model.hparams)
    result = CrossValidation(table, folds, repeats, fold_seed, seed, members, choose)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    largest = _largest_stack(model, num_parameters, data)
    groups = groups_of_folds(result.assigned, data, members, seed, choose)
    for stack in split_into_stacks(groups, data.batch_size, largest):
        work = len(stack) * members * num_parameters * data.batch_size
        with isolate_rng(), threads(work):
            stack_trainer = L.Trainer(**(TRAINER | trainer))
            _train_stack(result, model, data, stack, stack_trainer)
    names = None if baselines else ["majority"]  # None: all
    result.baselines = score_baselines(table, result.assigned, seed, names)
    return result


def _train_stack(
    result: CrossValidation,
    model: IrisClassifier,
    data: IrisDataModule,
    stack: Sequence[list[Member]],
    trainer: L.Trainer,
) -> None:
    """Trains some of the folds, and adds their predictions and curves to the result."""
    result.epochs = trainer.max_epochs or 0
    if result.epochs < 1:
        raise UserError(f"max_epochs: expected at least 1, got {trainer.max_epochs}")
    patience = _take_patience(trainer)
    if result.choose == "last" and patience < math.inf:
        raise UserError("last: cannot be combined with EarlyStopping", "choose")
    stacked = StackedClassifier(model, data, stack, result.choose, patience)
    trainer.fit(stacked)
    batches = cast("list[Tensor]", trainer.predict(stacked))
    logits = torch.cat(batches, dim=1).double()
    for group, group_logits in zip(stack, logits.split(result.members), strict=True):
        _add_predictions(result, group[0], group_logits)
    for epoch, curves in stacked.curves.items():
        result.curves[epoch].append(curves)
    network = stacked.best.classifier.network
    result.networks.append(network.state_dict())


def _take_patience(trainer: L.Trainer) -> float:
    """Removes `EarlyStopping` from a Trainer and returns its patience, or infinity without one.

    `StackedClassifier` stops each fold independently instead.
    """
    patience = math.inf
    for stopping in trainer.early_stopping_callbacks:
        supported = EarlyStopping("loss/val", patience=stopping.patience)
        if vars(stopping) != vars(supported):
            expected = "a new EarlyStopping('loss/val', patience=N), without other options"
            raise UserError(f"expected {expected}", "trainer.callbacks")
        patience = min(patience, max(1, stopping.patience))  # to Lightning, 0 is like 1
        cast("Any", trainer).callbacks.remove(stopping)
    return patience


def _add_predictions(result: CrossValidation, member: Member, padded_logits: Tensor) -> None:
    """Adds the mean probabilities of a fold's members.

    Args:
        result: The cross-validation.
        member: Any of the members; all have the same held-out rows.
        padded_logits: Logits, shape `(members, rows, classes)`.
    """
    logits = padded_logits[:, : len(member.held_out)]
    if not logits.isfinite().all():
        fold = f"fold {member.fold} of repeat {member.repeat}"
        raise UserError(f"{fold} has diverged; try a smaller learning rate")
    probabilities = logits.softmax(dim=2).mean(dim=0)
    result.probabilities[member.repeat, member.held_out] = probabilities


def _largest_stack(model: IrisClassifier, num_parameters: int, data: IrisDataModule) -> int:
    """Estimates how many networks fit into `MAX_STACK_BYTES`."""
    rows, features = data.table.features.shape
    activations = features
    for parameter in model.parameters():
        activations += sum(parameter.shape)  # a weight has the shape (outputs, inputs)
    batch_rows = min(rows, max(data.batch_size, EVALUATION_BATCH_SIZE))
    # Current and best weights, gradients, optimizer state and temporary copies.
    floats = 9 * num_parameters
    # Row numbers, losses and weights of the rows, generously.
    floats += 16 * rows
    # Activations of a batch and their gradients.
    floats += 4 * batch_rows * activations
    bytes_per_network = 4 * floats
    return min(MAX_STACK_SIZE, int(MAX_STACK_BYTES / bytes_per_network))
