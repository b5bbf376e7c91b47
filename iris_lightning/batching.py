"""Batches, which several processes may share: every row counts once."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler


def seeded_generator(*numbers: int) -> torch.Generator:
    """Returns a generator whose draws follow from these numbers alone, such as a seed and an epoch.

    They are mixed: with `seed + epoch`, epoch 1 of one seed would be epoch 0 of the next.
    """
    mixed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed))


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Features and targets in whole batches, which is three times as fast as row by row.

    Features are float32 of shape `(rows, features)`, targets int64 of shape `(rows,)`. `batch_size`
    counts the rows of a batch over all processes, of which this one gets its share; the last batch
    may be shorter.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        batch_size: int,
        process: int = 0,
        num_processes: int = 1,
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
        rows = rows[self.process_share(len(rows))]
        return self.features.index_select(0, rows), self.targets.index_select(0, rows)

    def process_share(self, rows: int) -> slice:
        """Returns this process' share of so many rows, without padding: it may be empty."""
        first, end = (
            rows * number // self.num_processes for number in (self.process, self.process + 1)
        )
        return slice(first, end)


class BatchOrder(DistributedSampler[Any]):
    """The row numbers of each batch. Their random order follows from seed and epoch alone.

    So a resumed run needs no state to go on in the same order. It is a `DistributedSampler`, since
    Lightning leaves one alone and tells it each epoch (`set_epoch`); processes share each batch in
    `Batches`, so there is one "replica".
    """

    def __init__(self, batches: Batches, shuffle: bool = False, seed: int = 0) -> None:
        super().__init__(batches, num_replicas=1, rank=0, shuffle=shuffle, seed=seed)
        self.batches = batches
        self.num_samples = math.ceil(len(batches) / batches.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if not self.shuffle:
            return iter(torch.arange(len(self.batches)).split(self.batches.batch_size))
        generator = seeded_generator(self.seed, self.epoch)
        return iter(
            torch.randperm(len(self.batches), generator=generator).split(self.batches.batch_size)
        )


class BatchLoader(DataLoader[tuple[Tensor, Tensor]]):
    """A `DataLoader` that, without workers, indexes the tensors directly."""

    def __iter__(self) -> Any:
        """Iterates over the batches, in an order that the sampler draws now."""
        return (
            super().__iter__() if self.num_workers else map(self.dataset.__getitem__, self.sampler)
        )


class FixedBatches(list[tuple[Tensor, Tensor]]):
    """The same batches in every epoch. A plain list would be several loaders to Lightning."""


Loader = BatchLoader | FixedBatches


def batch_loss(losses: Tensor) -> Tensor:
    """Returns the mean loss of the rows of a batch, which several processes may share.

    Lightning averages the gradients of the processes. Each process' sum is scaled so that this
    average is the gradient of the mean over all rows, however they are shared.

    Args:
        losses: Of this process' rows, shape `(rows,)`.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return losses.mean()
    rows = torch.tensor(float(len(losses)), device=losses.device)
    dist.all_reduce(rows)
    return losses.sum() * (dist.get_world_size() / rows)


def balanced_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Returns the weight of a row of each class, shape `(num_classes,)`.

    As scikit-learn's `class_weight="balanced"`: with these weights, all classes count alike.
    """
    rows = targets.bincount(minlength=num_classes)
    return len(targets) / (rows.count_nonzero() * rows.clamp(min=1))
