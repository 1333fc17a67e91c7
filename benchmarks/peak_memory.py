"""The memory that training takes, measured in a process of its own. Linux tells it; others do not."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from dp_steps import Step

_STEPS = 4
"""Private steps draw batches of random size: a few, so that some are large."""


def peak_megabytes(build: Callable[[], Step]) -> float | None:
    """Most memory that weights, optimizer and a few steps take, in a process of their own; None where not told."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=_send_peak, args=(build, sender))
    child.start()
    sender.close()  # so that a child that dies is noticed
    megabytes: float = receiver.recv()
    child.join()
    return round(megabytes, 1)


def _send_peak(build: Callable[[], Step], sender: Connection) -> None:
    before = _status_megabytes("VmRSS")
    take = build()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: loading a model is no part of it
    for step in range(_STEPS):
        take(step)
    sender.send(_status_megabytes("VmHWM") - before)


def _status_megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))
