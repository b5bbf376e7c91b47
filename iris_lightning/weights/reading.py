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
METADATA = ("feature_names", "class_names", "activation", "na_values")


class Weights(NamedTuple):
    """The state dict of an `IrisNetwork`, float32, and what its numbers mean.

    The names of features and classes are in the order of the inputs and logits, or `None` where the file has none.
    `na_values` are what meant no value in the table of the training, or `None` for what usually does.
    """

    state: dict[str, Tensor]
    feature_names: list[str] | None
    class_names: list[str] | None
    activation: str | None
    na_values: list[str | float | None] | None = None

    @property
    def layers(self) -> list[Tensor]:
        """The weights of the layers, each of shape `(outputs, inputs)`."""
        return [tensor for name, tensor in self.state.items() if name.endswith("weight")]

    @property
    def hidden(self) -> list[int]:
        """Sizes of the hidden layers."""
        return [len(layer) for layer in self.layers[:-1]]

    @property
    def standardize(self) -> bool:
        """Whether the network scales its features."""
        return "mean" in self.state

    @property
    def impute(self) -> bool:
        """Whether the network replaces missing features."""
        return "fill" in self.state

    def metadata(self) -> dict[str, str]:
        """Returns the meaning of the weights as JSON texts, for formats that hold texts."""
        known = METADATA if self.na_values is not None else METADATA[:3]
        return {key: json.dumps(getattr(self, key)) for key in known}

    def fill(self, network: IrisNetwork) -> None:
        """Gives a network these weights; a ValueError says why they are those of another network."""
        if self.class_names is not None and self.hidden and self.activation != network.activation:
            raise ValueError(f"made with activation {self.activation or 'null'}, got {network.activation or 'null'}")
        if self.impute and not network.impute:
            raise ValueError("replaces missing values by means; expected missing: mean")
        try:
            network.load_state_dict(self.state, assign=any(tensor.is_meta for tensor in network.state_dict().values()))
        except RuntimeError as error:  # of which the first line names the class
            raise ValueError(f"another network: {' '.join(str(error).splitlines()[1].split())}") from error

    def network(self, path: Path) -> IrisNetwork:
        """Returns the network, in eval mode and without gradients; `path` is where the weights come from."""
        if not self.layers or any(layer.dim() != 2 for layer in self.layers):
            raise UserError(f"{path}: holds no weights of this project's network")
        sizes = self.layers[0].shape[1], self.layers[-1].shape[0]
        try:
            with torch.device("meta"):  # draws no random numbers; the weights become the network's own
                network = IrisNetwork(*sizes, self.hidden, self.activation, self.standardize, self.impute)
            self.fill(network)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        return network.eval().requires_grad_(False)


def read_weights(path: Path) -> Weights:
    """Reads what `export` wrote, or the lesson's `torch.save(model.state_dict(), "model.pth")`, as data."""
    if path.suffix not in SUFFIXES:
        hint = ", which export makes of a checkpoint" if path.suffix == ".ckpt" else ""
        raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}{hint}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                state, metadata = {name: file.get_tensor(name) for name in list(file.keys())}, file.metadata() or {}
        except (SafetensorError, OSError, RuntimeError) as error:
            raise UserError(f"{path}: cannot be read as safetensors: {str(error)[:200]}") from error
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
    """Reads what `torch.save` wrote, as data: nothing in it can run. `what` it should be is for messages."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Exception as error:  # whatever bytes the file holds, the user's remedy is the same
        raise UserError(f"{path}: not {what}, or a damaged one ({type(error).__name__})") from error


def weights_of(path: Path, state: Any, metadata: Mapping[str, Any]) -> Weights:
    """Checks what should be a state dict, and what should be names and activation, read from a path."""
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path}: holds no weights of a network")
    for name, tensor in state.items():
        # Contiguous: a small file may spread few numbers over any shape.
        dense = tensor.is_floating_point() and tensor.layout == torch.strided and tensor.is_contiguous()
        if not isinstance(name, str) or not dense or not tensor.numel():
            raise UserError(f"{path}: holds no weights of a network: {str(name)[:80]!r} is no tensor of numbers")
    features, classes, activation, na_values = (metadata.get(key) for key in METADATA)
    if not (na_values is None or isinstance(na_values, list)):
        raise UserError(f"{path}: na_values: expected a list, got {str(na_values)[:80]}")
    if activation not in [None, *ACTIVATIONS]:
        allowed = ", ".join(ACTIVATIONS)
        raise UserError(f"{path}: activation: expected one of {allowed} or null, got {str(activation)[:80]}")
    names = sorted(state, key=lambda name: (len(name), name))  # layer 10 after layer 2
    weights = Weights({name: state[name].float() for name in names}, features, classes, activation, na_values)
    network = weights.network(path)
    sizes = (features, "feature_names", network.in_features), (classes, "class_names", network.num_classes)
    for texts, key, size in sizes if (features, classes) != (None, None) else ():
        known = {text for text in texts if isinstance(text, str)} if isinstance(texts, list) else set()
        if not len(known) == size == len(texts or []):
            raise UserError(f"{path}: {key}: expected {size} distinct texts, got {str(texts)[:80]}")
    return weights
