"""A table -> seeded split -> loaders."""

import hashlib
import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from iris_lightning.errors import UserError

if TYPE_CHECKING:
    from iris_lightning.table import Table

__all__ = ["Batches", "IrisDataModule", "ShuffledBatches", "split_rows"]

PARTS = ("train", "val", "test")


def split_rows(targets: Tensor, fractions: tuple[float, float, float], seed: int, stratify: bool) -> list[Tensor]:
    """Deals the rows of a table out to train, validation and test.

    Args:
        targets: Class of each row, int64, shape `(rows,)`.
        fractions: Share of each part; they sum to 1.
        seed: Seed of the split.
        stratify: Whether each part keeps the table's class shares.

    Returns:
        Three int64 tensors of row numbers. Without `stratify` they are those of `torch.utils.data.random_split` with a
        generator seeded with `seed`, in the same order (without its Python list of all row numbers).

    Raises:
        UserError: If a part would be empty, or if stratifying needs more rows of a class than there are.
    """
    rows = len(targets)
    # As in random_split: round down, then one more for each part in turn until no row is left.
    sizes = [math.floor(rows * fraction) for fraction in fractions]
    for i in range(rows - sum(sizes)):
        sizes[i % len(sizes)] += 1
    if 0 in sizes:
        raise UserError(
            f"--data.split: {list(fractions)} of {rows} rows leaves the {PARTS[sizes.index(0)]} part empty; "
            "expected at least one row in each part"
        )
    if not stratify:
        return list(torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).split(sizes))

    from sklearn.model_selection import train_test_split

    def deal(part: Tensor, size: int) -> list[Tensor]:
        shares = targets[part].numpy()
        parts: list[Tensor] = train_test_split(part, train_size=size, stratify=shares, random_state=seed)
        return parts

    try:
        train, rest = deal(torch.arange(rows), sizes[0])
        validation, test = deal(rest, sizes[1])
    except ValueError as error:
        raise UserError(f"--data.stratify: cannot keep the class shares in parts of {sizes} rows: {error}") from error
    return [train, validation, test]


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """One part of a table, whose items are whole batches: no work is done row by row.

    Args:
        features: float32, shape `(rows, features)`.
        targets: int64, shape `(rows,)`.
        batch_size: Rows per batch; the last one may be shorter.
        process: Number of this process.
        processes: How many processes share each batch: without padding, so that shares may differ by a row or be empty.
    """

    def __init__(
        self, features: Tensor, targets: Tensor, batch_size: int, process: int = 0, processes: int = 1
    ) -> None:
        self.features = features
        self.targets = targets
        self.batch_size = batch_size
        self.process = process
        self.processes = processes

    def __len__(self) -> int:
        """Returns the number of batches."""
        return math.ceil(len(self.targets) / self.batch_size)

    def __getitem__(self, index: int | Tensor) -> tuple[Tensor, Tensor]:
        """Returns this process' share of the batch with this number in the order of the part, or of these rows."""
        if isinstance(index, int):
            first = index * self.batch_size
            share = self._share(min(self.batch_size, len(self.targets) - first))
            rows = slice(first + share.start, first + share.stop)
            return self.features[rows], self.targets[rows]
        index = index[self._share(len(index))]
        return self.features.index_select(0, index), self.targets.index_select(0, index)  # twice as fast as [index]

    def _share(self, rows: int) -> slice:
        return slice(rows * self.process // self.processes, rows * (self.process + 1) // self.processes)


class ShuffledBatches(Sampler[Tensor]):
    """Yields the row numbers of each batch, in an order that follows from the seed and the epoch alone.

    The Trainer announces each epoch through `set_epoch`, as it does to a `DistributedSampler`; so the order needs no
    state that a resumed run could lack.

    Args:
        dataset: What to shuffle.
        seed: Seed of the run.
    """

    def __init__(self, dataset: Batches, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from 0 on, whose order `iter` draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.dataset.targets), generator=generator)
        return iter(order.split(self.dataset.batch_size))

    def __len__(self) -> int:
        return len(self.dataset)


