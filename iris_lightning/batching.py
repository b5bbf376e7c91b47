"""Batches that several processes can share, with every row counted once."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def seeded_generator(*numbers: int) -> torch.Generator:
    """Returns a generator seeded with several numbers, such as a seed and an epoch.

    The numbers are hashed. With `seed + epoch` instead, epoch 1 of one seed would equal epoch 0 of
    the next.
    """
    sequence = np.random.SeedSequence(numbers)
    seed = int(sequence.generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed)


class BatchDataset(TensorDataset):
    """Tensors that are indexed by the row numbers of a whole batch."""

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Returns the rows of each tensor; for long tables, four times as fast as indexing."""
        return tuple(tensor.index_select(0, rows) for tensor in self.tensors)


class BatchOrder(DistributedSampler[Any]):
    """Yields the row numbers of each batch; their order depends on seed and epoch alone.

    A resumed run thus continues in the same order without any saved state. Of each batch, a process
    gets its share, which may be empty, as there is no padding. It is a `DistributedSampler` because
    Lightning calls `set_epoch` on those, and replaces all others.

    Args:
        dataset: The rows.
        batch_size: Rows per batch, over all processes. The last batch may have fewer.
        num_processes: Number of processes that share each batch.
        rank: Rank of this process, from 0.
        shuffle: Whether to shuffle the rows in every epoch.
        seed: Seed of the order.
    """

    def __init__(
        self,
        dataset: TensorDataset,
        batch_size: int,
        num_processes: int,
        rank: int,
        shuffle: bool,
        seed: int,
    ) -> None:
        super().__init__(dataset, num_processes, rank, shuffle, seed)
        self.num_rows = len(dataset)
        self.batch_size = batch_size
        self.num_samples = math.ceil(self.num_rows / batch_size)  # batches, for `len`

    def __iter__(self) -> Iterator[Any]:
        order = torch.arange(self.num_rows)
        if self.shuffle:
            generator = seeded_generator(self.seed, self.epoch)
            order = torch.randperm(self.num_rows, generator=generator)
        for rows in order.split(self.batch_size):
            start = len(rows) * self.rank // self.num_replicas
            stop = len(rows) * (self.rank + 1) // self.num_replicas
            yield rows[start:stop]


class BatchLoader(DataLoader[tuple[Tensor, ...]]):
    """A `DataLoader` that indexes the tensors directly if it has no workers, which is faster."""

    def __iter__(self) -> Any:
        """Iterates over the batches of an epoch."""
        if self.num_workers:
            return super().__iter__()
        return map(self.dataset.__getitem__, self.sampler)


class FixedBatches(list[tuple[Tensor, ...]]):
    """The same batches in every epoch, for `overfit_batches`.

    Lightning would take a plain list for a list of loaders.
    """


Loader = BatchLoader | FixedBatches


def batch_loss(losses: Tensor) -> Tensor:
    """Returns the mean loss of a batch or, with several processes, this process's share of it.

    Lightning averages the gradients of all processes, whose numbers of rows may differ. The shares
    are scaled so that this average is the gradient of the mean loss over the whole batch.

    Args:
        losses: Losses of this process's rows, shape `(rows,)`.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return losses.mean()
    rows = torch.tensor(float(len(losses)), device=losses.device)
    dist.all_reduce(rows)
    return losses.sum() * (dist.get_world_size() / rows)


def balanced_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Returns class weights inversely proportional to class frequencies, shape `(num_classes,)`.

    They are those of scikit-learn's `class_weight="balanced"`.
    """
    rows = targets.bincount(minlength=num_classes)
    return len(targets) / (rows.count_nonzero() * rows.clamp(min=1))
