"""What spares time in a training, by torch's and Lightning's own ways of being changed."""

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
from iris_lightning.metrics import EpochMetrics

__all__ = ["LeanClassifier", "LeanPrecision", "LeanStrategy", "NoProfiler", "threads"]

NOTHING = nullcontext()
HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
# Rows of a batch times parameters, from which on two threads are faster by a fifth: with 243 of the latter, at 4096
# rows. With less, they wait for each other, on a busy machine twenty times as long as the work takes.
WORK = 2**20


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

    hooked = True

    def connect(self, model: Any, optimizers: list[Any], lr_schedulers: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        """Looks whether a callback has such hooks; `IrisClassifier` has none, but that of a user's clipping."""
        hooks = [(getattr(item, name), vars(Callback)[name]) for item in model.trainer.callbacks for name in HOOKS]
        others = any(getattr(hook, "__func__", None) is not nothing for hook, nothing in hooks)
        self.hooked = others or model.trainer.gradient_clip_val is not None
        return model, optimizers, lr_schedulers

    def pre_backward(self, tensor: Tensor, module: Any) -> Tensor:
        """Calls the hooks."""
        return super().pre_backward(tensor, module) if self.hooked else tensor

    def post_backward(self, tensor: Tensor, module: Any) -> Tensor:
        """Calls the hooks."""
        return super().post_backward(tensor, module) if self.hooked else tensor

    def optimizer_step(self, optimizer: Any, model: Any, closure: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Steps, and calls the hooks and clips the gradients before."""
        if self.hooked:
            return super().optimizer_step(optimizer, model, closure, **kwargs)
        return optimizer.step(closure=closure, **kwargs)

    def forward_context(self) -> Any:
        """Returns a context that does nothing."""
        return NOTHING

    train_step_context = val_step_context = forward_context


class LeanClassifier(IrisClassifier):
    """An `IrisClassifier` for `fit`, which trains it to the same result."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets a plain attribute at once: Lightning notes the name of each hook that it calls, 400 in an epoch."""
        if name in self.__dict__ and not isinstance(value, (Tensor, torch.nn.Module)):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def _log(self, split: str, metrics: EpochMetrics) -> None:
        """Logs the metrics of an epoch to where `self.log` has them get, which takes a third of a millisecond for each.

        These are the loggers, the progress bar, and what the Trainer keeps for callbacks and schedulers.
        """
        trainer = self.trainer
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.accumulate_grad_batches > 1:
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


@contextmanager
def threads(number: int | None, work: int) -> Iterator[None]:
    """Sets torch's threads within an operation, and sets them back in the end.

    Args:
        number: As a user wants it; by default one for little work, and else what torch has chosen.
        work: Rows of a batch times parameters.
    """
    before = torch.get_num_threads()
    if number is not None and number < 1:
        raise UserError(f"expected a whole number from 1, got {number}", "threads")
    little = work < WORK and not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys()
    torch.set_num_threads(number or (1 if little else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
