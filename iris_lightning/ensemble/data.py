"""The data of an ensemble: its members' train and validation rows."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from iris_lightning.data import IrisDataModule
from iris_lightning.ensemble.batches import StackBatches
from iris_lightning.ensemble.members import Member, inner_splits, make_group
from iris_lightning.ensemble.stack import EVALUATION_BATCH_SIZE
from iris_lightning.weights.averaging import EnsembleNetwork


class EnsembleDataModule(IrisDataModule):
    """A table whose train and validation rows are divided into one fold per member.

    Each member trains without its fold, so every row is validated by a member that has not seen it.
    The splits `train` and `val` both hold all train and validation rows; `test` is unchanged.

    Args:
        path: The table; see `IrisDataModule`.
        members: Number of members.
        **options: Options of `IrisDataModule`.
    """

    def __init__(self, path: str | None = None, *, members: int, **options: Any) -> None:
        super().__init__(path, **options)
        if members < 2:
            raise ValueError(f"members: expected at least 2, got {members}")

    @cached_property
    def rows(self) -> dict[str, Tensor]:
        """Row numbers of each split, int64."""
        rows = super().rows
        if "train" in rows:
            both = torch.cat([rows["train"], rows["val"]])
            rows["train"] = rows["val"] = both
        return rows

    @property
    def members(self) -> list[Member]:
        """Seed and rows of each member."""
        splits = inner_splits(self.rows["train"], self, self.hparams["members"])
        # Seeded like fold 0 of repeat 0 in a cross-validation.
        return make_group(splits, self.seed, 0, 0, self.rows["test"])

    def describe_split(self) -> dict[str, Any]:
        """Describes the table and the split, for checkpoints and `keep_to`."""
        return {**super().describe_split(), "members": self.hparams["members"]}

    def train_dataloader(self) -> Any:
        """Loads the train rows of all members."""
        self._follow_classifier()
        return StackBatches(self.table, self.members, "train", self.batch_size)

    def val_dataloader(self) -> Any:
        """Loads the validation rows of each member or, for another table, all rows."""
        self._follow_classifier()
        if "train" not in self.rows:
            return self._loader("val")
        return StackBatches(self.table, self.members, "val", EVALUATION_BATCH_SIZE)

    def predict_val(self, network: EnsembleNetwork, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Predicts each row of the split `val` by the member that has not seen it.

        Args:
            network: The trained ensemble.
            predict: Computes probabilities with `network`, shape `(rows, classes)`, from features.
        """
        probabilities = torch.empty(len(self.table.targets), len(self.class_names))
        try:
            for position, member in enumerate(self.members):
                network.only = position
                probabilities[member.val] = predict(self.table.features[member.val])
        finally:
            network.only = None
        return probabilities[self.rows["val"]]
