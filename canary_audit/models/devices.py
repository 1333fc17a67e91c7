"""The devices of this machine, by torch's names."""

import torch

from canary_audit.errors import ModelError


def available_devices() -> tuple[str, ...]:
    """`cpu`, and every accelerator that torch can use here."""
    gpus = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return ("cpu", *gpus, *(("mps",) if torch.backends.mps.is_available() else ()))


def require_device(device: str) -> None:
    """Make sure that this machine has the device; `cuda` means its first GPU.

    Raises:
        ModelError: it has not; names those it has.
    """
    available = available_devices()
    if device not in available and not (device == "cuda" and "cuda:0" in available):
        raise ModelError(f"there is no device {device!r} here; available: {', '.join(available)}")
