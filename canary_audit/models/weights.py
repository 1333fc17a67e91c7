"""What is required of weights before a model made of them is believed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from canary_audit.errors import ModelError


def require_complete(path: Path, loading_info: Mapping[str, Any]) -> None:
    """Every tensor of the network came out of the file, and every tensor of the file went into the network.

    Args:
        loading_info: what transformers returns for `output_loading_info`: kind of misfit -> tensors.

    Raises:
        ModelError: one is missing, unexpected or of another shape; names it.
    """
    for kind, found in loading_info.items():
        if found:
            names = [str(item[0] if isinstance(item, tuple) else item) for item in found]
            raise ModelError(
                f"{path}: the weights do not fit config.json: {kind.replace('_', ' ')}: {listed(names)}; "
                "transformers would go on with random weights in their place"
            )


def require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity.

    Raises:
        ModelError: a tensor holds one; names it.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: tensor {name} holds NaN or infinity; the model is damaged")


def listed(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
