"""Data: from a table to tensors, a seeded split and loaders."""

import math
import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from iris_lightning.batching import BatchDataset, BatchLoader, BatchOrder, FixedBatches, Loader
from iris_lightning.errors import UserError
from iris_lightning.hyperparameters import to_builtin
from iris_lightning.table import CsvFormat, Table, TableWarning, load_iris_table

SPLITS = ("train", "val", "test")


def split_rows(
    targets: Tensor, fractions: Sequence[float], seed: int, stratify: bool
) -> list[Tensor]:
    """Splits rows into train, validation and test; no test if its fraction is 0 or missing.

    Args:
        targets: Class of each row, int64, shape `(rows,)`.
        fractions: Fraction of rows in each split; they sum to 1.
        seed: Seed of the split.
        stratify: Whether each split keeps the class frequencies of the table.

    Returns:
        An int64 tensor of row numbers for each split. Without `stratify`, they are those of
        `torch.utils.data.random_split`, in the same order.

    Raises:
        UserError: If a split would be empty or cannot be stratified.
    """
    num_rows = len(targets)
    fractions = [fraction for fraction in fractions if fraction > 0]
    # The sizes of random_split: rounded down, then the remaining rows are dealt out one by one.
    sizes = [math.floor(num_rows * fraction) for fraction in fractions]
    for i in range(num_rows - sum(sizes)):
        sizes[i % len(sizes)] += 1
    if 0 in sizes:
        empty = SPLITS[sizes.index(0)]
        found = f"{fractions} of {num_rows} rows leave the {empty} split empty"
        raise UserError(found, "split")
    if not stratify:
        order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
        return list(order.split(sizes))

    from sklearn.model_selection import train_test_split

    rows = torch.arange(num_rows)
    splits = []
    try:
        for size in sizes[:-1]:
            strata = targets[rows]
            split, rows = train_test_split(
                rows, train_size=size, stratify=strata, random_state=seed
            )
            splits.append(split)
    except ValueError as error:
        rarest = int(targets.bincount().min())
        found = f"splits of {sizes} rows cannot all have every class (the rarest has {rarest} rows)"
        raise UserError(f"{found}; set it to false, or add rows", "stratify") from error
    return [*splits, rows]