class IrisDataModule(L.LightningDataModule):
    """A table of measurements with a class label, in three seeded parts; by default scikit-learn's Iris.

    Args:
        path: CSV (also compressed: `.csv.gz`, `.csv.zst`) or Parquet file; null means scikit-learn's Iris.
        target: Column of the class: text, whole numbers or booleans. By default `species`, else the last column.
        features: Columns of the features; by default every numeric one but the target.
        missing: What a row that lacks a value is: an `error`, or one to `drop`.
        decimal_comma: Whether the CSV file separates columns with `;` and writes numbers as `5,1`.
        batch_size: Rows per batch, over all processes.
        split_seed: Seed of the split, apart from the seed of the run: a model is always tested on the same rows.
        split: Shares of the train, validation and test parts; they sum to 1.
        stratify: Whether each part keeps the class shares of the whole table.
        num_workers: Processes that load batches beside the training; 0 is fastest for tables in memory.
        predict_path: Table to predict, CSV or Parquet; `-` is standard input.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> data = IrisDataModule()
        >>> data.setup("test")
        >>> features, targets = next(iter(data.test_dataloader()))
        >>> features.shape, targets.shape
        (torch.Size([10, 4]), torch.Size([10]))
    """

    def __init__(
        self,
        path: str | None = None,
        target: str | None = None,
        features: list[str] | None = None,
        missing: Literal["error", "drop"] = "error",
        decimal_comma: bool = False,
        batch_size: int = 10,
        split_seed: int = 20,
        split: tuple[float, float, float] = (0.7, 0.2, 0.1),
        stratify: bool = False,
        num_workers: int = 0,
        predict_path: str | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= batch_size < 2**31:
            raise ValueError(f"batch_size: expected 1 to {2**31 - 1} rows, got {batch_size}")
        if not 0 <= split_seed < 2**32:
            raise ValueError(f"split_seed: expected a whole number from 0 to {2**32 - 1}, got {split_seed}")
        if not all(0 < fraction < 1 for fraction in split) or not math.isclose(sum(split), 1):
            raise ValueError(f"split: expected three fractions above 0 that sum to 1, got {list(split)}")
        if num_workers < 0:
            raise ValueError(f"num_workers: expected 0 or more processes, got {num_workers}")
        if path is None and predict_path is None:
            for name, value, default in (("target", target, "species"), ("missing", missing, "error")):
                if value not in (None, default):
                    raise ValueError(f"{name}: has no effect without a path, got {value!r}")
            if decimal_comma:
                raise ValueError("decimal_comma: has no effect without a path")
        split = cast("tuple[float, float, float]", list(split))  # checkpoints and YAML know no tuples
        self.save_hyperparameters(ignore="predict_path")
        self.predict_path = predict_path
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.parts: dict[str, Batches] = {}
        self.seed: int | None = None  # of the run, before the classifier seeds each epoch
        self._trained_on: dict[str, Any] = {}

    @cached_property
    def table(self) -> "Table":
        """The whole table.

        Raises:
            UserError: If the file is no table that the options fit.
        """
        from iris_lightning.table import load_iris_table, read_table  # here: `predict` and `export` need no such table

        options = self.hparams
        known = self._trained_on.get("class_names")
        if options["path"] is None:
            table = load_iris_table(options["features"])
        else:
            names = ("path", "target", "features", "missing", "decimal_comma")
            table = read_table(**{name: options[name] for name in names}, class_names=known)
        # What checkpoints say, and a later evaluation reads.
        options["target"], options["features"] = table.target, table.feature_names
        return table

    @cached_property
    def sha256(self) -> str:
        """Hash of the features and targets in their order; the same for CSV and Parquet of the same rows."""
        content = hashlib.sha256(self.table.features.numpy().data)
        content.update(self.table.targets.numpy().data)
        return content.hexdigest()

    @property
    def is_another_table(self) -> bool:
        """Whether a checkpoint is evaluated with other rows than it was trained with."""
        known = self._trained_on.get("sha256")
        return known is not None and known != self.sha256

    @cached_property
    def rows(self) -> dict[str, Tensor]:
        """Row numbers of each part, int64, in the order of the part.

        A table that the checkpoint was not trained with has one part, for whatever it is evaluated as.
        """
        if self.is_another_table:
            everything = torch.arange(len(self.table.targets))
            return {"val": everything, "test": everything}
        options = self.hparams
        try:
            parts = split_rows(self.table.targets, options["split"], options["split_seed"], options["stratify"])
        except UserError as error:
            if not str(error).startswith("--data.stratify"):
                raise
            counts = torch.bincount(self.table.targets)
            rarest = self.class_names[int(counts.argmin())]
            place = f"{self.table.source}: column {self.table.target!r}, class {rarest!r} has {counts.min()} rows"
            raise UserError(f"{error}\n{place}") from error
        return dict(zip(PARTS, parts, strict=True))

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of the network's inputs."""
        return self._trained_on.get("feature_names") or self.table.feature_names

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return self._trained_on.get("class_names") or self.table.class_names

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint must know of the table to be evaluated on the rows it was not trained with."""
        return {"sha256": self.sha256, "feature_names": self.feature_names, "class_names": self.class_names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes from a checkpoint what the table was, before one is read, and so that none need be."""
        self._trained_on = state_dict

    def setup(self, stage: str) -> None:
        """Builds the parts that a stage needs: train and val to fit, val to validate, test to test."""
        process, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        for part in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if part in self.parts:
                continue
            rows = self.rows[part]
            self.parts[part] = Batches(
                self.table.features[rows], self.table.targets[rows], self.batch_size, process, processes
            )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Loads the train part, in a new order each epoch, seeded as the run is (`seed_everything`)."""
        if self.seed is None:
            self.seed = torch.initial_seed() % 2**62
        sampler = ShuffledBatches(self.parts["train"], self.seed)
        if self.trainer is not None:
            # The Trainer draws the first order before it announces the epoch, which in a resumed run is not 0.
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            sampler.set_epoch(progress.processed)
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Loads the validation part, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Loads the test part, in order."""
        return self._loader("test")

    def _loader(self, part: str, sampler: ShuffledBatches | None = None) -> DataLoader[tuple[Tensor, Tensor]]:
        # batch_size=None: the dataset's items are batches already.
        # A generator of its own: else each epoch would draw from the global one, of which dropout draws as well.
        return DataLoader(
            self.parts[part],
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            generator=torch.Generator().manual_seed(0),
        )
