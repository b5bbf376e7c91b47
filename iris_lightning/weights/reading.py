"""The weights of a network and what they mean, as read from a file."""

import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iris_lightning.errors import UserError
from iris_lightning.network import IrisNetwork

SUFFIXES = (".pth", ".safetensors")
NAMES = ("feature_names", "class_names", "na_values")


class Weights(NamedTuple):
    """The state dict of an `IrisNetwork`, float32, and what its numbers mean."""

    state: dict[str, Tensor]
    options: dict[str, Any]  # of the network
    feature_names: list[str] | None  # in the order of the inputs
    class_names: list[str] | None  # in the order of the logits
    na_values: list[str | float | None] | None = None  # as in the table of the training

    def metadata(self) -> dict[str, str]:
        """Returns the meaning of the weights as JSON texts, for formats that hold texts."""
        meaning: dict[str, Any] = dict(self.options)
        for name in NAMES:
            value = getattr(self, name)
            if value is not None:
                meaning[name] = value
        texts = {}
        for name, value in meaning.items():
            texts[name] = json.dumps(value)
        return texts

    def load_into(self, network: torch.nn.Module) -> None:
        """Gives a network these weights.

        Raises:
            ValueError: If they are those of another network.
        """
        on_meta = next(network.parameters()).is_meta  # where there is nothing to copy to
        try:
            network.load_state_dict(self.state, assign=on_meta)
        except RuntimeError as error:
            reason = " ".join(str(error).splitlines()[1].split())  # the first line names the class
            raise ValueError(f"the weights are those of another network: {reason}") from error

    def check_finite(self, path: Path) -> None:
        """Refuses the weights of a network whose training has diverged; `path` is for messages."""
        for tensor in self.state.values():
            if not tensor.isfinite().all():
                diverged = "the network's weights are not finite: its training has diverged"
                raise UserError(f"{path}: {diverged}")

    def network(self, path: Path) -> IrisNetwork:
        """Returns the network, in eval mode and without gradients; `path` is for messages."""
        try:
            with torch.device("meta"):  # the weights become the network's own
                network = IrisNetwork(**self.options)
            self.load_into(network)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            reason = str(error).splitlines()[0][:200]
            hint = ""
            if path.suffix == ".pth":
                hint = "; it holds no activation: load(path, activation=...), or use .safetensors"
            raise UserError(f"{path}: {reason}{hint}") from error
        return network.eval().requires_grad_(False)


def network_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of some options that an `IrisNetwork` has."""
    known = inspect.signature(IrisNetwork).parameters
    return {name: options[name] for name in known if name in options}


def read_weights(path: Path, **names: Any) -> Weights:
    """Reads what `export` wrote, or the lesson's `model.pth`, as data: nothing in it can run.

    Args:
        path: A `.safetensors` file, which holds names and options, or a `.pth` file, which does
            not.
        **names: Feature names, class names and options of the network, where the file has none.
    """
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    elif path.suffix == ".pth":
        state, metadata = read_torch(path, "a state dict"), {}
    else:
        expected = f"expected a file that ends in {', '.join(SUFFIXES)}"
        hint = ", which export makes of a checkpoint" if path.suffix == ".ckpt" else ""
        raise UserError(f"{path}: {expected}{hint}")
    return make_weights(path, state, {**names, **metadata})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in list(file.keys())}
            texts = file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {str(error)[:200]}") from error
    metadata = {}
    try:
        for name in (*NAMES, *inspect.signature(IrisNetwork).parameters):
            if name in texts:
                metadata[name] = json.loads(texts[name])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is not what export wrote") from error
    return state, metadata


def read_torch(path: Path, what: str) -> Any:
    """Reads what `torch.save` wrote, as data: nothing in it can run. `what` is for messages."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of foreign pickles, which are refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Exception as error:  # whatever bytes the file holds, the user's remedy is the same
        kind = type(error).__name__
        raise UserError(f"{path}: not {what}, or a damaged one ({kind})") from error


def make_weights(path: Path, state: Any, meaning: Mapping[str, Any]) -> Weights:
    """Checks a state dict and what it is said to mean.

    Args:
        path: Where they were read, for messages.
        state: What should be the state dict of an `IrisNetwork`.
        meaning: Names and network options; options that lack are taken from the shapes of the
            weights.
    """
    if not isinstance(state, dict) or not state:
        raise UserError(f"{path}: holds no weights of a network")
    for name, tensor in state.items():
        if not _is_dense(tensor):
            raise UserError(
                f"{path}: holds no weights of a network: {str(name)[:80]!r} is no tensor of numbers"
            )
    plain = {str(name).replace("_orig_mod.", ""): tensor.float() for name, tensor in state.items()}
    options = {**_infer_options(path, plain), **network_options(meaning)}
    weights = Weights(plain, options, *map(meaning.get, NAMES))
    network = weights.network(path)
    _check_names(path, "feature_names", weights.feature_names, network.in_features)
    _check_names(path, "class_names", weights.class_names, network.num_classes)
    return weights


def _is_dense(tensor: object) -> bool:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or not tensor.numel():
        return False
    # Contiguous: otherwise a small file could spread few numbers over any shape.
    return tensor.layout == torch.strided and tensor.is_contiguous()


def _infer_options(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the options that the shapes of the weights tell: all but the activation."""
    shapes = []
    for name in sorted(state, key=lambda name: (len(name), name)):  # layer 10 after layer 2
        if state[name].dim() == 2:
            shapes.append(state[name].shape)
    if not shapes:
        raise UserError(f"{path}: holds no weights of this project's network")
    sizes = [shape[0] for shape in shapes]
    return {
        "in_features": shapes[0][1],
        "num_classes": sizes[-1],
        "hidden": sizes[:-1],
        "standardize": "mean" in state,
        "impute": "fill" in state,
    }


def _check_names(path: Path, key: str, names: Any, size: int) -> None:
    if names is None:
        return
    texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not texts or len(set(names)) != size or len(names) != size:
        raise UserError(f"{path}: {key}: expected {size} distinct texts, got {str(names)[:80]}")
