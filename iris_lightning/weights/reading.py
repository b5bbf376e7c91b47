"""Reads the weights of a network, and the names and options that belong to them."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from iris_lightning.errors import UserError, join_names
from iris_lightning.hyperparameters import to_builtin
from iris_lightning.network import IRIS_CLASSES, IRIS_FEATURES, IrisNetwork
from iris_lightning.weights.averaging import PREFIX, EnsembleNetwork, count_members

NAME_LISTS = ("feature_names", "class_names", "na_values")
UNSEEN_OPTIONS = ("activation", "one_hot")  # which the shapes of the weights do not show


class Weights(NamedTuple):
    """The weights of an `IrisNetwork` or an ensemble of them, with their names and options.

    Attributes:
        state: The state dict, float32.
        options: Arguments of `IrisNetwork`.
        feature_names: Names of the features, in the order of the inputs.
        class_names: Names of the classes, in the order of the logits.
        na_values: Texts that meant a missing value in the table of the training.
    """

    state: dict[str, Tensor]
    options: dict[str, Any]
    feature_names: Sequence[str]
    class_names: Sequence[str]
    na_values: list[str | float | None] | None

    def metadata(self) -> dict[str, str]:
        """Returns options and names as JSON texts, for the metadata of a file."""
        values = dict(self.options)
        for name in NAME_LISTS:
            values[name] = getattr(self, name)
        return {name: json.dumps(value) for name, value in values.items()}

    def check_finite(self, path: Path) -> None:
        """Raises an error if training has diverged; `path` is for the message."""
        for tensor in self.state.values():
            if not tensor.isfinite().all():
                diverged = "its training has diverged; try a smaller learning rate"
                raise UserError(f"{path}: the network's weights are not finite: {diverged}")

    def network(self, path: Path) -> nn.Module:
        """Returns the network, in eval mode and without gradients; `path` is for messages."""
        try:
            with torch.device("meta"):  # allocates nothing: the weights are used as they are
                network: nn.Module = IrisNetwork(**self.options)
                num_members = count_members(self.state)
                if num_members:
                    network = EnsembleNetwork(network, num_members)
            network.load_state_dict(self.state, assign=True)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            *_, reason = str(error).splitlines()  # torch's last line is specific
            found = f"{path}: does not fit the network: {reason.strip()[:200]}"
            raise UserError(f"{found}; is its activation missing?") from error
        return network.eval().requires_grad_(False)


def read_weights(path: Path, **names: Any) -> Weights:
    """Reads a file written by `export`, or the lesson's `model.pth`. No code in it is run.

    Args:
        path: A `.safetensors` file, or a `.pth` file, which has no names and options.
        **names: Feature names, class names and options, for files that have none.
    """
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
    elif path.suffix == ".pth":
        state = read_torch(path)
        metadata = {}
    else:
        raise UserError(f"{path}: neither a checkpoint nor weights written by export")
    return make_weights(path, state, {**to_builtin(names), **metadata})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    state = {}
    metadata = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in list(file.keys()):
                state[name] = file.get_tensor(name)
            texts = file.metadata() or {}
        for name in (*NAME_LISTS, *UNSEEN_OPTIONS):
            if name in texts:
                metadata[name] = json.loads(texts[name])
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {str(error)[:200]}") from error
    return state, metadata


def read_torch(path: Path) -> Any:
    """Reads a file written by `torch.save`. No code in it is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Exception as error:  # damaged files make torch raise errors of many types
        kind = type(error).__name__
        raise UserError(f"{path}: not a file of plain tensors, or damaged ({kind})") from error


def make_weights(path: Path, state: Any, metadata: Mapping[str, Any]) -> Weights:
    """Checks weights and metadata, and infers most options from the shapes of the weights.

    Args:
        path: Where they were read, for messages.
        state: Should be the state dict of an `IrisNetwork`.
        metadata: May have names, by default those of Iris, and the options in `UNSEEN_OPTIONS`; all
            others are ignored.

    Raises:
        UserError: If `state` is not that of an `IrisNetwork`.
    """
    weights = {}
    try:
        for name, tensor in state.items():
            # `torch.compile` adds the prefix.
            weights[name.replace("_orig_mod.", "")] = tensor.float()
        options = _infer_options(weights)
        for name in UNSEEN_OPTIONS:
            if name in metadata:
                options[name] = metadata[name]
        features = [*map(str, metadata.get("feature_names") or IRIS_FEATURES)]
        classes = [*map(str, metadata.get("class_names") or IRIS_CLASSES)]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: holds no weights of this project's network") from error
    result = Weights(weights, options, features, classes, metadata.get("na_values"))
    result.network(path)  # raises an error if the options do not suit the weights
    sizes = {"feature_names": options["in_features"], "class_names": options["num_classes"]}
    for name, size in sizes.items():
        names = getattr(result, name)
        if not len(names) == len({*names}) == size:
            found = f"expected {size} distinct names, got {join_names(names)}"
            raise UserError(f"{path}: {name}: {found}")
    return result


def _infer_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infers options from the names and shapes of the weights; metadata cannot overrule them."""
    shapes = {}
    for name, tensor in state.items():
        shape = tensor.shape
        if name.startswith(PREFIX):
            shape = shape[1:]  # without the members
        shapes[name.removeprefix(PREFIX)] = shape
    layer_shapes = []
    for name in sorted(shapes, key=lambda name: (len(name), name)):  # layer 10 after layer 2
        if name.startswith("layers.") and len(shapes[name]) == 2:
            layer_shapes.append(shapes[name])
    # Each bin of a binned feature is one more input of the first layer.
    num_edges, num_binned = shapes.get("edges", (1, 0))
    bins = num_edges - 1
    sizes = [shape[0] for shape in layer_shapes]
    return {
        "in_features": layer_shapes[0][1] - bins * num_binned,
        "num_classes": sizes[-1],
        "hidden": sizes[:-1],
        "standardize": "mean" in shapes,
        "impute": "fill" in shapes,
        "bins": bins,
    }
