"""A trained network as a file for others: torch, safetensors or ONNX, checked before it is called done."""

import io
import logging
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iris_lightning.errors import UserError
from iris_lightning.files import check_output, whole_file
from iris_lightning.predictor import IrisPredictor
from iris_lightning.weights import WEIGHTS_SUFFIXES, Weights, import_onnx, read_weights

__all__ = ["export"]

TOLERANCE = 1e-6  # by which the probabilities of ONNX may differ
ROWS = 1000


def export(predictor: IrisPredictor, output: str, *inputs: Path) -> str:
    """Writes a network and, where the format has a place for it, the names of features and classes.

    Args:
        predictor: The trained classifier.
        output: `.pth`, a state dict that plain torch loads; `.safetensors`, the same tensors; or `.onnx`, a graph from
            `features`, float32 of shape `(rows, features)` in their own units, to `probabilities`, `(rows, classes)`.
            It appears once it has been loaded back and found equal, or not at all.
        inputs: Files that the output must not replace.

    Returns:
        What was checked.

    Raises:
        UserError: If the file cannot be written, or the packages for ONNX are not installed.
    """
    path = Path(output)
    writers = dict(zip(WEIGHTS_SUFFIXES, (_pth, _safetensors, _onnx), strict=True))
    if path.suffix not in writers:
        raise UserError(f"--output {output}: expected a file that ends in {', '.join(WEIGHTS_SUFFIXES)}")
    check_output("--output", path, *inputs)
    weights = Weights(
        predictor.network.state_dict(),
        [str(name) for name in predictor.feature_names_in_],
        [str(name) for name in predictor.classes_],
        predictor.network.activation,
    )
    content = writers[path.suffix](predictor, weights)
    try:
        with whole_file(path) as file:
            file.write(content)
            file.flush()
            return _check(predictor, weights, path.suffix, Path(f"/dev/fd/{file.fileno()}"))
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror or error}") from error


def _pth(predictor: IrisPredictor, weights: Weights) -> bytes:
    state = OrderedDict(weights.state)
    # Beside the versions of modules that torch keeps there: still a plain state dict, for torch and for the lesson.
    versions = getattr(weights.state, "_metadata", {})
    state.__dict__["_metadata"] = OrderedDict({**versions, "": {**versions.get("", {}), **weights.metadata()}})
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def _safetensors(predictor: IrisPredictor, weights: Weights) -> bytes:
    from safetensors.torch import save

    content: bytes = save(weights.state, metadata=weights.metadata())
    return content


def _onnx(predictor: IrisPredictor, weights: Weights) -> bytes:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        import_onnx(name)
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it tells which of torchvision's operators it does not need
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own code
        program = torch.onnx.export(
            predictor,
            (torch.zeros(2, predictor.network.in_features),),
            input_names=["features"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: Any = program.model_proto
    del model.metadata_props[:]  # the exporter's notes to itself
    for key, value in weights.metadata().items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def _check(predictor: IrisPredictor, weights: Weights, suffix: str, path: Path) -> str:
    """Loads a written file back and compares it with what it was written from."""
    read = read_weights(path, suffix)
    for name, tensor in weights.state.items():
        if not torch.equal(read.state[name], tensor):
            raise RuntimeError(f"export wrote another {name} than it was given")
    if read[1:] != weights[1:]:
        raise RuntimeError("export wrote other names than it was given")
    if suffix != ".onnx":
        return f"{len(read.state)} tensors, read back and equal"
    session = import_onnx("onnxruntime").InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    # Around the range of each feature where the network knows it, else around 0.
    rows = torch.randn(ROWS, predictor.network.in_features, generator=torch.Generator().manual_seed(0))
    if predictor.network.standardize:
        rows = rows * predictor.network.std + predictor.network.mean
    difference = float(np.abs(session.run(None, {"features": rows.numpy()})[0] - predictor.predict_proba(rows)).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"--output: its probabilities would differ by {difference:.1e}, more than {TOLERANCE:.0e}: this network's "
            "logits are so large that float32 rounds them; export .safetensors instead"
        )
    return f"{len(read.state)} tensors, read back and equal; probabilities of {ROWS} rows within {TOLERANCE:.0e}"
