"""The settings of torch that decide the last bit of a sum."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def reproducible(threads: int, device: str) -> Iterator[None]:
    """Within the block: this many processor threads, and deterministic kernels.

    torch knows these settings only per process, so they are put back at the end. On a GPU the deterministic
    mode needs an environment variable from before the process starts (CUBLAS_WORKSPACE_CONFIG), so there it is left as
    it was. torch would also fill fresh memory in that mode, at a fifth of the time of a large model's training step;
    nothing here reads memory it has not written.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    filling_before = memory.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic_before or device == "cpu")
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic_before)
        memory.fill_uninitialized_memory = filling_before
