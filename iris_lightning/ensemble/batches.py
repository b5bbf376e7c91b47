"""Batches that hold rows of every member of a stack."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pad_sequence

from iris_lightning.batching import seeded_generator
from iris_lightning.ensemble.members import Member
from iris_lightning.table import Table


class StackBatch(NamedTuple):
    """One batch per member, padded to equal length with rows of weight 0.

    Attributes:
        features: Float32, shape `(members, rows, features)`.
        targets: Int64, shape `(members, rows)`.
        row_weights: Weight of each row in its batch's mean, float32, shape `(members, rows)`.
    """

    features: Tensor
    targets: Tensor
    row_weights: Tensor


class StackBatches:
    """Loads one split of all members; train rows are shuffled every epoch.

    Args:
        table: The table.
        members: The members of the stack.
        split: The split to load.
        batch_size: Rows per batch and member.
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
        self.shuffle = split == "train"
        self.batch_size = batch_size
        self.epoch = 0
        self.sampler = self  # Lightning calls `set_epoch` on a loader's sampler
        self.batch_sampler = None  # Lightning expects the attribute
        member_rows: list[Tensor] = [getattr(member, split) for member in members]
        sizes = torch.tensor([len(rows) for rows in member_rows])
        self.rows = pad_sequence(member_rows, batch_first=True)
        is_real = torch.arange(self.rows.shape[1]) < sizes.unsqueeze(1)
        self.row_weights = []
        for mask in is_real.split(batch_size, dim=1):
            num_rows = mask.sum(dim=1, keepdim=True)
            self.row_weights.append(mask / num_rows.clamp(min=1))

    def __len__(self) -> int:
        return len(self.row_weights)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which determines the order of the train rows."""
        self.epoch = epoch

    def _ordered_rows(self) -> Tensor:
        if not self.shuffle:
            return self.rows
        rows = self.rows.clone()
        for position, member in enumerate(self.members):
            size = len(member.train)
            generator = seeded_generator(member.seed, self.epoch)
            order = torch.randperm(size, generator=generator)
            rows[position, :size] = member.train[order]
        return rows

    def __iter__(self) -> Iterator[StackBatch]:
        batches = self._ordered_rows().split(self.batch_size, dim=1)
        for rows, row_weights in zip(batches, self.row_weights, strict=True):
            features = embedding(rows, self.table.features)  # faster than indexing
            yield StackBatch(features, self.table.targets[rows], row_weights)
