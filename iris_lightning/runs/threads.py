"""The number of threads that torch uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Rows per batch times parameters, such as 4300 rows times the lesson's 243. Below this, threads
# mostly wait for each other; above it, two threads are about 20 % faster than one.
MIN_WORK_FOR_THREADS = 2**20


@contextmanager
def threads(work: int) -> Iterator[None]:
    """Lets torch use one thread within a block if the batches are small.

    Args:
        work: Rows per batch times parameters.
    """
    previous = torch.get_num_threads()
    if work < MIN_WORK_FOR_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(previous)
