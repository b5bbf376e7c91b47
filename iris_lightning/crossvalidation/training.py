"""Cross-validation from Python, and how a stack of folds is trained."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.plugins import DoublePrecision
from torch import Tensor

from iris_lightning.classifier import IrisClassifier
from iris_lightning.crossvalidation.folds import Fold, FoldBatches, TrainBatches, stacks_of
from iris_lightning.crossvalidation.result import CrossValidation, Part
from iris_lightning.crossvalidation.stack import MakeOptimizer, MakeScheduler, StackedClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.errors import UserError

__all__ = ["TRAINER", "cross_validate", "largest_stack", "train_folds", "train_stack"]

MEMORY = 1e9  # bytes of a stack by default; the imports take 0.6e9
MOST = 1000  # folds in a stack by default: larger ones are no faster, and a stop costs more
HELD_OUT_BATCH = 1024  # rows; no result depends on it
MAX_POINTS = 100  # of a curve
# Outputs of a layer in a step, from which a second thread pays. With fewer, on a busy machine, threads wait for each
# other up to 30 times as long as they work.
MANY = 2e5
# Of the Trainer's options, those that have a part here. There is one process, and the result is all that is kept.
OPTIONS = {
    *("max_epochs", "accelerator", "precision", "gradient_clip_val", "gradient_clip_algorithm", "deterministic"),
    *("accumulate_grad_batches", "benchmark", "detect_anomaly", "inference_mode", "profiler"),
}
TRAINER: dict[str, Any] = {
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": None,  # all, once an epoch
    "val_check_interval": None,
}


def cross_validate(
    model: Mapping[str, Any] | None = None,
    data: IrisDataModule | None = None,
    folds: int = 10,
    repeats: int = 10,
    fold_seed: int = 0,
    seed: int = 20,
    max_parallel: int | None = None,
    baselines: bool = False,
    optimizer: MakeOptimizer | None = None,
    lr_scheduler: MakeScheduler | None = None,
    **trainer: Any,
) -> CrossValidation:
    """Cross-validates a classifier: all folds are trained at once, as one stacked model.

    Each fold ends as an `IrisClassifier` that is trained alone on the fold's train rows, with the fold's seed. Nothing
    is written.

    Args:
        model: Options of `IrisClassifier`, such as `{"hidden": [32], "lr": 0.01}`.
        data: The table, how it is read, and the batch size; its split has no part here. By default Iris.
        folds: Folds of each repeat.
        repeats: Repeats, each with other folds.
        fold_seed: Seed of the folds, as scikit-learn's `random_state`.
        seed: Seed from which the initial weights and the order of the train rows of each fold follow.
        max_parallel: Folds that are trained at once, by default up to 1000, within 2 GB. But for rounding, no result
            depends on it.
        baselines: Whether scikit-learn's classifiers are measured on the same folds.
        optimizer: In place of Adam, such as `partial(torch.optim.SGD, lr=0.1)`.
        lr_scheduler: Such as `partial(torch.optim.lr_scheduler.StepLR, step_size=2)`.
        **trainer: Options of `lightning.Trainer`, such as `max_epochs`, by default 5, or `accelerator`.

    Raises:
        UserError: If the table, the folds or an option does not fit, or the training diverges.

    Example:
        >>> cross_validate(folds=5, repeats=1, max_epochs=1).summary()["rows"]
        150
    """
    if unknown := sorted(trainer.keys() - OPTIONS):
        raise UserError(f"has no part in a cross-validation; expected {', '.join(sorted(OPTIONS))}", unknown[0])
    if (max_epochs := trainer.get("max_epochs", 5)) < 1:
        raise UserError(f"expected at least 1, got {max_epochs}", "max_epochs")
    data = data or IrisDataModule()
    table = data.table
    options = {"impute": data.hparams["missing"] == "mean", **(model or {})}
    one = IrisClassifier(table.feature_names, table.class_names, **options)
    result = CrossValidation(table, folds, repeats, fold_seed, seed)
    make_trainer = partial(L.Trainer, **{"max_epochs": 5, **TRAINER, **trainer})
    for part in train_folds(result, data, one, make_trainer, optimizer, lr_scheduler, max_parallel):
        result.add(part)
    if baselines:
        result.add_baselines()
    return result


def train_folds(
    result: CrossValidation,
    data: IrisDataModule,
    model: IrisClassifier,
    make_trainer: Callable[[], L.Trainer],
    optimizer: MakeOptimizer | None = None,
    lr_scheduler: MakeScheduler | None = None,
    max_parallel: int | None = None,
) -> Iterator[Part]:
    """Trains the folds that a cross-validation lacks, in stacks, and yields what each stack came to.

    Args:
        result: The cross-validation; its caller adds the parts to it.
        data: The table, the batch size and the noise.
        model: A classifier with the options of all folds'.
        make_trainer: Returns a new Trainer.
        optimizer: In place of Adam, made from the parameters.
        lr_scheduler: Made from the optimizer.
        max_parallel: Folds that are trained at once.
    """
    for stack in stacks_of(result.remaining(), data.batch_size, largest_stack(max_parallel, model, data)):
        stacked = StackedClassifier(model.hparams, data.table, stack, optimizer, lr_scheduler)
        yield train_stack(make_trainer(), stacked, data, stack)


def largest_stack(max_parallel: int | None, model: IrisClassifier, data: IrisDataModule) -> int:
    """Returns how many folds are trained at once; by default what takes less than 2 GB in all."""
    if max_parallel is not None:
        if max_parallel < 1:
            raise UserError(f"expected at least 1, got {max_parallel}", "max_parallel")
        return max_parallel
    rows, features = data.table.features.shape
    parameters = sum(parameter.numel() for parameter in model.parameters())
    widths = features + sum(layer.out_features for layer in model.network.layers if isinstance(layer, torch.nn.Linear))
    # Weights, gradients, Adam's moments and intermediates; for each train row its number, place in the epoch, loss and
    # share, some of them twice for a moment, and the draws of its noise, which has a matrix as well; for each row of a
    # batch what the layers put out and keep, and the gradients.
    noise = int(data.hparams["noise"] > 0)
    of_a_row = 16 + features * noise
    of_a_batch = min(rows, max(data.batch_size, HELD_OUT_BATCH)) * widths * 6
    of_a_fold = 8 * parameters + 2 * features**2 * noise + rows * of_a_row + of_a_batch
    return max(1, min(MOST, int(MEMORY / (4 * of_a_fold))))


def train_stack(trainer: L.Trainer, model: StackedClassifier, data: IrisDataModule, stack: Sequence[Fold]) -> Part:
    """Trains the folds of a stack side by side, and returns what their held-out rows say."""
    if isinstance(trainer.precision_plugin, DoublePrecision):
        model.double()
    trainer.check_val_every_n_epoch = max(1, math.ceil((trainer.max_epochs or 0) / MAX_POINTS))
    held_out = FoldBatches(data.table, [fold.held_out for fold in stack], HELD_OUT_BATCH)
    threads = torch.get_num_threads()
    if len(stack) * data.batch_size * max(shape[0] for shape in model.network.shapes.values()) < MANY:
        torch.set_num_threads(1)
    try:
        trainer.fit(model, TrainBatches(data, stack), held_out)
        logits = torch.cat(cast("list[Tensor]", trainer.predict(model, held_out)), dim=1)
    finally:
        torch.set_num_threads(threads)
    for fold, own in zip(stack, logits, strict=True):
        if not own[: len(fold.held_out)].isfinite().all():
            which = f"fold {fold.number} of repeat {fold.repeat}"
            raise UserError(f"{which} has diverged: what it predicts is not finite; try a smaller learning rate")
    epochs, curves = zip(*model.curves, strict=True)
    places = np.array([(fold.repeat, fold.number) for fold in stack])
    probabilities = logits.double().softmax(dim=2).numpy()  # on the CPU, where `predict` puts them
    return Part(places, probabilities, trainer.max_epochs or 0, np.array(epochs), torch.stack(curves).numpy())
