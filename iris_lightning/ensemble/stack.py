"""The members of a stack as one classifier, trained with `torch.func.vmap`."""

import copy
import inspect
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn, optim
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import get_total_norm

from iris_lightning.classifier import IrisClassifier
from iris_lightning.data import IrisDataModule
from iris_lightning.ensemble.batches import StackBatch, StackBatches
from iris_lightning.ensemble.members import Member
from iris_lightning.errors import UserError
from iris_lightning.network import uncompiled
from iris_lightning.tables.table import Table

EVALUATION_BATCH = 1024  # rows
CURVES = ("loss/train", "accuracy/train", "loss/val", "accuracy/val")
# The methods of the classifier that the stack calls, and that a subclass may therefore override.
USED = {
    "fit_statistics",
    "forward",
    "make_network",
    "make_optimizer",
    "row_losses",
    "weigh_classes",
}
# Optimizers that treat each number by itself, whatever else its tensor holds. Adagrad is one, too,
# but makes its state before the members are stacked.
ELEMENTWISE = {
    optim.ASGD,
    optim.Adadelta,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
    optim.SGD,
}


class _MemberStep(L.LightningModule):
    """Computes logits and losses of one member.

    A LightningModule, so that the Trainer is attached to the classifier as well.
    """

    def __init__(self, classifier: IrisClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the logits, the loss of each row, and the loss with the weight of its class."""
        logits = self.classifier(features)
        losses = self.classifier.row_losses(logits, targets).view_as(targets)
        return logits, losses, self.classifier.weigh_classes(losses, targets)


class StackedClassifier(L.LightningModule):
    """Several classifiers, each trained as if alone: no gradient depends on another member.

    Args:
        model: A classifier, of whose class and hyperparameters each member is made.
        data: The table and the batch size.
        members: Seed and rows of each member.

    Attributes:
        step: A copy of `model`, whose parameters and buffers are those of all members, stacked.
        curves: The `CURVES` of the members, shape `(4, members)`, by epoch.

    Raises:
        UserError: If the classifier cannot be stacked.
    """

    def __init__(
        self, model: IrisClassifier, data: IrisDataModule, members: Sequence[Member]
    ) -> None:
        super().__init__()
        _check_overrides(model)
        self.data = data
        self.members = members
        table = data.table
        classifiers: list[nn.Module] = [_make_member(model, table, member) for member in members]
        stacked = _prepare(copy.deepcopy(model), table, members[0])
        if repr(stacked.network) != repr(classifiers[0].network):
            changed = f"the modules of this {type(model).__name__} were replaced after it was made"
            raise UserError(f"{changed}; expected the network that make_network returns")
        stacked.load_state_dict(classifiers[0].state_dict())  # which compares shapes
        parameters, buffers = stack_module_state(classifiers)
        for name, parameter in stacked.named_parameters():
            parameter.data = parameters[name].to(parameter)
        for name, buffer in stacked.named_buffers():
            buffer.data = buffers[name].to(buffer)
        self.step = _MemberStep(stacked)
        self.curves: dict[int, Tensor] = {}
        self._seen = defaultdict[str, list[tuple[Tensor, Tensor, Tensor]]](list)  # in this epoch

    def train_dataloader(self) -> StackBatches:
        """Loads the train rows."""
        return StackBatches(self.data.table, self.members, "train", self.data.batch_size)

    def val_dataloader(self) -> StackBatches:
        """Loads the validation rows."""
        return StackBatches(self.data.table, self.members, "val", EVALUATION_BATCH)

    def predict_dataloader(self) -> StackBatches:
        """Loads the held-out rows."""
        return StackBatches(self.data.table, self.members, "held_out", EVALUATION_BATCH)

    def forward(self, batch: StackBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Returns logits, losses and weighted losses of all members, each of its own rows."""
        state: dict[str, Any] = {}
        for prefix, module in self.step.named_modules():  # each once, also where it is shared
            state.update(module.named_parameters(prefix, recurse=False))
            state.update(module.named_buffers(prefix, recurse=False))
        call = partial(functional_call, self.step, tie_weights=False)
        step = vmap(call, randomness="different")
        found: tuple[Tensor, Tensor, Tensor] = step(state, (batch.features, batch.targets))
        return found

    def _noted(self, batch: StackBatch, split: str) -> Tensor:
        """Returns the weighted losses of a batch, and notes it for the curves."""
        logits, losses, weighted = self(batch)
        correct = logits.argmax(dim=2) == batch.targets
        self._seen[split].append((losses.detach(), correct, batch.share > 0))
        return cast("Tensor", weighted)

    def on_train_epoch_start(self) -> None:
        """Begins the curves of an epoch."""
        self._seen.clear()

    def training_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Returns the sum of the members' losses."""
        return (self._noted(batch, "train") * batch.share).sum()

    def validation_step(self, batch: StackBatch, batch_idx: int) -> None:
        """Adds a batch of validation rows to the curves."""
        self._noted(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Adds a point to the curves; the epoch's train rows have all been seen."""
        means = []
        for split in ("train", "val"):
            parts = zip(*self._seen[split], strict=True)
            losses, correct, counts = (torch.cat(part, dim=1) for part in parts)
            for values in (losses, correct):
                means.append((values * counts).sum(dim=1) / counts.sum(dim=1))
        self.curves[self.current_epoch] = torch.stack(means).cpu()

    def predict_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Returns logits, shape `(members, rows, classes)`."""
        return cast("Tensor", self(batch)[0])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns what the classifier's `make_optimizer` makes of the stacked parameters."""
        parameters = list(self.step.parameters())
        tensors = [parameter.data for parameter in parameters]
        for parameter in parameters:
            parameter.data = parameter.data[0]  # groups may depend on the shapes of a member's
        made = self.step.classifier.make_optimizer(self.step.parameters())
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.data = tensor
        return made

    def on_fit_start(self) -> None:
        """Refuses optimizers and precisions with which members would mix."""
        stacked = set(self.parameters())
        for optimizer in self.trainer.optimizers:
            name = type(optimizer).__name__
            if type(optimizer) not in ELEMENTWISE:
                found = f"{name} would mix the folds; expected an elementwise one, such as AdamW"
                raise UserError(found, "optimizer")
            for group in optimizer.param_groups:
                if not stacked.issuperset(group["params"]):
                    raise UserError(
                        f"make_optimizer: {name} has parameters that are not the model's"
                    )
        if getattr(self.trainer.precision_plugin, "scaler", None):
            found = "precision 16-mixed would skip a step of all folds where one overflows"
            raise UserError(f"{found}; expected bf16-mixed")

    def configure_gradient_clipping(
        self,
        optimizer: optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients of each member by their own norm, as `clip_grad_norm_` does."""
        if not gradient_clip_val or gradient_clip_algorithm == "value":
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norms = vmap(partial(get_total_norm, foreach=False))(gradients)
        scale = (gradient_clip_val / (norms + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))


def _check_overrides(model: IrisClassifier) -> None:
    """Refuses a classifier with methods of its own that the stack does not call."""
    kinds = type(model).__mro__
    for owner in (model, *kinds[: kinds.index(IrisClassifier)]):
        for name, value in vars(owner).items():
            overrides = callable(value) and callable(getattr(IrisClassifier, name, None))
            if overrides and name not in USED and not name.startswith("__"):
                raise UserError(f"cross_validate does not use {type(model).__name__}.{name}")


def _make_member(model: IrisClassifier, table: Table, member: Member) -> IrisClassifier:
    """Makes a member's classifier as if alone after `seed_everything`."""
    parameters = inspect.signature(type(model)).parameters
    options = dict(model.hparams)
    if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters.values()):
        options = {name: value for name, value in options.items() if name in parameters}
    torch.manual_seed(member.seed)
    return _prepare(type(model)(**options), table, member)


def _prepare(classifier: IrisClassifier, table: Table, member: Member) -> IrisClassifier:
    """Fits a classifier's statistics, and refuses what cannot be stacked."""
    classifier.network = uncompiled(classifier.network)
    classifier.fit_statistics(table.features[member.train], table.targets[member.train])
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm1d) or getattr(module, "track_running_stats", False):
            raise UserError(f"{type(module).__name__} cannot be stacked; expected LayerNorm")
    return classifier
