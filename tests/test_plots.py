"""The content of plots, and plots of unusual tables."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from iris_lightning import plots
from iris_lightning.plots import Trained, draw_all, draw_confusion, own_style

pytestmark = pytest.mark.filterwarnings("error")


def trained(
    features: int = 2, classes: int = 3, scale: float = 1.0, names: list[str] | None = None
) -> Trained:
    """Returns a classifier of random rows, with a missing value and a constant feature."""
    generator = torch.Generator().manual_seed(classes)
    weights = torch.randn(features, classes, generator=generator)

    def split(rows: int) -> tuple[Tensor, Tensor]:
        values = torch.randn(rows, features, generator=generator)
        values[:, 2:] = 3.0
        targets = torch.randint(classes, (rows,), generator=generator)
        return values * scale, targets

    splits = {"train": split(40), "val": split(20)}
    splits["train"][0][0, 0] = torch.nan
    data: Any = SimpleNamespace(
        tensors=splits.__getitem__,
        feature_names=[f"x{i}" for i in range(features)],
        class_names=names or [f"class {i}" for i in range(classes)],
    )

    def predict(rows: Tensor) -> Tensor:
        return ((rows / scale).nan_to_num() @ weights).softmax(dim=1)

    return Trained(predict, data, "epoch 3")


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file)
    return file.getvalue()


@pytest.mark.parametrize(("features", "classes"), [(2, 2), (6, 3), (7, 3), (2, 11), (1, 60)])
def test_plots_for_tables_of_many_shapes(features: int, classes: int) -> None:
    with own_style():
        figures = dict(draw_all(trained(features, classes)))
        for figure in figures.values():
            image = Image.open(io.BytesIO(png(figure))).convert("RGB")
            assert max(image.size) <= 1100
            assert len(image.getcolors(2**24) or []) > 20, "it is blank"
            assert any("epoch 3" in text for text in texts(figure))
    expected = {*plots.PLOTS} - {"regions"}
    if features in (2, 6) and classes <= 10:
        expected.add("regions")
    assert {*figures} == expected


def test_a_feature_without_values_has_no_regions() -> None:
    drawn = trained()
    for split in ("train", "val"):
        drawn.data.tensors(split)[0][:, 1] = torch.nan
    with own_style():
        assert [name for name, _ in draw_all(drawn)] == ["confusion", "reliability"]


def test_the_legend_of_regions_names_all_classes() -> None:
    names = {"_a", "b", "c"}
    with own_style():
        figure = dict(draw_all(trained(names=sorted(names))))["regions"]
    assert names <= {text.strip() for text in texts(figure)}


@pytest.mark.parametrize(
    "odd",
    [
        {"scale": 1e-6},
        {"scale": 1e30},
        {"names": [r"$a$ $\frac{", "y\nä%_^" + "x" * 200]},
    ],
)
def test_odd_tables_can_be_drawn(odd: dict[str, Any], folder: Path) -> None:
    with own_style():
        for name, figure in draw_all(trained(3, 2, **odd)):
            figure.savefig(folder / f"{name}.png")
            figure.savefig(folder / f"{name}.svg")


def test_the_confusion_matrix_counts_validation_rows() -> None:
    model = trained()
    features, targets = model.data.tensors("val")
    predictions = model.predict(features).argmax(dim=1)
    figure = dict(draw_all(model))["confusion"]
    found = [int(text) for text in texts(figure) if text.isdigit()]
    assert found == (3 * targets + predictions).bincount(minlength=9).tolist()


def test_regions_show_predictions_with_other_features_at_their_mean() -> None:
    model = trained(3)
    axes = dict(draw_all(model))["regions"].axes[0]
    meshes: Any = axes.collections
    for number, mesh in enumerate(meshes):
        corners = np.asarray(mesh.get_coordinates())
        middles = (corners[1:, 1:] + corners[:-1, :-1]) / 2
        points = torch.full((middles[..., 0].size, 3), 3.0)
        points[:, :2] = torch.tensor(middles.reshape(-1, 2))
        shown = ~np.ma.getmaskarray(mesh.get_array()).flatten()
        assert (model.predict(points).argmax(dim=1)[shown] == number).all()


def test_counts_fit_into_their_cells() -> None:
    for size in (3, 8, 12):
        names = [f"class {i} of the beans"[: 4 + i] for i in range(size)]
        figure = draw_confusion(np.full((size, size), 12345), names, "title")
        png(figure)
        axes = figure.axes[0]
        width = axes.get_window_extent().width / size
        assert all(text.get_window_extent().width < width for text in axes.texts)


def test_plots_ignore_matplotlibrc() -> None:
    written = []
    ways: list[Any] = [{}, {"text.usetex": True, "font.family": "NoSuchFont"}]
    for options in ways:
        with matplotlib.rc_context(options), own_style():
            written.append(png(draw_confusion(np.eye(3, dtype=int), ["a", "b", "c"], "title")))
    assert written[0] == written[1]
