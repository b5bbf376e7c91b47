"""How many threads torch uses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from iris_lightning.errors import UserError

# Rows of a batch times parameters, from which on two threads are faster than one, by a fifth: 4096
# rows in the lesson's network. Below that they wait for each other, on a busy machine twenty times
# as
# long as they work.
SMALL_WORK = 2**20
MAX_THREADS = 256


@contextmanager
def threads(number: int | None, work: int) -> Iterator[None]:
    """Sets torch's threads within an operation, and sets them back in the end.

    Args:
        number: What the user asks for; by default one for small batches, and else torch's own
            choice.
        work: Rows of a batch times parameters.
    """
    before = torch.get_num_threads()
    if number is not None and not 1 <= number <= MAX_THREADS:
        raise UserError(f"expected a whole number from 1 to {MAX_THREADS}, got {number}", "threads")
    chosen_outside = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys()
    if number is None:
        number = before if chosen_outside or work >= SMALL_WORK else 1
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
