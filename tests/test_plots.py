"""Pictures: what is in them, and that odd tables can be drawn."""

import io
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from iris_lightning.calibration import reliability_of
from iris_lightning.plots import (
    Points,
    decision_regions,
    draw_classifier,
    draw_confusion,
    draw_regions,
    draw_reliability,
    draw_spread,
    own_style,
)

CLASSES = ["setosa", "versicolor", "virginica"]


def probabilities_and_targets(rows: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    probabilities = (3 * torch.randn(rows, classes, generator=generator)).softmax(dim=1)
    return probabilities, torch.randint(classes, (rows,), generator=generator)


def linear(features: Tensor) -> Tensor:
    """A classifier of three classes by the sum of the features."""
    total = features.nan_to_num().sum(dim=1)
    return torch.stack([-total, torch.zeros_like(total), total], dim=1).softmax(dim=1)


def png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file)
    return file.getvalue()


def texts(figure: object) -> list[str]:
    from matplotlib.text import Text

    assert hasattr(figure, "findobj")
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_reliability_of_a_case_computed_by_hand() -> None:
    confidences = torch.tensor([0.95, 0.91, 0.5, 0.5, 0.5, 1.0])
    targets = torch.tensor([0, 1, 0, 1, 1, 0])
    found = reliability_of(torch.stack([confidences, 1 - confidences], dim=1), targets)
    assert found.rows.tolist() == [0, 0, 0, 0, 3, 0, 0, 0, 0, 3]  # 0.5 is the upper edge of its bin
    assert found.accuracy[[4, 9]].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert found.confidence[[4, 9]].tolist() == pytest.approx([0.5, 2.86 / 3])
    assert found.error == pytest.approx((abs(1 / 3 - 0.5) + abs(2 / 3 - 2.86 / 3)) / 2)


@pytest.mark.parametrize(("rows", "classes"), [(30, 3), (1000, 2), (5000, 7)])
def test_the_calibration_error_is_that_of_torchmetrics(rows: int, classes: int) -> None:
    probabilities, targets = probabilities_and_targets(rows, classes)
    expected = multiclass_calibration_error(probabilities.double(), targets, classes, n_bins=10)
    assert reliability_of(probabilities, targets).error == pytest.approx(float(expected), abs=1e-6)


def test_regions_are_the_predictions_on_a_grid_around_the_rows() -> None:
    train = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    other = torch.tensor([[9.0, 0.0, 0.0, 0.0], [torch.nan, 0.0, 0.0, 0.0]])
    regions = decision_regions(linear, train, other)
    assert [region.pair for region in regions] == [*combinations(range(4), 2)]
    for region in regions:
        i, j = region.pair
        left, right, low, high = region.extent
        rows = torch.cat([train, other[:1]])
        assert left < rows[:, i].min()
        assert right > rows[:, i].max()
        assert low < rows[:, j].min()
        assert high > rows[:, j].max()
        size = len(region.classes)
        for row, column in ((0, 0), (size - 1, 0), (0, size - 1), (size // 3, size // 2)):
            point = train.mean(dim=0)
            point[i] = left + (right - left) * column / (size - 1)
            point[j] = low + (high - low) * row / (size - 1)
            assert region.classes[row, column] == linear(point[None]).argmax()


def drawn(features: int, classes: int, names: list[str] | None = None) -> Iterator[tuple[str, object]]:
    generator = torch.Generator().manual_seed(classes)
    train, val = (
        (torch.randn(rows, features, generator=generator), torch.randint(classes, (rows,), generator=generator))
        for rows in (40, 20)
    )
    weights = torch.randn(features, classes, generator=generator)
    train[0][0, 0] = torch.nan
    train[0][:, -1] = 3.0  # a feature that never varies
    names = names or [f"class {i}" for i in range(classes)]
    columns = [f"x{i}" for i in range(features)]
    return draw_classifier(lambda rows: (rows.nan_to_num() @ weights).softmax(1), train, val, columns, names, "epoch 3")


@pytest.mark.parametrize(("features", "pairs"), [(1, 0), (2, 1), (3, 3), (6, 15), (7, 0)])
def test_which_pictures_there_are(features: int, pairs: int) -> None:
    names = [name for name, _ in drawn(features, 3)]
    assert names[:2] == ["confusion", "reliability"]
    assert len({*names}) == len(names) == 2 + pairs


NAMES = [["$a$", r"$\frac{"], ["x" * 200, "y\nz"], ["ä%_^", "{"], [f"a class {i}" for i in range(30)]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [*NAMES, [str(i) for i in range(60)]])
def test_odd_names_and_many_classes_can_be_drawn(names: list[str]) -> None:
    for _, figure in drawn(2, len(names), names):
        for kind in ("png", "svg"):
            figure.savefig(io.BytesIO(), format=kind)  # type: ignore[attr-defined]


def test_the_confusion_matrix_has_counts_and_shares_of_scikit_learn() -> None:
    probabilities, targets = probabilities_and_targets(40, 3)
    predictions = probabilities.argmax(dim=1)
    counts = confusion_matrix(targets, predictions)
    shares = confusion_matrix(targets, predictions, normalize="true")
    data = torch.zeros(40, 1), targets
    _, figure = next(draw_classifier(lambda _: probabilities, data, data, ["x"], CLASSES, "epoch 3"))
    cells = [text for text in texts(figure) if "%" in text]
    assert cells == [f"{count}\n{share:.0%}" for count, share in zip(counts.flat, shares.flat, strict=True)]
    assert {*CLASSES, "validation rows, epoch 3", "true class", "predicted class"} <= {*texts(figure)}


@pytest.mark.parametrize("size", [5, 8, 12])
def test_numbers_stay_within_their_cells(size: int) -> None:
    names = [f"class {i} of the beans"[: 4 + i] for i in range(size)]
    figure = draw_confusion(torch.full((size, size), 1234), names, "title")
    figure.savefig(io.BytesIO())
    axes = figure.axes[0]
    cell = axes.get_window_extent()
    for text in axes.texts:
        assert text.get_window_extent().height < cell.height / size
        assert text.get_window_extent().width < cell.width / size


def test_a_class_without_rows_can_be_drawn() -> None:
    figure = draw_confusion(torch.tensor([[3, 1], [0, 0]]), ["a", "b"], "")
    assert [text for text in texts(figure) if "%" in text] == ["3\n75%", "1\n25%", "0\n0%", "0\n0%"]


def test_a_region_shows_rows_mistakes_and_what_is_held_fixed() -> None:
    titles = {name: texts(figure) for name, figure in drawn(3, 3)}
    assert any("other features at their train mean" in text for text in titles["regions x0, x1"])
    assert {"x0", "x1", "● class 0", "x mistake"} <= {*titles["regions x0, x1"]}
    features, targets = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), torch.tensor([0, 1, 2])
    (region,) = decision_regions(linear, features, features)
    points = [Points(features, targets, targets), Points(features, targets, targets.flip(0))]
    (figure,) = draw_regions([region], points, "ab", CLASSES, "")
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata().tolist() for line in lines] == [[], [0.0, 2.0]]  # type: ignore[union-attr]


