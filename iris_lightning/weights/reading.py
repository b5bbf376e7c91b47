"""Weights of a network and what they mean, as read from a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iris_lightning.errors import UserError
from iris_lightning.network import ACTIVATIONS, IrisNetwork

__all__ = ["SUFFIXES", "Weights", "read_torch", "read_weights", "weights_of"]

SUFFIXES = (".pth", ".safetensors")
METADATA = ("feature_names", "class_names", "activation")


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
        return [len(tensor) for name, tensor in self.state.items() if name.endswith("weight")][:-1]

    @property
    def standardize(self) -> bool:
        """Whether the network scales its features."""
        return "mean" in self.state

    def metadata(self) -> dict[str, str]:
        """Returns the meaning of the weights as JSON texts, for formats that hold texts."""
        return {key: json.dumps(getattr(self, key)) for key in METADATA}

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
        if self.class_names is not None and self.hidden and self.activation != network.activation:
            raise ValueError(f"made with activation {self.activation or 'null'}, got {network.activation or 'null'}")
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
                sizes = layers[0].shape[1], layers[-1].shape[0]
                network = IrisNetwork(*sizes, self.hidden, self.activation, self.standardize)
            self.fill(network)
        except ValueError as error:
            raise UserError(f"{path}: holds another network: {error}") from error
        return network.eval().requires_grad_(False)


def read_weights(path: Path) -> Weights:
    """Reads the weights of a network as data: nothing in the file can run.

    Args:
        path: A file that `export` wrote, or the lesson's `torch.save(model.state_dict(), "model.pth")`.

    Raises:
        UserError: If the file is not one of these.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    else:
        state = read_torch(path, "a state dict")
        # Where a state dict keeps the versions of its modules; `load_state_dict` takes no notice of more.
        modules = getattr(state, "_metadata", {})
        metadata = modules.get("", {}) if isinstance(modules, dict) else {}
    try:
        texts = {key: json.loads(metadata[key]) for key in METADATA if key in metadata}
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is not what export wrote") from error
    return weights_of(path, state, texts)


def read_torch(path: Path, what: str) -> Any:
    """Reads what `torch.save` wrote, as data: nothing in it can run.

    Args:
        path: The file.
        what: What it should be, for messages.

    Raises:
        UserError: If the file is anything else.
    """
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected {what}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # whatever bytes the file holds, the user's remedy is the same
        raise UserError(f"{path}: not {what}, or a damaged one ({type(error).__name__})") from error


def _read_safetensors(path: Path) -> tuple[Any, Mapping[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {str(error)[:200]}") from error


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
        # Contiguous: a small file may spread few numbers over any shape.
        numbers = isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided
        if not isinstance(name, str) or not numbers or not tensor.numel() or not tensor.is_contiguous():
            raise UserError(f"{path}: holds no weights of a network: {str(name)[:80]!r} is no tensor of numbers")
    features, classes, activation = (metadata.get(key) for key in METADATA)
    weights = Weights(
        {name: state[name].float() for name in sorted(state, key=_by_layer)}, features, classes, activation
    )
    if activation is not None and activation not in list(ACTIVATIONS):
        allowed = ", ".join(ACTIVATIONS)
        raise UserError(f"{path}: activation: expected one of {allowed} or null, got {str(activation)[:80]}")
    if features is None and classes is None:
        return weights
    network = weights.network(path)
    for key, names, size in (
        ("feature_names", features, network.in_features),
        ("class_names", classes, network.num_classes),
    ):
        texts = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        if len(set(texts)) != size or texts != names:
            raise UserError(f"{path}: {key}: expected {size} distinct texts, got {str(names)[:80]}")
    return weights


def _by_layer(name: Any) -> list[tuple[int, str]]:
    """Sorts layers by number; as text, layer 10 would come before layer 2."""
    return [(int(part), "") if part.isdecimal() and len(part) < 9 else (-1, part) for part in str(name).split(".")]
