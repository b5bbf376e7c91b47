"""A table -> tensors -> seeded split -> loaders."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import lightning as L
import torch
from torch import Tensor

from iris_lightning.batching import Batches, BatchLoader, BatchOrder, FixedBatches, Loader
from iris_lightning.errors import UserError
from iris_lightning.files import same_file
from iris_lightning.hyperparameters import to_builtin
from iris_lightning.tables.table import Table, check_options, load_iris_table

if TYPE_CHECKING:
    from lightning import Trainer

SPLITS = ("train", "val", "test")


def split_rows(
    targets: Tensor,
    fractions: Sequence[float],
    seed: int,
    stratify: bool,
    class_names: Sequence[str] = (),
) -> list[Tensor]:
    """Splits the rows of a table into train, validation and test.

    Args:
        targets: Class of each row, int64, shape `(rows,)`.
        fractions: Share of each split; they sum to 1.
        seed: Seed of the split.
        stratify: Whether each split keeps the table's class shares.
        class_names: Names of the classes, for messages.

    Returns:
        Three int64 tensors of row numbers; without `stratify`, those of
        `torch.utils.data.random_split` in their order.
    """
    num_rows = len(targets)
    # As in random_split, without its lists: round down, then one more for each split in turn until
    # no row is left.
    sizes = [math.floor(num_rows * fraction) for fraction in fractions]
    for i in range(num_rows - sum(sizes)):
        sizes[i % len(sizes)] += 1
    if 0 in sizes:
        raise UserError(
            f"{list(fractions)} of {num_rows} rows leave the {SPLITS[sizes.index(0)]} split empty",
            "split",
        )
    if not stratify:
        order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
        return list(order.split(sizes))

    from sklearn.model_selection import train_test_split

    try:
        rows, classes = torch.arange(num_rows), targets.numpy()
        train, rest = train_test_split(
            rows, train_size=sizes[0], stratify=classes, random_state=seed
        )
        val, test = train_test_split(
            rest, train_size=sizes[1], stratify=classes[rest.numpy()], random_state=seed
        )
    except ValueError as error:
        rarest = dict(enumerate(class_names)).get(int(targets.bincount().argmin()))
        shares = f"cannot keep the class shares in splits of {sizes} rows"
        reason = f"{shares}, the rarest class being {rarest!r}"
        raise UserError(f"{reason}; expected a longer table, or false", "stratify") from error
    return [train, val, test]


class IrisDataModule(L.LightningDataModule):
    """A table with a class column, in three seeded splits; by default scikit-learn's Iris.

    Args:
        path: CSV file (`.csv`, `.tsv`, `.txt`, also with `.gz` or `.zst`) or Parquet file; null
            means Iris.
        target: Column of the class: text, whole numbers or booleans. By default `species`, else the
            last column.
        features: Columns of the features: numbers, or text as categories. By default all numbers
            but the target.
        missing: What to do with missing values: an `error`, `drop` the row, or take the train
            split's `mean`.
        decimal_comma: Whether numbers in the CSV file are written as `5,1`.
        separator: Column delimiter, one of `, ; tab |`. By default found in the file.
        na_values: Texts that mean no value, as the empty cell does; by default NA, N/A, NaN, null,
            None and ?.
        batch_size: Rows per batch, over all processes.
        split_seed: Seed of the split, independent of the run's seed, so that the test rows stay the
            same.
        split: Shares of the train, validation and test splits; they sum to 1.
        stratify: Whether each split keeps the class shares of the whole table.
        num_workers: Processes that load batches beside the training; 0 is fastest for tables in
            memory.

    Attributes:
        trained_on: Table and split of a trained classifier, to which the data module keeps.

    Raises:
        ValueError: If an option is out of range.
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
    ) -> None:
        super().__init__()
        check_options(path, target, missing, decimal_comma, separator, na_values)
        _check_range("batch_size", batch_size, 1, 2**31)
        _check_range("split_seed", split_seed, 0, 2**32)
        _check_range("num_workers", num_workers, 0, 2**10)
        fractions = all(0 < fraction < 1 for fraction in split)
        if len(split) != 3 or not fractions or not math.isclose(sum(split), 1):
            raise ValueError(
                f"split: expected three fractions above 0 that sum to 1, got {list(split)}"
            )
        self.save_hyperparameters()
        self.hparams.update(to_builtin(dict(self.hparams)))
        self.batch_size = self.hparams["batch_size"]  # Lightning's tuner may change the attribute
        self.seed = torch.initial_seed()
        self.trained_on: dict[str, Any] = {}
        self._tensors: dict[str, tuple[Tensor, Tensor]] = {}

    @cached_property
    def table(self) -> Table:
        """The whole table.

        Raises:
            UserError: If the table or the options that describe it do not fit.
        """
        options = self.hparams
        features = self.trained_on.get("feature_names", options["features"])
        if options["path"] is None:
            table = load_iris_table(features)
        else:
            # Imported here: Iris needs no polars.
            from iris_lightning.tables.reading import read_table

            table = read_table(
                options["path"],
                features=features,
                class_names=self.trained_on.get("class_names"),
                target=options["target"],
                missing=options["missing"],
                decimal_comma=options["decimal_comma"],
                separator=options["separator"],
                na_values=options["na_values"],
            )
        if not self.trained_on:  # what was found in the table is recorded in checkpoints
            options["target"] = table.target
            options["features"] = table.feature_names
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
        """Row numbers of each split, int64, in order; those of a checkpoint, if one is in use.

        Another table than that of the checkpoint has no train rows: all of its rows are evaluated.
        """
        options = {**self.hparams, **self.trained_on}
        if options.get("sha256", self.table.sha256) != self.table.sha256:
            if same_file(options["path"], self.hparams["path"]):
                changed = "the table has changed, or how it is read, since the training"
                raise UserError(f"{self.table.source}: {changed}")
            every_row = torch.arange(len(self.table.targets))
            return {"val": every_row, "test": every_row}
        splits = split_rows(
            self.table.targets,
            options["split"],
            options["split_seed"],
            options["stratify"],
            self.class_names,
        )
        return dict(zip(SPLITS, splits, strict=True))

    def tensors(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns the features and targets of a split.

        Features are float32 of shape `(rows, features)`, targets int64 of shape `(rows,)`.
        """
        self._follow_classifier()
        if split not in self.rows:
            raise UserError(
                f"{self.table.source}: not the table that the checkpoint was trained with"
            )
        if split not in self._tensors:
            rows = self.rows[split]
            self._tensors[split] = (self.table.features[rows], self.table.targets[rows])
        return self._tensors[split]

    def describe_split(self) -> dict[str, Any]:
        """Returns what a checkpoint records of the table and the split, for `keep_to`."""
        options = {name: self.hparams[name] for name in ("split", "split_seed", "stratify")}
        found = {
            "sha256": self.table.sha256,
            "feature_names": self.feature_names,
            "class_names": self.class_names,
        }
        return {**found, **options, **self.trained_on, "path": self.hparams["path"]}

    def keep_to(self, trained_on: dict[str, Any]) -> None:
        """Keeps to the table and the split of a trained classifier, whichever the options say.

        Args:
            trained_on: What `describe_split` returned at its training; empty for none.
        """
        if trained_on == self.trained_on:
            return
        self.trained_on = trained_on
        vars(self).pop("rows", None)
        self._tensors.clear()
        if "table" in vars(self) and not self.table.is_named(trained_on):
            del self.table  # it is read again, with the names of the classifier

    def _follow_classifier(self) -> None:
        """Keeps to the split of the Trainer's classifier, if it is trained."""
        classifier = self.trainer.lightning_module if self.trainer else None
        if classifier is None:
            return
        trained_on = getattr(classifier, "trained_on", {})
        fits = cast("Trainer", self.trainer).state.fn == "fit"
        if fits and trained_on.get("sha256") != self.table.sha256:
            trained_on = {}  # weights of another table are only where this training starts
        self.keep_to(trained_on)
        self.table.check_names(classifier.hparams)

    def setup(self, stage: str) -> None:
        """Notes the seed of the run, that of its first process."""
        self.seed = torch.initial_seed()
        if stage == "fit" and self.trainer:
            self.seed = self.trainer.strategy.broadcast(self.seed)

    def train_dataloader(self) -> Loader:
        """Loads the train split, in a new order each epoch, which follows from the run's seed."""
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
        overfits = bool(trainer and trainer.overfit_batches)
        order = BatchOrder(batches, shuffle=split == "train" and not overfits, seed=self.seed)
        if overfits:  # Lightning would take rows one by one from a `DataLoader`
            return FixedBatches(batches[rows] for rows in order)
        if trainer:  # which may draw the first order before it announces the epoch of a resumed run
            order.set_epoch(trainer.fit_loop.epoch_progress.current.processed)
        return BatchLoader(
            batches,
            batch_size=None,
            sampler=order,
            num_workers=self.hparams["num_workers"],
            generator=torch.Generator(),  # its own: each epoch draws from it
        )


def _check_range(name: str, number: float, least: int, end: int) -> None:
    if number % 1 or not least <= number < end:
        raise ValueError(f"{name}: expected a whole number from {least} to {end - 1}, got {number}")
