"""Exports a trained network for other programs: torch, safetensors or ONNX."""

import importlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output
from iris_lightning.weights.averaging import base_network
from iris_lightning.weights.reading import Weights

ONNX_TOLERANCE = 1e-6  # of probabilities
ONNX_CHECK_ROWS = 1000


def export(network: nn.Module, weights: Weights, path: Path, *inputs: Path) -> str:
    """Writes a trained network to a file.

    `.pth` is a plain state dict. `.safetensors` holds the same tensors, and the names of the
    features and classes. `.onnx` is a graph with the input `features`, float32 of shape
    `(rows, features)` in their original units, and the output `probabilities`, shape
    `(rows, classes)`; it is compared with the network before it replaces an existing file.

    Args:
        network: The trained network.
        weights: Its weights and names.
        path: File to write.
        *inputs: Files that must not be overwritten.

    Returns:
        A description of what was written, for the user.
    """
    writers = {".pth": _write_pth, ".safetensors": _write_safetensors, ".onnx": _write_onnx}
    if path.suffix not in writers:
        raise UserError(f"{path}: expected a file that ends in {', '.join(writers)}")
    check_output(path, *inputs)
    try:
        with atomic_write(path) as new:
            new.write_bytes(writers[path.suffix](network, weights))
            if path.suffix == ".onnx":
                return _check_onnx(network, new)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return f"{len(weights.state)} tensors"


def _write_pth(network: nn.Module, weights: Weights) -> bytes:
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    return content.getvalue()


def _write_safetensors(network: nn.Module, weights: Weights) -> bytes:
    from safetensors.torch import save

    return bytes(save(weights.state, metadata=weights.metadata()))


def _write_onnx(network: nn.Module, weights: Weights) -> bytes:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            install = "install it with: pip install 'iris_lightning[onnx]'"
            raise UserError(f"ONNX needs {name}; {install}") from error
    # It reports that torchvision is not installed, which is not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about torch's own code
        program = torch.onnx.export(
            nn.Sequential(network, nn.Softmax(dim=1)).eval(),
            (torch.zeros(2, base_network(network).in_features),),
            input_names=["features"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch exported no ONNX program")
    model: Any = program.model_proto
    del model.metadata_props[:]  # the exporter's own notes
    for key, value in weights.metadata().items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _check_onnx(network: nn.Module, path: Path) -> str:
    """Compares the graph's probabilities with the network's."""
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    # Random rows in the range of each feature if the network knows it, else around 0.
    base = base_network(network)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(ONNX_CHECK_ROWS, base.in_features, generator=generator)
    if base.standardize:
        std, mean = base.std.view(-1, base.in_features), base.mean.view(-1, base.in_features)
        rows = rows * std[0] + mean[0]  # those of the first member, if it is an ensemble
    with torch.inference_mode():
        expected = network(rows).softmax(dim=1)
    found = torch.from_numpy(session.run(None, {"features": rows.numpy()})[0])
    difference = float((found - expected).abs().max())
    if not difference <= ONNX_TOLERANCE:  # very large logits, rounded differently, or NaN
        differ = f"its probabilities would differ by {difference:.1e}"
        raise UserError(f"{path.name}: {differ}; export .safetensors instead")
    return f"probabilities of {ONNX_CHECK_ROWS} rows within {ONNX_TOLERANCE:.0e} by onnxruntime"
