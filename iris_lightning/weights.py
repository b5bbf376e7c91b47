"""Weights of a network and what they mean: read from, and written to, `.pth`, `.safetensors` and `.onnx`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iris_lightning.errors import UserError
from iris_lightning.files import read_torch
from iris_lightning.network import ACTIVATIONS, IrisNetwork

__all__ = ["IRIS_CLASSES", "IRIS_FEATURES", "WEIGHTS_SUFFIXES", "Weights", "import_onnx", "read_weights", "weights_of"]

WEIGHTS_SUFFIXES = (".pth", ".safetensors", ".onnx")
# Those of scikit-learn's Iris, which weights that name none are taken for if their shape is that of the lesson.
IRIS_FEATURES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
IRIS_CLASSES = ("setosa", "versicolor", "virginica")


class Weights(NamedTuple):
    """The state of an `IrisNetwork`, and what its numbers mean.

    Attributes:
        state: The network's state dict, float32.
        feature_names: Names of the features in the order of the inputs, or `None` where the file does not say.
        class_names: Names of the classes in the order of the logits, or `None` where the file does not say.
        activation: What follows each hidden layer.
    """

    state: dict[str, Tensor]
    feature_names: list[str] | None
    class_names: list[str] | None
    activation: str | None

    @property
    def hidden(self) -> list[int]:
        """Sizes of the hidden layers."""
        layers = [tensor for name, tensor in self.state.items() if name.endswith("weight")]
        return [len(tensor) for tensor in layers[:-1]]

    @property
    def standardize(self) -> bool:
        """Whether the network scales its features."""
        return "mean" in self.state

    def metadata(self) -> dict[str, str]:
        """Returns the meaning of the weights as JSON texts, for formats that hold texts."""
        return {
            "feature_names": json.dumps(self.feature_names),
            "class_names": json.dumps(self.class_names),
            "activation": json.dumps(self.activation),
        }

    def fill(self, network: IrisNetwork) -> None:
        """Gives a network these weights.

        Raises:
            ValueError: If it is another network.
        """
        ours = network.state_dict()
        for name in [*self.state, *(ours.keys() - self.state.keys())]:
            shapes = [str(tuple(state[name].shape)) if name in state else "absent" for state in (self.state, ours)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"{name} is {shapes[0]} there and {shapes[1]} in the network of these options")
        network.load_state_dict(self.state, assign=any(tensor.is_meta for tensor in ours.values()))

    def network(self, path: Path) -> IrisNetwork:
        """Returns the network, in eval mode and without gradients.

        Args:
            path: Where the weights come from.

        Raises:
            UserError: If they are not those of an `IrisNetwork`.
        """
        layers = [tensor for name, tensor in self.state.items() if name.endswith("weight")]
        if not layers or any(layer.dim() != 2 for layer in layers):
            raise UserError(f"{path}: holds no weights of this project's network")
        # Without memory for now: the weights, which are as large as their file, become the network's own.
        try:
            with torch.device("meta"):
                network = IrisNetwork(
                    layers[0].shape[1], layers[-1].shape[0], self.hidden, self.activation, self.standardize
                )
            self.fill(network)
        except ValueError as error:
            raise UserError(f"{path}: holds another network: {error}") from error
        return network.eval().requires_grad_(False)


def read_weights(path: Path, suffix: str | None = None) -> Weights:
    """Reads the weights of a network as data: nothing in the file can run.

    Args:
        path: A file that `export` wrote, or the lesson's `torch.save(model.state_dict(), "model.pth")`.
        suffix: One of `WEIGHTS_SUFFIXES`; by default the path's.

    Raises:
        UserError: If the file is not one of these.
    """
    suffix = suffix or path.suffix
    if suffix not in WEIGHTS_SUFFIXES:
        raise UserError(f"{path}: expected a file that ends in {', '.join(WEIGHTS_SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    read = {".pth": _read_pth, ".safetensors": _read_safetensors, ".onnx": _read_onnx}[suffix]
    state, metadata = read(path)
    return weights_of(path, state, metadata)


def weights_of(path: Path, state: Any, metadata: Mapping[str, Any]) -> Weights:
    """Checks the state of a network and its meaning.

    Args:
        path: Where they come from.
        state: What should be a state dict.
        metadata: What should be `feature_names`, `class_names` and `activation`, where the file names them.

    Raises:
        UserError: If they are something else.
    """
    if not isinstance(state, dict) or not state:
        raise UserError(f"{path}: holds no weights of a network")
    for name, tensor in state.items():
        numbers = isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel() > 0
        if not isinstance(name, str) or not numbers:
            raise UserError(f"{path}: holds no weights of a network: {str(name)[:80]!r} is no tensor of numbers")
    weights = Weights(
        {name: state[name].float() for name in sorted(state, key=_by_layer)},
        metadata.get("feature_names"),
        metadata.get("class_names"),
        metadata.get("activation"),
    )
    for key, names in (("feature_names", weights.feature_names), ("class_names", weights.class_names)):
        if names is not None and (
            not isinstance(names, list)
            or not all(isinstance(name, str) and name.isprintable() | name.isascii() for name in names)
            or len(set(names)) < len(names)
        ):
            raise UserError(f"{path}: {key}: expected distinct texts, got {str(names)[:80]}")
    if weights.activation is not None and weights.activation not in list(ACTIVATIONS):
        raise UserError(
            f"{path}: activation: expected one of {', '.join(ACTIVATIONS)} or null, got {str(weights.activation)[:80]}"
        )
    if (weights.class_names is None) != (weights.feature_names is None):
        raise UserError(f"{path}: names features or classes, but not both")
    if weights.class_names is not None and weights.feature_names is not None:
        network = weights.network(path)
        if (network.in_features, network.num_classes) != (len(weights.feature_names), len(weights.class_names)):
            raise UserError(
                f"{path}: names {len(weights.feature_names)} features and {len(weights.class_names)} classes, "
                f"and its network has {network.in_features} and {network.num_classes}"
            )
    return weights


def _by_layer(name: Any) -> list[tuple[int, str]]:
    """Sorts layers by number; as text, layer 10 would come before layer 2."""
    return [(int(part), "") if part.isdecimal() and len(part) < 9 else (-1, part) for part in str(name).split(".")]


def _read_pth(path: Path) -> tuple[Any, dict[str, Any]]:
    state = read_torch(path, "a state dict")
    # Where a state dict keeps the versions of its modules; `load_state_dict` takes no notice of more.
    metadata = getattr(state, "_metadata", {})
    own = metadata.get("", {}) if isinstance(metadata, dict) else {}
    return state, _decode(path, own if isinstance(own, dict) else {})


def _read_safetensors(path: Path) -> tuple[Any, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, _decode(path, file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {str(error)[:200]}") from error


def _read_onnx(path: Path) -> tuple[Any, dict[str, Any]]:
    onnx = import_onnx("onnx")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        tensors = model.graph.initializer
        if any(tensor.data_location or not tensor.raw_data for tensor in tensors):
            raise UserError(f"{path}: holds its numbers elsewhere; refused")
        state = {
            tensor.name.removeprefix("network."): torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            for tensor in tensors
            if tensor.name.startswith("network.")  # others are the exporter's own constants
        }
        return state, _decode(path, {entry.key: entry.value for entry in model.metadata_props})
    except UserError:
        raise
    except Exception as error:  # whatever bytes the file holds
        raise UserError(f"{path}: cannot be read as ONNX: {str(error)[:200] or type(error).__name__}") from error


def _decode(path: Path, metadata: Mapping[Any, Any]) -> dict[str, Any]:
    try:
        return {
            key: json.loads(metadata[key]) for key in ("feature_names", "class_names", "activation") if key in metadata
        }
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is not what export wrote") from error


def import_onnx(name: str) -> Any:
    """Imports a module of the `[onnx]` extra.

    Raises:
        UserError: If it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"ONNX needs {name}; install it with: pip install 'iris_lightning[onnx]'") from error
