"""Checkpoints that survive a kill at any moment: trained weights, optimizer and history, or nothing.

A tensor file is written first, under a name of its own; then one small JSON file, replaced in one move, points to it
by SHA-256. Whatever the moment of a crash, the JSON file names a complete tensor file. No pickle is involved,
and no second copy of the tensors in memory. On disk a checkpoint takes 12 bytes a trained weight, and there are two for
a moment.
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from canary_audit.errors import RunError
from canary_audit.results import EpochResult
from canary_audit.rundir import canonical_json, digest, sha256_file, write_atomic
from canary_audit.training.loss import StepLoss

_POINTER = "checkpoint.json"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far training has come."""

    step: int = 0
    tokens: int = 0
    """Tokens that have reached the loss."""
    epoch_nats: float = 0.0
    """Loss of the running epoch so far, summed over its tokens."""
    epoch_tokens: int = 0
    history: tuple[EpochResult, ...] = ()
    """Completed epochs."""

    def after_step(self, loss: StepLoss) -> "Progress":
        """One step further."""
        return replace(
            self,
            step=self.step + 1,
            tokens=self.tokens + loss.tokens,
            epoch_nats=self.epoch_nats + loss.nats,
            epoch_tokens=self.epoch_tokens + loss.tokens,
        )

    def after_epoch(self, result: EpochResult) -> "Progress":
        """The running epoch is complete."""
        return replace(self, epoch_nats=0.0, epoch_tokens=0, history=(*self.history, result))


def save_checkpoint(
    folder: Path, inputs_sha256: str, progress: Progress, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Replace the checkpoint in `folder` by this one."""
    folder.mkdir(parents=True, exist_ok=True)
    name, tensors_sha256 = _write_tensors(folder, progress.step, trained_tensors(network, optimizer))
    state = {
        "inputs_sha256": inputs_sha256,
        "step": progress.step,
        "tokens": progress.tokens,
        "epoch_nats": progress.epoch_nats,
        "epoch_tokens": progress.epoch_tokens,
        "history": [epoch.model_dump(mode="json") for epoch in progress.history],
        "tensors": name,
        "tensors_sha256": tensors_sha256,
    }
    write_atomic(folder / _POINTER, canonical_json({"state": state, "sha256": _digest(state)}).encode())
    for stale in folder.glob("step-*.safetensors"):
        if stale.name != name:
            stale.unlink()


def load_checkpoint(
    folder: Path, inputs_sha256: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Progress:
    """Put the checkpoint of `folder` into network and optimizer; without one, leave them and return no progress.

    Weights that are not trained are not in it: the network must come with them.

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
    restore(_read_tensors(folder, state), network, optimizer)
    return Progress(
        step=state["step"],
        tokens=state["tokens"],
        epoch_nats=state["epoch_nats"],
        epoch_tokens=state["epoch_tokens"],
        history=tuple(EpochResult.model_validate(epoch) for epoch in state["history"]),
    )


def trained_tensors(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What a checkpoint holds: weights that are trained, buffers, and the optimizer's moments."""
    weights = {f"network/{name}": tensor for name, tensor in _trained(network).items()}
    moments = {
        f"optimizer/{index}/{key}": tensor
        for index, entry in optimizer.state_dict()["state"].items()
        for key, tensor in entry.items()
    }
    return {name: tensor.detach().cpu().contiguous() for name, tensor in (weights | moments).items()}


def restore(tensors: dict[str, Tensor], network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put what `trained_tensors` gave back in place."""
    with torch.no_grad():
        for name, weight in _trained(network).items():
            weight.copy_(tensors[f"network/{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


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


def _write_tensors(folder: Path, step: int, tensors: dict[str, Tensor]) -> tuple[str, str]:
    """Write a tensor file, whole or not at all; returns its name and SHA-256.

    Raises:
        RunError: it cannot be written; the earlier checkpoint, if any, is unharmed.
    """
    temporary = folder / f".step.{os.urandom(8).hex()}.part"
    try:
        save_file(tensors, temporary)
        _sync(temporary)
        sha256 = sha256_file(temporary)
        name = f"step-{step:08d}-{sha256[:8]}.safetensors"
        temporary.replace(folder / name)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        n_bytes = sum(tensor.nbytes for tensor in tensors.values())
        raise RunError(
            f"{folder}: the checkpoint cannot be written: {error} ({n_bytes} bytes needed); an earlier one is unharmed"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return name, sha256


def _sync(path: Path) -> None:
    """Make a file's content, or a rename in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_tensors(folder: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / state["tensors"]
    if not path.is_file() or sha256_file(path) != state["tensors_sha256"]:
        raise _damaged(folder, state["tensors"])
    tensors: dict[str, Tensor] = load_file(path)
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


def _trained(network: torch.nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters with a gradient, and buffers."""
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    return {**weights, **dict(network.named_buffers())}
