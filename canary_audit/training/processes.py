"""One training in several processes: `torchrun --nproc-per-node 2 -m canary_audit train CONFIG.toml`.

Process 0 runs the whole program. The others only follow its training: they are sent the network and the rows, take
their share of every batch, and are dismissed when training is done. Each process makes the same update from the same
sum of gradients, so the weights stay equal without being sent around. The sum is rounded in another order than in one
process, so a training has to be resumed in as many processes as it was started in.
"""

import os
import pickle
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from canary_audit.errors import ConfigError

_PATIENCE = timedelta(days=2)
"""How long a process waits for the others: process 0 measures exposure between two epochs."""


class Processes:
    """The processes of one training, and the device of this one."""

    def __init__(self, device: torch.device, count: int = 1, index: int = 0) -> None:
        self.device = device
        self.count = count
        self.index = index

    def share(self, items: Any) -> Any:
        """Give every process what process 0 holds; what the others hold is ignored."""
        if self.count == 1:
            return items
        packed = pickle.dumps(items) if self.index == 0 else b""
        size = torch.tensor([len(packed)])
        torch.distributed.broadcast(size, src=0)
        content = torch.empty(int(size), dtype=torch.uint8)
        if self.index == 0:
            content = torch.from_numpy(np.frombuffer(packed, dtype=np.uint8).copy())
        torch.distributed.broadcast(content, src=0)
        return pickle.loads(content.numpy().tobytes())  # noqa: S301  from our own process 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over the processes."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)
        return tensor


def this_process(device: str) -> Processes:
    """This process alone, on the device asked for.

    Raises:
        ConfigError: there is no such device.
    """
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=_handlers())
    try:
        asked = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"[training] device: '{device}' is not a device; write cpu, cuda or mps") from None
    found = accelerator.device
    if asked.type != found.type or (n_started() == 1 and (asked.index or 0) != (found.index or 0)):
        raise ConfigError(f"[training] device: {device} is not available, this machine offers {found}")
    return Processes(found)


def all_processes(device: str) -> Processes:
    """This process and those that torchrun started beside it.

    Raises:
        ConfigError: there is no such device, or the processes cannot talk to each other.
    """
    alone = this_process(device)
    if n_started() == 1:
        return alone
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() != n_started():
        raise ConfigError(f"torchrun started {n_started()} processes, but they did not find each other")
    return Processes(alone.device, n_started(), torch.distributed.get_rank())


def n_started() -> int:
    """Processes that torchrun started, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _handlers() -> list[InitProcessGroupKwargs]:
    return [InitProcessGroupKwargs(timeout=_PATIENCE)] if n_started() > 1 else []
