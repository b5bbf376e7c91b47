"""What TensorBoard's tabs need to be told, as events for which a `SummaryWriter` has no method."""

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RESULTS", "graph_of", "hparams_columns", "layout", "picture", "scalars"]

# The columns of HParams that are no hyperparameters: the tags of scalars, and what they are called there.
RESULTS = {
    "result/loss_val": "best loss/val",
    "result/accuracy_val": "its accuracy/val",
    "result/epoch": "its epoch",
    "result/loss_test": "loss/test",
    "result/accuracy_test": "accuracy/test",
    "result/epochs": "epochs",
}


def scalars(values: Mapping[str, float]) -> Any:
    """Returns points of curves with these tags."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def hparams_columns(names: Iterable[str]) -> Any:
    """Returns what columns HParams has: hyperparameters with these names, and `RESULTS`."""
    from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb

    results = [Metric(tag, display_name=name) for tag, name in RESULTS.items()]
    return hparams_config_pb([HParam(name) for name in names], results)


def layout() -> Any:
    """Returns what has Custom Scalars show train and validation on one chart for the loss, and one for the accuracy."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent
    from torch.utils.tensorboard.summary import custom_scalars

    # As "margins" without a width: TensorBoard passes over the lowest and highest value of a chart of lines, which may
    # be the first and last of five epochs, and gives train and validation symbols that differ from run to run.
    charts = []
    for name in ("loss", "accuracy"):
        tags = (f"{name}/train", f"{name}/val")
        series = [MarginChartContent.Series(value=tag, lower=tag, upper=tag) for tag in tags]
        charts.append(Chart(title=f"{name}: ■ train, ◆ validation", margin=MarginChartContent(series=series)))
    summary = custom_scalars({})
    layout = Layout(category=[Category(title="train and validation", chart=charts)])
    summary.value[0].tensor.string_val[0] = layout.SerializeToString()
    return summary


def graph_of(network: Any) -> Any:
    """Returns an `IrisNetwork` as a TensorFlow `GraphDef`, a chain of nodes that are named after its layers.

    `SummaryWriter.add_graph` would trace it, which takes half a second and numbers most nodes.
    """
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    steps = {"impute": network.impute, "scale": network.standardize}
    nodes = {"features": "Input", **{name: name for name, wanted in steps.items() if wanted}}
    nodes |= {f"{name}_{type(layer).__name__}": str(layer) for name, layer in network.layers.named_children()}
    graph = GraphDef()
    for name, kind in {**nodes, "logits": "Output"}.items():
        graph.node.add(name=name, op=kind, input=[graph.node[-1].name] if graph.node else [])
    return graph


def picture(tag: str, figure: "Figure") -> Any:
    """Returns a figure, rendered, for Images."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    file = io.BytesIO()
    figure.savefig(file, format="png")
    width, height = figure.canvas.get_width_height()
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=file.getvalue())
    return Summary(value=[Summary.Value(tag=tag, image=image)])
