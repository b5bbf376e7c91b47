"""What spares time in a training, by torch's and Lightning's own ways of being changed."""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from iris_lightning.classifier import IrisClassifier
from iris_lightning.errors import UserError
from iris_lightning.metrics import EpochMetrics, kahan_sum
from iris_lightning.runs.logger import RunLogger

__all__ = ["LeanClassifier", "LeanPrecision", "LeanStrategy", "MetricsAtOnce", "NoProfiler", "threads"]

NOTHING = nullcontext()
HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
# Rows of a batch times parameters, from which on two threads are faster than one, by a fifth: 4096 rows in the lesson's
# network. Below that, they wait for each other, on a busy machine twenty times as long as they work.
WORK = 2**20
MOST_THREADS = 256
MOST_WAITING = 32  # batches that are kept to be counted at once


class NoProfiler(PassThroughProfiler):
    """Measures nothing, as Lightning's own does where none is wanted, in a tenth of the time.

    Lightning surrounds each call of each hook with a context, a thousand times in an epoch of eleven steps.
    """

    def profile(self, action_name: str) -> Any:
        """Returns the same context each time, which does nothing."""
        return NOTHING


class LeanStrategy(SingleDeviceStrategy):
    """Lightning's for one device, which is the CPU: a batch is there already."""

    def batch_to_device(self, batch: Any, device: Any = None, dataloader_idx: int = 0) -> Any:
        """Returns the batch."""
        return batch


class LeanPrecision(Precision):
    """Lightning's own for float32, without contexts that do nothing, and hooks around a step that nobody has."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callback] | None = None
        self.hooked = True

    def _has_hooks(self, trainer: Any) -> bool:
        """Whether a callback has hooks around a step, of its class or, as `LambdaCallback`, of its own."""
        if trainer.callbacks != self.callbacks:
            self.callbacks = [*trainer.callbacks]
            hooks = [(getattr(item, name), getattr(Callback, name)) for item in self.callbacks for name in HOOKS]
            self.hooked = any(getattr(hook, "__func__", None) is not nothing for hook, nothing in hooks)
        return self.hooked

    def pre_backward(self, tensor: Tensor, module: Any) -> Tensor:
        """Calls the hooks."""
        return super().pre_backward(tensor, module) if self._has_hooks(module.trainer) else tensor

    def post_backward(self, tensor: Tensor, module: Any) -> Tensor:
        """Calls the hooks."""
        return super().post_backward(tensor, module) if self._has_hooks(module.trainer) else tensor

    def optimizer_step(self, optimizer: Any, model: Any, closure: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Steps; calls the hooks and clips the gradients before."""
        if self._has_hooks(model.trainer) or model.trainer.gradient_clip_val is not None:
            return super().optimizer_step(optimizer, model, closure, **kwargs)
        return optimizer.step(closure=closure, **kwargs)

    def forward_context(self) -> Any:
        """Returns a context that does nothing."""
        return NOTHING

    train_step_context = val_step_context = forward_context


class MetricsAtOnce(EpochMetrics):
    """`EpochMetrics` that counts many batches at once, to the same bits.

    One by one, counting a batch takes as long as its forward pass.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # batches that are not counted yet

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Keeps a batch, until there are many or the metrics are asked for."""
        if len(targets):
            self.waiting.append((loss, logits, targets))
        if len(self.waiting) == MOST_WAITING:
            self._count_waiting()

    def _count_waiting(self) -> None:
        if not self.waiting:
            return
        losses, logits, targets = zip(*self.waiting, strict=True)
        self.waiting = []
        total, excess = self.total_loss, self.excess
        for loss, batch in zip(losses, targets, strict=True):
            total, excess = kahan_sum(total, excess, loss * len(batch))
        self.total_loss, self.excess = total, excess
        self.count(torch.cat(logits), torch.cat(targets))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Counts what waits, which `compute` and the other processes must know."""
        self._count_waiting()
        super().sync(*args, **kwargs)

    def reset(self) -> None:
        """Forgets all batches."""
        self.waiting = []
        super().reset()


class LeanClassifier(IrisClassifier):
    """An `IrisClassifier` for the commands, which is trained to the same bits in less time."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets a plain attribute at once: Lightning notes the name of each hook that it calls, 400 in an epoch."""
        if name in self.__dict__ and not isinstance(value, (Tensor, torch.nn.Module)):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Has batches counted at once."""
        super().setup(stage)
        for split in ("train", "val", "test"):
            setattr(self, f"{split}_metrics", MetricsAtOnce(len(self.hparams["class_names"])))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam, which updates all parameters by one call for each operation, to the same bits."""
        optimizer = super().configure_optimizers()
        optimizer.param_groups[0]["foreach"] = True
        return optimizer

    def _log(self, split: str, metrics: EpochMetrics) -> None:
        """Hands on the metrics of an epoch without `self.log`, which takes a third of a millisecond for each.

        They reach the same places: the curves, and the metrics of the Trainer, which are dicts that may be added to.
        """
        trainer = self.trainer
        ours = all(isinstance(item, RunLogger) for item in trainer.loggers)  # others get their rows from Lightning
        if trainer.state.fn != "fit" or trainer.sanity_checking or not ours:
            return super()._log(split, metrics)
        if not metrics.update_called:
            return None
        values = {f"{name}/{split}": value for name, value in metrics.compute().items()}
        metrics.reset()
        numbers = {name: value.item() for name, value in values.items()}
        trainer.callback_metrics.update(values)
        trainer.logged_metrics.update(values)
        trainer.progress_bar_metrics.update(numbers)
        for logger in trainer.loggers:
            logger.log_metrics({**numbers, "epoch": trainer.current_epoch}, trainer.global_step - 1)
            logger.save()
        return None


for step in (IrisClassifier.training_step, IrisClassifier.validation_step):
    vars(step)["__signature__"] = inspect.signature(step)  # which Lightning asks for in each step


@contextmanager
def threads(number: int | None, work: int) -> Iterator[None]:
    """Sets torch's threads within an operation, and sets them back in the end.

    Args:
        number: As a user wants it; by default one for little work, and else what torch has chosen.
        work: Rows of a batch times parameters.
    """
    before = torch.get_num_threads()
    if number is not None and not 1 <= number <= MOST_THREADS:
        raise UserError(f"expected a whole number from 1 to {MOST_THREADS}, got {number}", "threads")
    little = work < WORK and not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys()
    torch.set_num_threads(number or (1 if little else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