def test_a_region_shows_its_own_features_whatever_was_drawn_before() -> None:
    features = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e-6, 1e6])
    targets = linear(features).argmax(dim=1)
    points = [Points(features, targets, targets.roll(5)), Points(features[:9], targets[:9], targets[:9])]
    regions = decision_regions(linear, features, features)
    for region, figure in zip(regions, draw_regions(regions, points, "abc", CLASSES, ""), strict=True):
        axes = figure.axes[0]
        assert torch.equal(torch.as_tensor(np.asarray(axes.images[0].get_array())), region.classes)
        assert tuple(axes.images[0].get_extent()) == region.extent
        assert (axes.get_xlabel(), axes.get_ylabel()) == tuple("abc"[k] for k in region.pair)
        shown = torch.cat([torch.as_tensor(line.get_xydata()) for line in axes.lines if line.get_marker() != "x"])
        expected = torch.cat([rows.features[:, list(region.pair)] for rows in points])
        assert sorted(shown.tolist()) == sorted(expected.tolist())
        (alone,) = draw_regions([region], points, "abc", CLASSES, "")
        assert png(figure) == png(alone)


def test_pictures_are_not_blank_and_of_a_size_that_is_shown_as_it_is() -> None:
    figures = [figure for _, figure in drawn(2, 3)]
    figures.append(draw_spread({"ours": {"accuracy": torch.rand(10), "f1": torch.rand(10)}}, "10 folds"))
    figures.append(draw_reliability(reliability_of(*probabilities_and_targets(20, 3)), "title"))
    for figure in figures:
        file = io.BytesIO()
        figure.savefig(file)  # type: ignore[attr-defined]
        image = Image.open(file).convert("RGB")
        assert 350 <= image.width <= 440
        assert len(image.getcolors(2**24) or []) > 50


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1.7e9, 1e30, -1e38, 0.0])
def test_regions_of_features_of_any_size_can_be_drawn(value: float) -> None:
    features, targets = torch.tensor([[value, 1.0], [value, 2.0], [-value, value / 3]]), torch.tensor([0, 1, 2])
    for rows in (features, features[:2]):
        (region,) = decision_regions(linear, rows, rows)
        points = Points(rows, targets[: len(rows)], targets[: len(rows)])
        (figure,) = draw_regions([region], [points, points], ["a", "b"], CLASSES, "")
        figure.savefig(io.BytesIO())


def test_a_picture_of_many_classes_is_not_larger_than_a_screen() -> None:
    figure = draw_confusion(torch.eye(500, dtype=torch.int64), [f"class {i}" for i in range(500)], "")
    assert max(figure.get_size_inches() * figure.dpi) < 1100


def test_pictures_do_not_depend_on_a_matplotlibrc() -> None:
    written = []
    ways: list[Any] = [{}, {"text.usetex": True, "font.family": "NoSuchFont", "axes.facecolor": "black"}]
    for options in ways:
        file = io.BytesIO()
        with matplotlib.rc_context(options), own_style():
            draw_confusion(torch.eye(3, dtype=torch.int64), CLASSES, "title").savefig(file)
        written.append(file.getvalue())
    assert written[0] == written[1]
