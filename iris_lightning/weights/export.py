"""Exports a trained network for other programs: torch, safetensors or ONNX."""

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output
from iris_lightning.weights.reading import Weights


def export(weights: Weights, path: Path, *sources: Path) -> None:
    """Writes a trained network to a file.

    `.pth` is a plain state dict. `.safetensors` holds the same tensors, and the names of the
    features and classes. `.onnx` is a graph with the input `features`, float32 of shape
    `(rows, features)` in their original units, and the output `probabilities`, shape
    `(rows, classes)`.

    Args:
        weights: The weights of the network, with its names and options.
        path: File to write.
        *sources: Files that must not be overwritten.
    """
    writers = {".pth": _write_pth, ".safetensors": _write_safetensors, ".onnx": _write_onnx}
    if path.suffix not in writers:
        raise UserError(f"{path}: expected a file that ends in {', '.join(writers)}")
    check_output(path, *sources)
    with atomic_write(path) as new:
        new.write_bytes(writers[path.suffix](weights, path))


def serialize(value: Any) -> bytes:
    """Returns the content of a file that `torch.save` would write."""
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def _write_pth(weights: Weights, path: Path) -> bytes:
    return serialize(weights.state)


def _write_safetensors(weights: Weights, path: Path) -> bytes:
    from safetensors.torch import save

    return bytes(save(weights.state, metadata=weights.metadata()))


def _write_onnx(weights: Weights, path: Path) -> bytes:
    # The exporter warns that torchvision is missing, which is not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    classifier = nn.Sequential(weights.network(path), nn.Softmax(dim=1)).eval()
    example = torch.zeros(2, weights.options["in_features"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about torch's own code
            program: Any = torch.onnx.export(
                classifier,
                (example,),
                input_names=["features"],
                output_names=["probabilities"],
                dynamic_shapes=({0: "rows"},),
                dynamo=True,
                verbose=False,
            )
    except ImportError as error:
        raise UserError(f"{error}; in the clone, run: pip install -e '.[onnx]'") from error
    model = program.model_proto
    del model.metadata_props[:]  # the exporter's own notes
    for key, value in weights.metadata().items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())
