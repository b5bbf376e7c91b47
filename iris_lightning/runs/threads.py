"""The number of threads that torch uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Rows per batch times parameters. Below this, threads mostly wait for each other: up to twenty
# times as long as they work, on a busy machine. Above it, two threads are about 20 % faster than
# one. For the lesson's network, it corresponds to 4096 rows.
MIN_WORK_FOR_THREADS = 2**20


@contextmanager
def threads(number: int | None, work: int) -> Iterator[None]:
    """Sets torch's number of threads within a block.

    Args:
        number: Number of threads. By default 1 for small batches, and torch's own choice otherwise.
        work: Rows per batch times parameters.
    """
    previous = torch.get_num_threads()
    if number is None:
        number = previous
        if work < MIN_WORK_FOR_THREADS:
            number = 1
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(previous)
