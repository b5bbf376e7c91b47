"""The command `plot`; its parameters are its options."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from iris_lightning.cli.console import silence_noise
from iris_lightning.cli.parsing import as_user_error
from iris_lightning.files import relative_path
from iris_lightning.plots import Trained, draw_all, draw_summary, own_style, write_figures
from iris_lightning.predictor import IrisPredictor
from iris_lightning.runs.checkpoints import Source, find_source, recorded_options
from iris_lightning.runs.folders import SUMMARY

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(output: str = "figures", ckpt_path: str | None = None, run: str | None = None) -> None:
    """Writes the plots that TensorBoard shows, each as a .png and a .svg file.

    Args:
        output: Folder to write to.
        ckpt_path: Checkpoint: best or last of the newest fit, a file, or the folder of a run. By
            default best.
        run: Folder of a run, to plot its best checkpoint or its cross-validation.
    """
    if run is not None and ckpt_path is None and Path(run, SUMMARY).is_file():
        what = f"cross-validation: {run}"
        summary = Path(run, SUMMARY).read_text("utf-8")
        plots = draw_summary(json.loads(summary))
    else:
        source = find_source(ckpt_path, run=run)
        what = str(source)
        plots = _draw_checkpoint(source)
    silence_noise()
    folder = Path(output)
    with own_style(), as_user_error():
        figures = dict(plots)  # draws them
        write_figures(figures, folder)
    print(f"{what}\n{relative_path(folder)}: {', '.join(figures)}, each as .png and .svg")


def _draw_checkpoint(source: Source) -> "Iterator[tuple[str, Figure]]":
    from iris_lightning.data import IrisDataModule
    from iris_lightning.ensemble.data import EnsembleDataModule

    predictor = IrisPredictor.from_weights(source.weights, source.path)
    trained_on = source.checkpoint["trained_on"]
    options = recorded_options(source.checkpoint, IrisDataModule)
    data = IrisDataModule(**options)
    if "members" in trained_on:
        data = EnsembleDataModule(members=trained_on["members"], **options)
    data.keep_to(trained_on)
    title = f"epoch {source.checkpoint['epoch']}"
    yield from draw_all(Trained(predictor, data, title, predictor.network))
