"""A stack of classifiers, trained as one with `torch.func.vmap`."""

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

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
from iris_lightning.table import Table
from iris_lightning.weights.averaging import own_tensors

EVALUATION_BATCH_SIZE = 1024
CURVES = ("loss/train", "accuracy/train", "loss/val", "accuracy/val")
# The methods that the stack calls. Overriding any other would have no effect, so it is refused.
SUPPORTED_OVERRIDES = {
    "fit_statistics",
    "forward",
    "make_network",
    "make_optimizer",
    "row_losses",
    "weigh_classes",
}
# Optimizers that update each weight by its own gradient alone, so that members do not interact. Not
# Adagrad: it allocates its state when it is created, in the shapes of a single member (see
# `make_optimizer`).
ELEMENTWISE_OPTIMIZERS = {
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.SGD,
}


class _MemberStep(L.LightningModule):
    """Computes the logits and losses of one member.

    It is a LightningModule so that Lightning passes the Trainer on to the classifier, whose
    `make_optimizer` may use `self.trainer`.
    """

    def __init__(self, classifier: IrisClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the logits, the loss of each row, and the losses times their class weights."""
        logits = self.classifier(features)
        # `view_as` fails unless an overridden `row_losses` returns one loss per row.
        losses = self.classifier.row_losses(logits, targets).view_as(targets)
        return logits, losses, self.classifier.weigh_classes(losses, targets)


class StackedClassifier(L.LightningModule):
    """Trains several classifiers at once, each with the same result as if trained alone.

    Args:
        model: Template: each member is a new classifier of its class, with its hyperparameters.
        data: The table and the batch size.
        groups: Seed and rows of each member. A group is an ensemble, or a single classifier; all
            groups have the same size.
        choose: `best` keeps each member's weights from the epoch with its lowest validation loss;
            `last` keeps those of the last epoch.
        patience: The weights of a group become final after this many consecutive validations
            without an improvement of any of its members. Training ends once all groups are final.

    Attributes:
        step: Holds a copy of `model` with the stacked parameters and buffers of all members.
        best: The same, with the weights to keep.
        best_losses: Validation loss of each member in its best epoch, shape `(members,)`.
        curves: The metrics named in `CURVES` by epoch, shape `(4, members)`.

    Raises:
        UserError: If the classifier cannot be stacked.
    """

    best_losses: Tensor
    waits: Tensor

    def __init__(
        self,
        model: IrisClassifier,
        data: IrisDataModule,
        groups: Sequence[Sequence[Member]],
        choose: str = "best",
        patience: float = math.inf,
    ) -> None:
        super().__init__()
        _check_overrides(model)
        self.data = data
        self.members = [member for group in groups for member in group]
        self.choose = choose
        self.patience = patience
        table = data.table
        classifiers: list[nn.Module] = []
        for member in self.members:
            classifiers.append(_make_member(model, table, member))
        # A copy of the model, whose tensors are replaced by the stacked ones below.
        stacked = _prepare(copy.deepcopy(model), table, self.members[0])
        if repr(stacked.network) != repr(classifiers[0].network):
            found = f"the network of this {type(model).__name__} was replaced after construction"
            raise UserError(f"{found}; override make_network instead")
        parameters, buffers = stack_module_state(classifiers)
        tensors = {**parameters, **buffers}
        for name, tensor in (*stacked.named_parameters(), *stacked.named_buffers()):
            tensor.data = tensors[name].to(tensor)
        self.step = _MemberStep(stacked)
        self.best = self.step
        if choose == "best":
            self.best = copy.deepcopy(self.step).requires_grad_(False)
        self.register_buffer("best_losses", torch.full((len(self.members),), torch.inf))
        # Validations since the last improvement of each group.
        self.register_buffer("waits", torch.zeros(len(groups)))
        self.curves: dict[int, Tensor] = {}
        # Totals of this epoch by split, shape `(3, members)`: losses, correct predictions, rows.
        self._sums: dict[str, Tensor] = {}

    def train_dataloader(self) -> StackBatches:
        """Loads the train rows."""
        return StackBatches(self.data.table, self.members, "train", self.data.batch_size)

    def val_dataloader(self) -> StackBatches:
        """Loads the validation rows."""
        return StackBatches(self.data.table, self.members, "val", EVALUATION_BATCH_SIZE)

    def predict_dataloader(self) -> StackBatches:
        """Loads the held-out rows."""
        return StackBatches(self.data.table, self.members, "held_out", EVALUATION_BATCH_SIZE)

    def compute(self, batch: StackBatch, split: str) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the logits, losses and weighted losses of all members.

        The batch is also added to the sums for the curves.
        """
        logits, losses, class_weighted_losses = _call(self.step, batch)
        is_correct = logits.argmax(dim=2) == batch.targets
        is_real = batch.row_weights > 0
        values = torch.stack([losses.detach().float(), is_correct, is_real])
        sums = (values * is_real).sum(dim=2)
        self._sums[split] = self._sums.get(split, 0) + sums
        return logits, losses, class_weighted_losses

    def on_train_epoch_start(self) -> None:
        """Resets the sums that the curves are computed from."""
        self._sums.clear()

    def training_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Returns the sum of the members' losses: its gradients are those of each member alone."""
        _, _, losses = self.compute(batch, "train")
        return (losses * batch.row_weights).sum()

    def validation_step(self, batch: StackBatch, batch_idx: int) -> None:
        """Adds a batch of validation rows to the sums for the curves."""
        self.compute(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Adds a point to the curves, and keeps the weights of members that have improved.

        If an epoch has several validations, the train metrics are those of the rows so far.
        """
        if self.trainer.sanity_checking:
            return
        means = []
        for split in ("train", "val"):
            loss, correct, rows = self._sums[split]
            means += [loss / rows, correct / rows]
        del self._sums["val"]
        self.curves[self.current_epoch] = torch.stack(means).cpu()
        if self.choose == "best":
            self._keep_best(means[CURVES.index("loss/val")])

    def _keep_best(self, losses: Tensor) -> None:
        """Keeps the weights of members that have improved, unless their group is final."""
        is_open = self.waits < self.patience
        is_better = (losses < self.best_losses).view(len(self.waits), -1)
        is_better &= is_open.unsqueeze(1)
        self.waits += 1
        self.waits[is_better.any(dim=1)] = 0
        improved = is_better.flatten()
        self.copy_to_best(improved)
        self.best_losses[improved] = losses[improved]
        if (self.waits >= self.patience).all():
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        """Keeps the last weights of members that never had a finite validation loss."""
        if self.choose == "best":
            self.copy_to_best(self.best_losses.isinf())

    def copy_to_best(self, chosen: Tensor) -> None:
        """Keeps the current weights of some members, given as a mask of shape `(members,)`."""
        tensors = self.step.state_dict()
        for name, best in self.best.state_dict().items():
            best[chosen] = tensors[name][chosen]

    def predict_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Returns logits, shape `(members, rows, classes)`."""
        return _call(self.best, batch)[0]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimizer that the classifier makes for the stacked parameters."""
        return self.make_optimizer(self.step.classifier.make_optimizer)

    def make_optimizer(
        self, make: Callable[[Iterable[nn.Parameter]], OptimizerLRScheduler]
    ) -> OptimizerLRScheduler:
        """Calls a classifier's `make_optimizer` on the stacked parameters."""
        parameters = list(self.step.parameters())
        stacked_tensors = [parameter.data for parameter in parameters]
        # Parameter groups may depend on shapes (no weight decay for biases, say), so parameters
        # have the shapes of a single member during the call.
        for parameter in parameters:
            parameter.data = parameter.data[0]
        optimizer = make(self.step.parameters())
        for parameter, tensor in zip(parameters, stacked_tensors, strict=True):
            parameter.data = tensor
        return optimizer

    def on_fit_start(self) -> None:
        """Refuses optimizers and a precision that would make members depend on each other."""
        if self.trainer.precision == "16-mixed":
            found = "16-mixed skips a step of all members if one overflows; expected bf16-mixed"
            raise UserError(found, "trainer.precision")
        stacked = set(self.step.parameters())
        for optimizer in self.trainer.optimizers:
            name = type(optimizer).__name__
            if type(optimizer) not in ELEMENTWISE_OPTIMIZERS:
                found = f"{name} cannot train a stack; expected another one, such as AdamW"
                raise UserError(found, "optimizer")
            for group in optimizer.param_groups:
                if not stacked.issuperset(group["params"]):
                    raise UserError(
                        f"make_optimizer: {name} has parameters that do not belong to the model"
                    )

    def configure_gradient_clipping(
        self,
        optimizer: optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients of each member by its own norm, like `clip_grad_norm_`."""
        if not gradient_clip_val or gradient_clip_algorithm == "value":
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        gradients = [p.grad for p in self.step.parameters() if p.grad is not None]
        norms = vmap(partial(get_total_norm, foreach=False))(gradients)
        scale = (gradient_clip_val / (norms + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.transpose(0, -1).mul_(scale)  # members last, so that scale broadcasts


def mean_and_quartiles(curves: Tensor) -> list[list[float]]:
    """Returns the mean and the quartiles of each metric in `CURVES` over the members."""
    values = curves.double()
    mean = values.mean(dim=1)
    lower = values.quantile(0.25, dim=1)
    upper = values.quantile(0.75, dim=1)
    rows: list[list[float]] = torch.stack([mean, lower, upper], dim=1).tolist()
    return rows


def _call(step: _MemberStep, batch: StackBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the logits, losses and weighted losses of all members."""
    call = partial(functional_call, step, tie_weights=False)
    stacked_call = vmap(call, randomness="different")
    inputs = (batch.features, batch.targets)
    outputs: tuple[Tensor, Tensor, Tensor] = stacked_call(own_tensors(step), inputs)
    return outputs


def _check_overrides(model: IrisClassifier) -> None:
    """Refuses overridden methods that the stack does not call."""
    classes = type(model).__mro__
    subclasses = classes[: classes.index(IrisClassifier)]
    for owner in (model, *subclasses):
        for name, value in vars(owner).items():
            is_override = callable(value) and callable(getattr(IrisClassifier, name, None))
            if is_override and name not in SUPPORTED_OVERRIDES and not name.startswith("__"):
                raise UserError(
                    f"a stack does not call the overridden {type(model).__name__}.{name}"
                )


def _make_member(model: IrisClassifier, table: Table, member: Member) -> IrisClassifier:
    """Makes the classifier of a member, with its seed."""
    parameters = inspect.signature(type(model)).parameters
    options = dict(model.hparams)
    if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters.values()):
        # A subclass may record more hyperparameters than its own constructor takes.
        for name in options.keys() - parameters.keys():
            del options[name]
    torch.manual_seed(member.seed)
    return _prepare(type(model)(**options), table, member)


def _prepare(classifier: IrisClassifier, table: Table, member: Member) -> IrisClassifier:
    """Fits scaling and class weights to a member's train rows; refuses what cannot be stacked."""
    classifier.network = uncompiled(classifier.network)
    classifier.fit_statistics(table.features[member.train], table.targets[member.train])
    for module in classifier.modules():
        if hasattr(module, "track_running_stats"):  # running statistics would include padded rows
            raise UserError(f"{type(module).__name__} cannot be stacked; expected LayerNorm")
    return classifier