class IrisDataModule(L.LightningDataModule):
    """A table with a class column, divided into three seeded splits; Iris by default.

    Args:
        path: CSV file (`.csv`, `.tsv`, `.txt`, also with `.gz` or `.zst`) or Parquet file; null
            means scikit-learn's Iris.
        target: Column of the class: text, whole numbers or booleans. By default, the one called
            species, class, target or label, else the last column.
        features: Columns of the features. By default, all numbers and categories; columns of text
            or booleans are categories if they have 2 to 100 distinct values.
        exclude: Columns that are not features.
        categorical: Columns to treat as categories, even if they hold numbers, such as codes.
        missing: How to handle missing values: use the `mean` of the train split (a missing category
            is encoded as no category), `drop` the row, or raise an `error`.
        batch_size: Rows per batch, over all processes.
        split_seed: Seed of the split; independent of the run's seed, so that the test rows stay the
            same.
        split: Fractions of rows in the train, validation and test splits; they sum to 1. With 0 for
            test, a final model can use every row.
        stratify: Whether each split keeps the class frequencies of the table.
        num_workers: Number of worker processes that load batches; 0 is fastest for tables in
            memory.
        **csv: Format of a CSV file: options of `CsvFormat`.

    Attributes:
        trained_on: Description of the table and the split of a trained classifier, if `keep_to`
            was called; else empty.

    Raises:
        ValueError: If an option is out of range.
    """

    def __init__(
        self,
        path: str | None = None,
        target: str | None = None,
        features: list[str] | None = None,
        exclude: list[str] | None = None,
        categorical: list[str] | None = None,
        missing: Literal["mean", "drop", "error"] = "mean",
        batch_size: int = 10,
        split_seed: int = 20,
        split: Sequence[float] = (0.7, 0.2, 0.1),
        stratify: bool = False,
        num_workers: int = 0,
        **csv: Any,
    ) -> None:
        super().__init__()
        if missing not in ("mean", "drop", "error"):
            raise ValueError(f"missing: expected mean, drop or error, got {missing!r}")
        self.csv = CsvFormat(**csv)
        if path is None and (exclude or categorical or target not in (None, "species")):
            raise ValueError("path: target, exclude and categorical need a file, got null")
        _check_range("batch_size", batch_size, 1)
        _check_range("split_seed", split_seed, 0)
        are_fractions = len(split) == 3 and min(split) >= 0 and all(split[:2])
        if not are_fractions or not math.isclose(sum(split), 1):
            expected = "expected three fractions that sum to 1, of which only the last can be 0"
            raise ValueError(f"split: {expected}, got {list(split)}")
        self.save_hyperparameters()
        self.hparams.update(to_builtin({**self.hparams, **vars(self.csv)}))
        if path is not None:
            self.hparams["path"] = os.path.expanduser(path)
        self.batch_size = self.hparams["batch_size"]  # an attribute, for Lightning's tuner
        self.seed = torch.initial_seed()
        self.trained_on: dict[str, Any] = {}
        self._tensors: dict[str, tuple[Tensor, Tensor]] = {}

    @cached_property
    def table(self) -> Table:
        """The whole table.

        Raises:
            UserError: If the table cannot be read with these options.
        """
        options = self.hparams
        features = self.trained_on.get("feature_names", options["features"])
        if options["path"] is None:
            table = load_iris_table(features)
        else:
            # Imported here, as Iris does not need polars.
            from iris_lightning.tables.reading import read_table

            table = read_table(
                options["path"],
                self.csv,
                target=options["target"],
                features=features,
                exclude=options["exclude"] or (),
                categorical=options["categorical"] or (),
                missing=options["missing"],
                class_names=self.trained_on.get("class_names"),
                # Checkpoints of version 0.1.0 have no `columns`; their missing categories were NaN.
                fills_categories=not self.trained_on or "columns" in self.trained_on,
            )
            for note in table.notes:
                warnings.warn(f"{table.source}: {note}", TableWarning, stacklevel=2)
        if not self.trained_on:
            # Checkpoints record the options, which now name the chosen columns.
            options["target"] = table.target
            options["features"] = table.feature_names
        return table

    def classifier_options(self) -> dict[str, Any]:
        """Returns the options of an `IrisClassifier` that the table determines."""
        return {
            "feature_names": self.feature_names,
            "class_names": self.class_names,
            "impute": self.hparams["path"] is not None and self.hparams["missing"] == "mean",
            "one_hot_features": self.table.one_hot_features,
        }

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
        """Row numbers of each split, int64.

        After `keep_to`, the splits are those of the training. If that was on another table, there
        is no train split, and all rows are evaluated.
        """
        options = {**self.hparams, **self.trained_on}  # the path is that of the training
        if options.get("sha256") not in (None, self.table.sha256):
            trained_path = os.path.realpath(options["path"] or "")
            if os.path.realpath(self.hparams["path"] or "") == trained_path:
                found = "the table, or how it is read, has changed since the training"
                raise UserError(f"{self.table.source}: {found}")
            every_row = torch.arange(len(self.table.targets))
            return {"val": every_row, "test": every_row}
        splits = split_rows(
            self.table.targets, options["split"], options["split_seed"], options["stratify"]
        )
        rows = dict(zip(SPLITS, splits, strict=False))
        rows.setdefault("test", torch.empty(0, dtype=torch.int64))
        return rows

    def tensors(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns the features and targets of a split.

        Features are float32 of shape `(rows, features)`, targets int64 of shape `(rows,)`.
        """
        self._follow_classifier()
        if split not in self.rows:
            found = "not the table that the checkpoint was trained with"
            raise UserError(f"{self.table.source}: {found}")
        if split not in self._tensors:
            rows = self.rows[split]
            self._tensors[split] = self.table.features[rows], self.table.targets[rows]
        return self._tensors[split]

    def describe_split(self) -> dict[str, Any]:
        """Describes the table and the split, for checkpoints and `keep_to`."""
        description = {
            "sha256": self.table.sha256,
            "feature_names": self.feature_names,
            "class_names": self.class_names,
            "columns": self.table.roles,
        }
        for name in ("split", "split_seed", "stratify"):
            description[name] = self.hparams[name]
        description |= self.trained_on
        description["path"] = self.hparams["path"]  # the table may have moved
        return description

    def keep_to(self, trained_on: dict[str, Any]) -> None:
        """Uses the features, classes and split of a trained classifier instead of the options.

        Args:
            trained_on: What `describe_split` returned in its training; empty to follow the options.
        """
        if trained_on == self.trained_on:
            return
        if "table" in vars(self) and trained_on == self.describe_split():
            return  # it uses them already
        self.trained_on = trained_on
        vars(self).pop("rows", None)
        self._tensors.clear()
        names = (trained_on.get("feature_names"), trained_on.get("class_names"))
        if "table" in vars(self) and names != (self.feature_names, self.class_names):
            del self.table  # to be read again with the classifier's names

    def _follow_classifier(self) -> None:
        """Uses the split of the Trainer's classifier, if it is trained."""
        trainer: Any = self.trainer
        classifier = getattr(trainer, "lightning_module", None)
        if classifier is None:
            return
        trained_on = getattr(classifier, "trained_on", {})
        if trainer.state.fn == "fit" and trained_on.get("sha256") != self.table.sha256:
            trained_on = {}  # fine-tuning on another table follows the options
        self.keep_to(trained_on)
        self.table.check_options(classifier.hparams)

    def setup(self, stage: str) -> None:
        """Stores the seed of the run, which all processes take from the main process."""
        if stage == "fit" and self.trainer:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def train_dataloader(self) -> Loader:
        """Loads the train split, shuffled every epoch with a seed derived from the run's."""
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
        num_processes = 1
        rank = 0
        if trainer:
            num_processes = trainer.world_size
            rank = trainer.global_rank
        dataset = BatchDataset(*self.tensors(split))
        is_train = split == "train"
        order = BatchOrder(dataset, self.batch_size, num_processes, rank, is_train, self.seed)
        if trainer:
            # Lightning may iterate over the loader before it calls `set_epoch` in a resumed run.
            order.set_epoch(trainer.fit_loop.epoch_progress.current.processed)
        if trainer and trainer.overfit_batches:  # Lightning would load a `DataLoader` row by row
            order.shuffle = False
            return FixedBatches(map(dataset.__getitem__, order))
        return BatchLoader(
            dataset,
            batch_size=None,
            sampler=order,
            num_workers=self.hparams["num_workers"],
            generator=torch.Generator(),  # else each epoch would draw from the global generator
        )


def _check_range(name: str, number: float, least: int) -> None:
    if number % 1 or not least <= number < 2**32:
        raise ValueError(f"{name}: expected a whole number from {least} to 2**32 - 1, got {number}")
