"""A table -> tensors -> seeded split -> loaders."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from iris_lightning.errors import UserError
from iris_lightning.files import same_file
from iris_lightning.hyperparameters import plain
from iris_lightning.noise import ClassNoise, add_noise
from iris_lightning.sharing import Batches, BatchLoader, BatchOrder, FixedBatches, Loader
from iris_lightning.tables.table import Table, check_options, load_iris_table

__all__ = ["IrisDataModule", "split_rows"]

SPLITS = ("train", "val", "test")


def split_rows(
    targets: Tensor, fractions: Sequence[float], seed: int, stratify: bool, class_names: Sequence[str] = ()
) -> list[Tensor]:
    """Splits the rows of a table into train, validation and test.

    Args:
        targets: Class of each row, int64, shape `(rows,)`.
        fractions: Share of each split; they sum to 1.
        seed: Seed of the split.
        stratify: Whether each split keeps the table's class shares.
        class_names: Names of the classes, for messages.

    Returns:
        Three int64 tensors of row numbers; without `stratify`, those of `torch.utils.data.random_split` in their order.
    """
    num_rows = len(targets)
    # As in random_split, without its lists: round down, then one more for each split in turn until no row is left.
    sizes = [math.floor(num_rows * fraction) for fraction in fractions]
    for i in range(num_rows - sum(sizes)):
        sizes[i % len(sizes)] += 1
    if 0 in sizes:
        raise UserError(f"{list(fractions)} of {num_rows} rows leave the {SPLITS[sizes.index(0)]} split empty", "split")
    if not stratify:
        order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
        return list(order.split(sizes))

    from sklearn.model_selection import train_test_split

    try:
        rows, classes = torch.arange(num_rows), targets.numpy()
        train, rest = train_test_split(rows, train_size=sizes[0], stratify=classes, random_state=seed)
        val, test = train_test_split(rest, train_size=sizes[1], stratify=classes[rest.numpy()], random_state=seed)
    except ValueError as error:
        rarest = dict(enumerate(class_names)).get(int(targets.bincount().argmin()))
        reason = f"cannot keep the class shares in splits of {sizes} rows, the rarest class being {rarest!r}"
        raise UserError(f"{reason}; expected a longer table, or false", "stratify") from error
    return [train, val, test]


class IrisDataModule(L.LightningDataModule):
    """A table of measurements with a class label, in three seeded splits; by default scikit-learn's Iris.

    Args:
        path: CSV file (`.csv`, `.tsv`, `.txt`, also with `.gz` or `.zst`) or Parquet file; null means Iris.
        target: Column of the class: text, whole numbers or booleans. By default `species`, else the last column.
        features: Columns of the features: numbers, or text as categories. By default all numbers but the target.
        missing: What to do with missing values: an `error`, `drop` the row, or take the train split's `mean`.
        decimal_comma: Whether numbers in the CSV file are written as `5,1`.
        separator: What is between columns, one of `, ; tab |`. By default found in the file.
        na_values: Texts that mean no value, as the empty cell does; by default NA, N/A, NaN, null, None and ?.
        batch_size: Rows per batch, over all processes.
        split_seed: Seed of the split, independent of the run's seed, so that the test rows stay the same.
        split: Shares of the train, validation and test splits; they sum to 1.
        stratify: Whether each split keeps the class shares of the whole table.
        num_workers: Processes that load batches beside the training; 0 is fastest for tables in memory.
        noise: Share of the variance within classes that is fresh noise in train batches, 0 to 1 (see `ClassNoise`).
        noise_shrinkage: Share by which the noise's covariances between features are less than those of the train split.
        minor_discriminants: What noise keeps of the class differences along all discriminants but the first, 0 to 1.

    A ValueError names what is out of range.
    """

    def __init__(
        self,
        path: str | None = None,
        target: str | None = None,
        features: list[str] | None = None,
        missing: Literal["error", "drop", "mean"] = "error",
        decimal_comma: bool = False,
        separator: Literal[",", ";", "tab", "|"] | None = None,
        na_values: list[str | int | float | bool | None] | None = None,
        batch_size: int = 10,
        split_seed: int = 20,
        split: Sequence[float] = (0.7, 0.2, 0.1),
        stratify: bool = False,
        num_workers: int = 0,
        noise: float = 0.0,
        noise_shrinkage: float = 0.0,
        minor_discriminants: float = 1.0,
    ) -> None:
        super().__init__()
        check_options(path, target, missing, decimal_comma, separator, na_values)
        ranges = {"batch_size": (batch_size, 1, 2**31), "split_seed": (split_seed, 0, 2**32)}
        for name, (number, least, end) in {**ranges, "num_workers": (num_workers, 0, 2**10)}.items():
            if number % 1 or not least <= number < end:
                raise ValueError(f"{name}: expected a whole number from {least} to {end - 1}, got {number}")
        if len(split) != 3 or not all(0 < fraction < 1 for fraction in split) or not math.isclose(sum(split), 1):
            raise ValueError(f"split: expected three fractions above 0 that sum to 1, got {list(split)}")
        shares = {"noise": noise, "noise_shrinkage": noise_shrinkage, "minor_discriminants": minor_discriminants}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: expected a number from 0 to 1, got {share}")
        if noise == 0 and (noise_shrinkage != 0 or minor_discriminants != 1):
            raise ValueError("noise: expected above 0 beside noise_shrinkage or minor_discriminants, got 0")
        self.save_hyperparameters()
        self.hparams.update(plain(dict(self.hparams)))
        self.batch_size = self.hparams["batch_size"]  # which Lightning's tuner may change
        self.seed = torch.initial_seed()  # of the run; `setup` notes it anew
        self._trained_on: dict[str, Any] = {}  # what a checkpoint says of its table and split
        self._tensors: dict[str, tuple[Tensor, Tensor]] = {}

    @cached_property
    def table(self) -> Table:
        """The whole table; a UserError says what in it, or in the options, does not fit."""
        options, known = self.hparams, self._trained_on
        features = known.get("feature_names") or options["features"]
        if options["path"] is None:
            table = load_iris_table(features)
        else:
            from iris_lightning.tables.reading import read_table  # here: Iris does without polars

            how = {name: options[name] for name in ("target", "missing", "decimal_comma", "separator", "na_values")}
            table = read_table(options["path"], features=features, class_names=known.get("class_names"), **how)
        options.update({} if known else {"target": table.target, "features": table.feature_names})  # for checkpoints
        return table

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of the network's inputs."""
        return self.table.feature_names

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return self.table.class_names

    @cached_property
    def rows(self) -> dict[str, Tensor]:
        """Row numbers of each split, int64, in their order; those of a checkpoint in use, if there is one."""
        options = {**self.hparams, **self._trained_on}
        if "sha256" in options and options["sha256"] != self.table.sha256:
            if same_file(options["path"], self.hparams["path"]):
                raise UserError(f"{self.table.source}: the table has changed, or how it is read, since the training")
            return dict.fromkeys(("val", "test"), torch.arange(len(self.table.targets)))  # all of another table
        how = options["split"], options["split_seed"], options["stratify"], self.class_names
        return dict(zip(SPLITS, split_rows(self.table.targets, *how), strict=True))

    def tensors(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns features, float32 of shape `(rows, features)`, and targets, int64 of shape `(rows,)`, of a split."""
        if self.trainer and self.trainer.lightning_module:
            self.table.check_names(self.trainer.lightning_module.hparams)
        if split not in self.rows:
            raise UserError(f"{self.table.source}: not the table that the checkpoint was trained with")
        if split not in self._tensors:
            self._tensors[split] = (self.table.features[self.rows[split]], self.table.targets[self.rows[split]])
        return self._tensors[split]

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint must know of the table to be evaluated on the rows it was not trained with."""
        options = {name: self.hparams[name] for name in ("path", "split", "split_seed", "stratify")}
        names = {"feature_names": self.feature_names, "class_names": self.class_names}
        return {"sha256": self.table.sha256, **names, **options, **self._trained_on, "path": options["path"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps to the table and the split of a checkpoint, whichever the options say."""
        if state_dict != self._trained_on:
            self._trained_on = state_dict
            vars(self).pop("rows", None)
            self._tensors.clear()
            if "table" in vars(self) and not self.table.is_named(state_dict):
                del self.table  # to be read anew, with other names

    def setup(self, stage: str) -> None:
        """Notes the seed of the run, that of its first process, and keeps to the split of a trained classifier."""
        if stage == "fit":
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed()) if self.trainer else torch.initial_seed()
        known = getattr(self.trainer.lightning_module, "trained_on", {}) if self.trainer else self._trained_on
        known = {} if stage == "fit" and known.get("sha256") != self.table.sha256 else known  # another table
        self.load_state_dict(known)
        if self.trainer and (stage == "fit") != bool(known):  # else a checkpoint may still say which table it is
            self.table.check_names(self.trainer.lightning_module.hparams)

    def train_dataloader(self) -> Loader:
        """Loads the train split, in a new order each epoch, seeded as the run is (`seed_everything`)."""
        return self._loader("train")

    def val_dataloader(self) -> Loader:
        """Loads the validation split, in order."""
        return self._loader("val")

    def test_dataloader(self) -> Loader:
        """Loads the test split, in order."""
        return self._loader("test")

    predict_dataloader = test_dataloader

    def _loader(self, split: str) -> Loader:
        trainer: Any = self.trainer
        process, num_processes = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        batches = Batches(*self.tensors(split), self.batch_size, process, num_processes)
        fixed = bool(trainer and trainer.overfit_batches)
        rows: Any = batches
        order = BatchOrder(batches, shuffle=split == "train" and not fixed, seed=self.seed)
        if split == "train" and self.hparams["noise"] > 0:
            rows, order = add_noise(batches, order, self.class_noise(*self.tensors(split)))
        if fixed:  # Lightning would take rows one by one from a `DataLoader`
            return FixedBatches(rows[batch] for batch in order)
        if trainer:  # which may draw the first order before it announces the epoch, not 0 in a resumed run
            order.set_epoch(trainer.fit_loop.epoch_progress.current.processed)
        workers, generator = self.hparams["num_workers"], torch.Generator()  # of its own: each epoch draws from it
        return BatchLoader(rows, batch_size=None, sampler=order, num_workers=workers, generator=generator)

    def class_noise(self, features: Tensor, targets: Tensor) -> ClassNoise:
        """Returns the noise that train rows, features and targets as of `tensors`, get within their classes."""
        how = [self.hparams[name] for name in ("noise", "noise_shrinkage", "minor_discriminants")]
        return ClassNoise(features, targets, len(self.class_names), *how)
