"""Checkpoints that survive a kill at any moment: weights, optimizer and history, or nothing.

A tensor file is written first, under a name of its own; then one small JSON file, replaced in one move, points to it
by SHA-256. Whatever the moment of a crash, the JSON file names a complete tensor file. No pickle is involved.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from canary_audit.errors import RunError
from canary_audit.results import EpochResult
from canary_audit.rundir import canonical_json, digest, write_atomic

_POINTER = "checkpoint.json"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far training has come."""

    step: int = 0
    epoch_nats: float = 0.0
    """Loss of the running epoch so far, summed over its tokens."""
    history: tuple[EpochResult, ...] = ()
    """Completed epochs."""


def save_checkpoint(
    folder: Path, inputs_sha256: str, progress: Progress, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Replace the checkpoint in `folder` by this one."""
    folder.mkdir(parents=True, exist_ok=True)
    payload = save_tensors(_tensors(network, optimizer))
    payload_sha256 = hashlib.sha256(payload).hexdigest()
    name = f"step-{progress.step:08d}-{payload_sha256[:8]}.safetensors"
    state = {
        "inputs_sha256": inputs_sha256,
        "step": progress.step,
        "epoch_nats": progress.epoch_nats,
        "history": [epoch.model_dump(mode="json") for epoch in progress.history],
        "tensors": name,
        "tensors_sha256": payload_sha256,
    }
    write_atomic(folder / name, payload)
    write_atomic(folder / _POINTER, canonical_json({"state": state, "sha256": _digest(state)}).encode())
    for stale in folder.glob("step-*.safetensors"):
        if stale.name != name:
            stale.unlink()


def load_checkpoint(
    folder: Path, inputs_sha256: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Progress:
    """Put the checkpoint of `folder` into network and optimizer; without one, leave them and return no progress.

    Raises:
        RunError: the checkpoint is damaged, or belongs to a training with other inputs.
    """
    if not (folder / _POINTER).exists():
        return Progress()
    state = _read_state(folder)
    if state["inputs_sha256"] != inputs_sha256:
        raise RunError(
            f"{folder}: the checkpoint there belongs to another training (other data, weights, configuration, seed or "
            "torch version); give this one another folder, or delete that one"
        )
    _restore(_read_tensors(folder, state), network, optimizer)
    return Progress(
        step=state["step"],
        epoch_nats=state["epoch_nats"],
        history=tuple(EpochResult.model_validate(epoch) for epoch in state["history"]),
    )


def weights_sha256(network: torch.nn.Module) -> str:
    """Digest of all parameters and buffers, tied ones once."""
    found = hashlib.sha256()
    for name, tensor in sorted(_weights(network).items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        stored = json.loads((folder / _POINTER).read_bytes())
        state: dict[str, Any] = stored["state"]
        intact = stored["sha256"] == _digest(state)
    except (OSError, ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise _damaged(folder, _POINTER)
    return state


def _read_tensors(folder: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    try:
        payload = (folder / state["tensors"]).read_bytes()
    except OSError:
        payload = b""
    if hashlib.sha256(payload).hexdigest() != state["tensors_sha256"]:
        raise _damaged(folder, state["tensors"])
    tensors: dict[str, Tensor] = load_tensors(payload)
    return tensors


def _damaged(folder: Path, name: str) -> RunError:
    """A crash cannot cause this, so a person should know; starting over gives the same weights."""
    return RunError(
        f"{folder / name}: the checkpoint is damaged (its SHA-256 does not match); check the disk, then delete "
        f"{folder} to train from the start"
    )


def _digest(state: dict[str, Any]) -> str:
    return digest(canonical_json(state))


def _weights(network: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _tensors(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    weights = {f"network/{name}": tensor for name, tensor in _weights(network).items()}
    moments = {
        f"optimizer/{index}/{key}": tensor
        for index, entry in optimizer.state_dict()["state"].items()
        for key, tensor in entry.items()
    }
    return {name: tensor.detach().cpu().contiguous() for name, tensor in (weights | moments).items()}


def _restore(tensors: dict[str, Tensor], network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for name, weight in _weights(network).items():
            weight.copy_(tensors[f"network/{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
