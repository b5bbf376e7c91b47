"""The folder of a cross-validation: the stacks that are done while it runs, and its results at the end."""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from iris_lightning.crossvalidation.result import CrossValidation, Part
from iris_lightning.crossvalidation.stack import CURVES
from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, remove_leftovers, shown
from iris_lightning.runs.folders import PARTS, SUMMARY, claim_run, cross_validations, remove_run, training_alone
from iris_lightning.runs.saving import describe_run
from iris_lightning.tables.held_out import HeldOutRows

__all__ = ["open_run", "read_parts", "save_part", "write_results"]


@contextlib.contextmanager
def open_run(root: Path, options: dict[str, Any], environment: dict[str, Any]) -> Iterator[Path]:
    """Yields the folder of a run that no other process uses: that of the same one if it was stopped, or a new one.

    It is removed if it is left before any stack was done.

    Args:
        root: Where `lightning_logs/` is.
        options: The options of the run, as plain values.
        environment: What its result depends on beside.
    """
    alone = contextlib.ExitStack()
    for run in cross_validations(root):
        if _is_of(run, options, environment):
            with contextlib.suppress(UserError):  # another process uses it
                alone.enter_context(training_alone(run))
                if _is_of(run, options, environment):  # else it has ended meanwhile
                    break
                alone.close()
    else:
        run = claim_run(root, options["name"])
        alone.enter_context(training_alone(run))
    try:
        if not (run / PARTS).is_dir():
            (run / PARTS).mkdir()
            describe_run(run, options, environment)
        yield run
    except BaseException as error:
        kept = any((run / PARTS).glob("*.npz"))
        if not kept:
            (run / "config.yaml").unlink(missing_ok=True)  # so that nobody else goes on here
        alone.close()
        if not kept:
            remove_run(run)
        elif isinstance(error, UserError):
            message = f"{error.message}\nthe folds that were done before are kept in {shown(run)}"
            raise UserError(message, error.parameter, error.remedy) from error
        raise
    finally:
        alone.close()


def _is_of(run: Path, options: dict[str, Any], environment: dict[str, Any]) -> bool:
    """Whether a cross-validation was stopped that has these options; it may have had another number of threads."""
    if (run / SUMMARY).exists() or not (run / PARTS).is_dir():
        return False
    try:
        found, beside = (
            yaml.safe_load((run / f"{name}.yaml").read_text("utf-8")) for name in ("config", "environment")
        )
        same = {**found, "figures": options["figures"]} == options  # which have no part in the result
        return same and bool({**beside, "threads": environment["threads"]} == environment)
    except (OSError, TypeError, yaml.YAMLError):  # it is damaged, or just removed
        return False


def save_part(run: Path, part: Part) -> None:
    """Keeps what a stack came to, so that a run that is killed goes on after it."""
    repeat, number = part.places[0]
    with atomic_write(run / PARTS / f"{repeat}_{number}.npz") as new:
        np.savez(new, **part._asdict())


def read_parts(run: Path) -> Iterator[Part]:
    """Yields what the stacks came to that are done; a damaged file is as none."""
    remove_leftovers(run / PARTS)
    for path in sorted((run / PARTS).glob("*.npz")):
        damage = OSError, EOFError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile
        with contextlib.suppress(*damage), open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            yield Part(**{name: arrays[name] for name in Part._fields})


def write_results(run: Path, result: CrossValidation, rows: HeldOutRows, pictures: Sequence[Any]) -> None:
    """Writes `predictions.csv`, `folds.csv`, the curves, and last `summary.json`, which says that the run is whole.

    Args:
        run: Its folder.
        result: The cross-validation.
        rows: The rows of its table.
        pictures: Pictures for TensorBoard.
    """
    with atomic_write(run / "predictions.csv") as new:
        rows.write(new, result.probabilities.mean(axis=0))
    with atomic_write(run / "folds.csv") as new:
        pl.DataFrame(result.fold_figures()).write_csv(new)
    _write_curves(run, result, pictures)
    with atomic_write(run / SUMMARY) as new:
        new.write_text(
            json.dumps(result.summary(), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
    shutil.rmtree(run / PARTS)


def _write_curves(run: Path, result: CrossValidation, pictures: Sequence[Any]) -> None:
    """Writes for TensorBoard pictures, and mean and quartiles of the folds, which its Custom Scalars show as a band."""
    from torch.utils.tensorboard import SummaryWriter

    for path in run.glob("events.out.tfevents.*"):  # of a run that was killed here
        path.unlink()
    with SummaryWriter(str(run)) as writer:
        quartiles = {name: f"quartiles/{name.replace('/', '_')}" for name in CURVES}  # after all other curves
        names = {name: (name, f"{tag}_lower", f"{tag}_upper") for name, tag in quartiles.items()}
        charts = {name: ["Margin", [*tags]] for name, tags in names.items()}
        writer.add_custom_scalars({"mean and quartiles of the folds": charts})
        for picture in pictures:
            writer._get_file_writer().add_summary(picture)
        for epoch, curves in zip(result.epochs.tolist(), result.curves, strict=True):
            for tags, folds in zip(names.values(), curves, strict=True):
                lower, upper = np.quantile(folds, (0.25, 0.75))
                for tag, value in zip(tags, (folds.mean(dtype=np.float64), lower, upper), strict=True):
                    writer.add_scalar(tag, value, epoch)
