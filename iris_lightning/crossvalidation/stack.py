"""The classifiers of many folds as one: their weights stacked, their losses added up, so that no gradients mix."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from iris_lightning.crossvalidation.folds import Fold, FoldBatch
from iris_lightning.errors import UserError
from iris_lightning.network import ACTIVATIONS, IrisNetwork
from iris_lightning.sharing import class_weights
from iris_lightning.tables.table import Table

__all__ = ["CURVES", "MakeOptimizer", "MakeScheduler", "StackedClassifier", "StackedNetwork"]

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
MakeScheduler = Callable[[torch.optim.Optimizer], LRScheduler]

CURVES = ("loss/train", "accuracy/train", "loss/val", "accuracy/val")
# Those of torch.optim that treat each number by itself, whichever others it stands beside in a tensor.
ELEMENTWISE = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")


class StackedNetwork(nn.Module):
    """Several networks of the same shape as one: from `(networks, rows, features)` to `(networks, rows, classes)`.

    The parameters of a network are a row of one tensor, `vectors`, so that an optimizer has one tensor to step. With
    `torch.func.vmap` and `functional_call` in place of the batched layers, a step would take twice as long.
    """

    def __init__(self, networks: Sequence[IrisNetwork]) -> None:
        super().__init__()
        self.inputs = copy.deepcopy(networks[0])  # what comes before the layers, with each network's own scale
        for name, _ in networks[0].named_buffers():
            setattr(self.inputs, name, torch.stack([one.get_buffer(name) for one in networks]).unsqueeze(1))
        self.inputs.layers = nn.Sequential()
        self.shapes = {name: parameter.shape for name, parameter in networks[0].named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.vectors = nn.Parameter(torch.stack([parameters_to_vector(one.parameters()).detach() for one in networks]))
        self.activation = ACTIVATIONS.get(str(networks[0].activation), nn.Identity)()

    def _tensors(self) -> dict[str, Tensor]:
        parts = self.vectors.split(self.sizes, dim=1)
        return {name: part.view(-1, *shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}

    def forward(self, features: Tensor) -> Tensor:
        """Computes the logits of each network from its own features."""
        *tensors, weight, bias = self._tensors().values()
        values: Tensor = self.inputs(features)
        for own_weight, own_bias in zip(tensors[::2], tensors[1::2], strict=True):
            values = self.activation(torch.baddbmm(own_bias.unsqueeze(1), values, own_weight.transpose(1, 2)))
        return torch.baddbmm(bias.unsqueeze(1), values, weight.transpose(1, 2))

    def state_of(self, network: int) -> dict[str, Tensor]:
        """Returns the state dict of one of the networks, as if it stood alone."""
        tensors = {name: tensor[network].detach() for name, tensor in self._tensors().items()}
        return tensors | {name: buffer[network, 0] for name, buffer in self.inputs.named_buffers()}


class StackedClassifier(L.LightningModule):
    """A classifier of each fold of a stack, trained side by side: the same arithmetic as one after the other.

    Args:
        options: Those of an `IrisClassifier`; each fold is one.
        table: The table, of whose train rows each fold takes its statistics.
        folds: The folds of the stack; the initial weights of each follow from its seed.
        optimizer: In place of Adam, made from the parameters.
        lr_scheduler: Made from the optimizer.

    Attributes:
        curves: For each epoch that was validated, its number and the `CURVES` of the folds, shape `(4, folds)`.
    """

    row_weight: Tensor | None

    def __init__(
        self,
        options: Mapping[str, Any],
        table: Table,
        folds: Sequence[Fold],
        optimizer: MakeOptimizer | None = None,
        lr_scheduler: MakeScheduler | None = None,
    ) -> None:
        super().__init__()
        inputs, outputs = len(table.feature_names), len(table.class_names)
        shape = {name: options[name] for name in ("hidden", "activation", "standardize", "impute")}
        networks = []
        with torch.random.fork_rng(devices=[]):
            for fold in folds:
                torch.manual_seed(fold.seed)
                networks.append(IrisNetwork(inputs, outputs, **shape))
                if shape["standardize"] or shape["impute"]:
                    networks[-1].fit_scaler(table.features[fold.train])
        self.network = StackedNetwork(networks)
        balanced = options["class_weight"] == "balanced"
        weights = [class_weights(table.targets[fold.train], outputs) for fold in folds if balanced]
        self.register_buffer("row_weight", torch.stack(weights) if balanced else None)
        self.optimizer = optimizer or partial(torch.optim.Adam, lr=options["lr"], weight_decay=options["weight_decay"])
        self.lr_scheduler = lr_scheduler
        self.curves: list[tuple[int, Tensor]] = []
        self.seen = defaultdict[str, list[tuple[Tensor, Tensor, Tensor]]](list)  # of the epoch in progress

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets the name of a hook, which Lightning notes 28 times a step, without torch's search for parameters.

        A tenth of the time of a step of a hundred folds.
        """
        if name == "_current_fx_name":
            vars(self)[name] = value
        else:
            super().__setattr__(name, value)

    def _fold_step(self, batch: FoldBatch, split: str) -> Tensor:
        """Returns the loss of each row, shape `(folds, rows)`, and keeps it for the curves."""
        logits: Tensor = self.network(batch.features)
        losses = cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none").view_as(batch.targets)
        if split == "val" or (self.current_epoch + 1) % (self.trainer.check_val_every_n_epoch or 1) == 0:
            self.seen[split].append((losses.detach(), logits.argmax(dim=2) == batch.targets, batch.share))
        return losses

    def training_step(self, batch: FoldBatch, batch_idx: int) -> Tensor:
        """Returns the sum of the folds' own losses: the gradient of each is that of its own loss."""
        losses = self._fold_step(batch, "train")
        if self.row_weight is not None:
            losses = losses * self.row_weight.gather(1, batch.targets)
        return (losses * batch.share).sum()

    def validation_step(self, batch: FoldBatch, batch_idx: int) -> None:
        """Adds a batch of held-out rows to the curves."""
        self._fold_step(batch, "val")

    def predict_step(self, batch: FoldBatch, batch_idx: int) -> Tensor:
        """Returns the logits of held-out rows, shape `(folds, rows, classes)`."""
        logits: Tensor = self.network(batch.features)
        return logits

    def on_validation_epoch_end(self) -> None:
        """Notes the curves of an epoch; its train rows are all behind it."""
        values = []
        for split in ("train", "val"):
            losses, correct, share = (torch.cat(parts, dim=1) for parts in zip(*self.seen.pop(split), strict=True))
            counts = share > 0
            values += [(part * counts).sum(dim=1) / counts.sum(dim=1) for part in (losses, correct)]
        self.curves.append((self.current_epoch, torch.stack(values).cpu()))

    def configure_optimizers(self) -> Any:
        """Returns the optimizer of all folds, and its scheduler if there is one, unless they would mix the folds."""
        optimizer = self.optimizer(self.parameters())
        kind = type(optimizer)
        if kind.__name__ not in ELEMENTWISE or not kind.__module__.startswith("torch.optim"):
            found = f"{kind.__name__} would mix the folds, whose weights stand in one tensor"
            raise UserError(f"{found}; expected one of {', '.join(ELEMENTWISE)}", "optimizer")
        if getattr(self.trainer.precision_plugin, "scaler", None):
            found = "precision 16-mixed would skip a step of all folds where one overflows"
            raise UserError(f"{found}; expected bf16-mixed or 32-true")
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise UserError("ReduceLROnPlateau would follow the held-out rows of all folds", "lr_scheduler")
        return [optimizer], [scheduler]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients of each fold by their own norm, as `torch.nn.utils.clip_grad_norm_` does for one."""
        if gradient_clip_val is None or gradient_clip_val <= 0 or gradient_clip_algorithm == "value":
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        gradients = self.network.vectors.grad
        if gradients is not None:
            gradients.mul_((gradient_clip_val / (gradients.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1))
