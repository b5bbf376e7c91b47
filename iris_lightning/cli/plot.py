"""The command `plot`; its parameters are its options."""

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output, relative_path
from iris_lightning.plots import Trained, can_draw, draw_all, own_style
from iris_lightning.predictor import IrisPredictor
from iris_lightning.runs.checkpoints import Source, find_source
from iris_lightning.runs.folders import SUMMARY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]

SUFFIXES = (".png", ".svg")


def plot(output: str = "figures", ckpt_path: str | None = None, run: str | None = None) -> None:
    """Writes the pictures that TensorBoard shows, each as .png and .svg.

    Args:
        output: Folder to write to.
        ckpt_path: Checkpoint to use: best or last of the newest run, or a file. By default best.
        run: Folder of a run: of its best checkpoint, or of its cross-validation.
    """
    if not can_draw():
        raise UserError("pictures need matplotlib, which is not installed")
    if run is not None and ckpt_path is not None:
        raise UserError(f"{run}: has no effect beside a checkpoint; leave one of them out", "run")
    if Path(output).suffix in SUFFIXES or output == "-":
        raise UserError(f"{output}: expected a folder", "output")
    if run is not None and Path(run, SUMMARY).is_file():
        what, pictures = f"cross-validation: {run}", _of_folds(Path(run))
    else:
        if run is not None:
            ckpt_path = _best_checkpoint(Path(run))
        try:
            source = find_source(ckpt_path, None)
        except UserError as error:  # its remedy may be an option of other commands
            raise UserError(error.message, error.parameter) from error
        what, pictures = str(source), _of_checkpoint(source)
    number = _write(Path(output), pictures, what)
    print(f"{what}\n{relative_path(Path(output))}: {number} pictures, each as .png and .svg")


def _best_checkpoint(run: Path) -> str:
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise UserError(f"{run}: has no checkpoints/best.ckpt; expected the folder of a run", "run")
    return str(path)


def _of_checkpoint(source: Source) -> "Iterator[tuple[str, Figure]]":
    from iris_lightning.data import IrisDataModule

    predictor = IrisPredictor.from_weights(source.weights, source.path)
    if not source.checkpoint["trained_on"]:
        raise UserError(f"{source.path}: does not say which table it was trained with", "ckpt_path")
    data = IrisDataModule(**source.options(IrisDataModule))
    data.keep_to(source.checkpoint["trained_on"])

    def predict(features: Tensor) -> Tensor:
        with torch.inference_mode():
            probabilities: Tensor = predictor(features)
        return probabilities

    yield from draw_all(Trained(predict, data, f"epoch {source.checkpoint['epoch']}"))


def _of_folds(run: Path) -> "Iterator[tuple[str, Figure]]":
    import polars as pl

    from iris_lightning.ensemble.plots import draw_folds

    summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    yield from draw_folds(summary, pl.read_csv(run / "folds.csv").to_dict(as_series=False))


def _write(folder: Path, pictures: "Iterator[tuple[str, Figure]]", what: str) -> int:
    """Writes all pictures or none, and returns their number."""
    import matplotlib as mpl

    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name in a picture
    files = {}
    try:
        with own_style(), mpl.rc_context({"svg.hashsalt": "iris_lightning"}):  # for equal files
            for name, figure in pictures:
                for suffix, metadata in zip(SUFFIXES, ({}, {"Date": None}), strict=True):
                    file = io.BytesIO()
                    figure.savefig(file, format=suffix[1:], dpi=200, metadata=metadata)
                    files[folder / f"{name}{suffix}"] = file.getvalue()
    except UserError:
        raise
    except Exception as error:  # of matplotlib, or of damaged results
        raise UserError(f"{what} cannot be drawn: {type(error).__name__}: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as all_or_none:
            for path, content in files.items():
                check_output(path)
                all_or_none.enter_context(atomic_write(path)).write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{folder}: {error.strerror}; expected a folder to write to", "output"
        ) from error
    return len(files) // len(SUFFIXES)
