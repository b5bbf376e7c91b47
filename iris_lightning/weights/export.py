"""A trained network as a file for others: torch, safetensors or ONNX, checked before it appears."""

import importlib
import io
import logging
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iris_lightning.errors import UserError
from iris_lightning.files import atomic_write, check_output
from iris_lightning.network import IrisNetwork
from iris_lightning.weights.reading import Weights, read_weights

__all__ = ["export"]

TOLERANCE = 1e-6  # by which the probabilities of ONNX may differ
ROWS = 1000


def export(network: IrisNetwork, weights: Weights, path: Path, *inputs: Path) -> str:
    """Writes a trained network with the names of its features and classes in `weights`, and returns what was checked.

    `.pth` is a state dict that plain torch loads, `.safetensors` holds the same tensors, and `.onnx` is a graph from
    `features`, float32 of shape `(rows, features)` in their own units, to `probabilities`, shape `(rows, classes)`. The
    file appears once it has been loaded and found equal, or not at all; it must not replace an input.
    """
    writers = {".pth": _write_pth, ".safetensors": _write_safetensors, ".onnx": _write_onnx}
    if path.suffix not in writers:
        raise UserError(f"{path}: expected a file that ends in {', '.join(writers)}")
    check_output(path, *inputs)
    weights = weights._replace(state=network.state_dict(), activation=network.activation)
    try:
        with atomic_write(path) as new:
            new.write_bytes(writers[path.suffix](network, weights))
            return (_check_onnx if path.suffix == ".onnx" else _check_weights)(network, weights, new)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write_pth(network: IrisNetwork, weights: Weights) -> bytes:
    state = OrderedDict(weights.state)
    # Beside the versions of modules that torch keeps there: still a plain state dict, for torch and for the lesson.
    versions = getattr(weights.state, "_metadata", {})
    state.__dict__["_metadata"] = OrderedDict({**versions, "": {**versions.get("", {}), **weights.metadata()}})
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def _write_safetensors(network: IrisNetwork, weights: Weights) -> bytes:
    from safetensors.torch import save

    return bytes(save(weights.state, metadata=weights.metadata()))


def _check_weights(network: IrisNetwork, weights: Weights, path: Path) -> str:
    read = read_weights(path)
    same = all(torch.equal(read.state[name], tensor) for name, tensor in weights.state.items())
    if not same or read[1:] != weights[1:]:
        raise AssertionError("export wrote other weights or names than it was given")
    return f"{len(read.state)} tensors, read back and equal"


def _write_onnx(network: IrisNetwork, weights: Weights) -> bytes:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"ONNX needs {name}; install it with: pip install 'iris_lightning[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists torchvision's operators, which are not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own code
        program = torch.onnx.export(
            nn.Sequential(network, nn.Softmax(dim=1)).eval(),
            (torch.zeros(2, network.in_features),),
            input_names=["features"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            dynamo=True,
            verbose=False,
        )
    model: Any = program.model_proto if program else None
    del model.metadata_props[:]  # the exporter's notes to itself
    for key, value in weights.metadata().items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _check_onnx(network: IrisNetwork, weights: Weights, path: Path) -> str:
    session = importlib.import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    if session.get_modelmeta().custom_metadata_map != weights.metadata():
        raise AssertionError("export wrote other names than it was given")
    # Around the range of each feature where the network knows it, else around 0.
    rows = torch.randn(ROWS, network.in_features, generator=torch.Generator().manual_seed(0))
    if network.standardize:
        rows = rows * network.std + network.mean
    with torch.inference_mode():
        expected = network(rows).softmax(dim=1)
    found = torch.from_numpy(session.run(None, {"features": rows.numpy()})[0])
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE:  # its logits are so large that float32 rounds them
        raise UserError(f"{path.name}: its probabilities would differ by {difference:.1e}; export .safetensors instead")
    return f"probabilities of {ROWS} rows within {TOLERANCE:.0e} by onnxruntime"
