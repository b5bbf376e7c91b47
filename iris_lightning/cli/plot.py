"""The command line's own `plot`, which writes pictures: its parameters are its options."""

import io
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iris_lightning.cli.source import Source, find_source
from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output, shown
from iris_lightning.plots import can_draw, draw_classifier, own_style
from iris_lightning.predictor import IrisPredictor
from iris_lightning.runs.folders import PARTS, SUMMARY

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
    folder = Path(run) if run is not None else None
    if folder and ckpt_path is not None:
        raise UserError(f"{run}: has no effect beside a checkpoint; leave one of them out", "run")
    if Path(output).suffix.lower() in SUFFIXES or output == "-":
        raise UserError(f"{output}: expected a folder", "output")
    if folder and (folder / SUMMARY).is_file():
        what, pictures = f"cross-validation: {folder}", _of_folds(folder)
    else:
        try:
            source = find_source(str(_checkpoint_in(folder)) if folder else ckpt_path, None)
        except UserError as error:  # whose remedy may be weights, which do not know their rows
            remedy = error.remedy if error.remedy and error.remedy[0] != "weights" else None
            raise UserError(error.message, error.parameter, remedy) from error
        what, pictures = str(source), _of_network(source)
    number = _write(Path(output), pictures)
    print(f"{what}\n{shown(Path(output))}: {number} pictures, each as .png and .svg")


def _checkpoint_in(run: Path) -> Path:
    """Returns the best checkpoint of a run."""
    path = run / "checkpoints" / "best.ckpt"
    if (run / PARTS).is_dir():
        raise UserError(f"{run}: the cross-validation has not ended", "run")
    if path.with_name("last.ckpt").is_file() and not path.is_file():
        raise UserError(f"{run}: no epoch was validated", "run", ("ckpt_path", str(path.with_name("last.ckpt"))))
    if not path.is_file():
        raise UserError(f"{run}: has no checkpoints/best.ckpt and no {SUMMARY}; expected the folder of a run", "run")
    return path


def _of_network(source: Source) -> "Iterator[tuple[str, Figure]]":
    from iris_lightning.data import IrisDataModule

    predictor = IrisPredictor.from_weights(source.weights, source.path)
    options = source.options().get("data")
    if options is None:
        raise UserError(f"{source.path}: does not say which table it was trained with", "ckpt_path")
    data = IrisDataModule(**options)
    data.load_state_dict(source.trained_on())

    def predict(features: Tensor) -> Tensor:
        with torch.inference_mode():
            probabilities: Tensor = predictor(features)
            return probabilities

    title = f"epoch {source.checkpoint['epoch']}"
    yield from draw_classifier(
        predict, data.tensors("train"), data.tensors("val"), data.feature_names, data.class_names, title
    )


def _of_folds(run: Path) -> "Iterator[tuple[str, Figure]]":
    import polars as pl

    from iris_lightning.crossvalidation.pictures import draw_folds

    try:
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        yield from draw_folds(summary, pl.read_csv(run / "folds.csv").to_dict(as_series=False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{run}: not the results of a cross-validation, or damaged ones ({error})", "run") from error


def _write(folder: Path, pictures: "Iterator[tuple[str, Figure]]") -> int:
    """Writes pictures, and returns how many."""
    import matplotlib as mpl

    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name in a picture
    files: dict[str, bytes] = {}
    try:
        with own_style(), mpl.rc_context({"svg.hashsalt": "iris_lightning"}):  # the same picture is the same file
            for name, figure in pictures:
                stem = re.sub(r"\W+", "_", name)[:50].strip("_")  # of at most 200 bytes
                if f"{stem}.png".lower() in map(str.lower, files):
                    stem += f".{len(files)}"
                for suffix, metadata in zip(SUFFIXES, ({}, {"Date": None}), strict=True):
                    file = io.BytesIO()
                    figure.savefig(file, format=suffix[1:], dpi=200, metadata=metadata)
                    files[f"{stem}{suffix}"] = file.getvalue()
    except UserError:
        raise
    except Exception as error:  # of matplotlib, which has no errors of its own
        raise UserError(f"cannot be drawn: {type(error).__name__}: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            check_output(folder / name)
        with ExitStack() as all_or_none:
            for name, content in files.items():
                all_or_none.enter_context(atomic_write(folder / name)).write_bytes(content)
    except OSError as error:
        where = folder / Path(str(error.filename)).name if folder.is_dir() else folder
        raise UserError(f"{where}: {error.strerror}; expected a folder to write to", "output") from error
    return len(files) // len(SUFFIXES)
