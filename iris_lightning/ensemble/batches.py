"""The batches of all members of a stack, side by side."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding

from iris_lightning.batching import seeded_generator
from iris_lightning.ensemble.members import Member
from iris_lightning.tables.table import Table


class StackBatch(NamedTuple):
    """A batch of each member; those with fewer rows than others are padded with rows of share 0."""

    features: Tensor  # float32, shape (members, rows, features)
    targets: Tensor  # int64, shape (members, rows)
    share: Tensor  # float32, shape (members, rows): weight of a row in the mean of its batch


class StackBatches:
    """Loads rows of each member; train rows are shuffled, as in an `IrisDataModule`.

    Args:
        table: The table.
        members: The members of the stack.
        split: Which of their rows.
        batch_size: Rows per batch of each member.
    """

    def __init__(
        self,
        table: Table,
        members: Sequence[Member],
        split: Literal["train", "val", "held_out"],
        batch_size: int,
    ) -> None:
        self.table = table
        self.members = members
        self.split = split
        self.batch_size = batch_size
        self.epoch = 0
        self.sampler = self  # where Lightning looks for `set_epoch`, as in a `DataLoader`
        self.batch_sampler = None
        rows = [getattr(member, split) for member in members]
        self.sizes = [len(own) for own in rows]
        longest = max(self.sizes)
        padded = [torch.cat([own, own[:1].expand(longest - len(own))]) for own in rows]
        self.rows = torch.stack(padded)
        counts = torch.arange(longest) < torch.tensor(self.sizes)[:, None]
        self.shares = []
        for mask in counts.split(batch_size, dim=1):
            self.shares.append(mask / mask.sum(dim=1, keepdim=True).clamp(min=1))

    def __len__(self) -> int:
        return len(self.shares)

    def set_epoch(self, epoch: int) -> None:
        """Notes the epoch, from which the order follows."""
        self.epoch = epoch

    def _ordered(self) -> Tensor:
        if self.split != "train":
            return self.rows
        order = torch.arange(max(self.sizes)).repeat(len(self.members), 1)
        for own, member, size in zip(order, self.members, self.sizes, strict=True):
            torch.randperm(
                size, generator=seeded_generator(member.seed, self.epoch), out=own[:size]
            )
        return self.rows.gather(1, order)

    def __iter__(self) -> Iterator[StackBatch]:
        batches = self._ordered().split(self.batch_size, dim=1)
        for rows, share in zip(batches, self.shares, strict=True):
            features = embedding(rows, self.table.features)  # an index, but faster
            yield StackBatch(features, self.table.targets[rows], share)
