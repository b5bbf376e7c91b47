"""Averages the predictions of several networks. This module does not import Lightning."""

import copy
import math
import threading
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

PREFIX = "members."  # of the names of an ensemble's tensors
LOCK = threading.Lock()  # `functional_call` exchanges the tensors of a module while it runs


class EnsembleNetwork(nn.Module):
    """Averages the probabilities of several networks that differ only in their weights.

    Its logits are the logarithms of these averages, so `softmax` gives the averages.

    Args:
        network: A network with the options of all members.
        num_members: Number of networks.

    Attributes:
        members: Holds the weights of all members: each tensor has shape `(num_members, ...)`.
        only: Position of a member to use alone; `None` to average all members.

    Example:
        >>> from iris_lightning.network import IrisNetwork
        >>> EnsembleNetwork(IrisNetwork(), 5)(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(self, network: nn.Module, num_members: int) -> None:
        super().__init__()
        self.num_members = num_members
        self.only: int | None = None
        self.options = getattr(network, "options", None)
        self.members = copy.deepcopy(network).requires_grad_(False)
        for tensor in (*self.members.parameters(), *self.members.buffers()):
            tensor.data = tensor.data.expand(num_members, *tensor.shape).clone()

    def forward(self, features: Tensor) -> Tensor:
        """Computes logits, shape `(rows, classes)`, from features, shape `(rows, features)`."""
        positions = range(self.num_members) if self.only is None else [self.only]
        log_probabilities = []
        with LOCK:
            tensors = own_tensors(self.members)
            for position in positions:
                state = {name: tensor[position] for name, tensor in tensors.items()}
                logits = functional_call(self.members, state, (features,), tie_weights=False)
                log_probabilities.append(logits.log_softmax(dim=1))
        total = torch.stack(log_probabilities).logsumexp(dim=0)
        return total - math.log(len(log_probabilities))


def own_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Returns the parameters and buffers of a network by name, for `functional_call`.

    A module that is used twice, such as a shared `PReLU`, appears only under its first name, since
    `functional_call` would not restore it if it was given both names.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, module in network.named_modules():
        tensors.update(module.named_parameters(prefix, recurse=False))
        tensors.update(module.named_buffers(prefix, recurse=False))
    return tensors


def count_members(state: Mapping[str, Tensor]) -> int:
    """Returns the number of members in the state dict of an ensemble; 0 for a single network."""
    for name, tensor in state.items():
        if name.startswith(PREFIX):
            return len(tensor)
    return 0
