"""The loss, one number a row.

A mean over the tokens of a padded batch would make one row's gradient depend on how long its neighbours are, and no
privacy guarantee could be given for it. So the loss of a row is the sum over its own tokens, and a batch is divided by
a constant. Every token then weighs the same, whichever row and batch it came in.
"""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from canary_audit.training.stream import TokenRows

_IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """Loss of the rows of one step, before its update."""

    nats: float
    """Summed over the rows."""
    tokens: int
    """Predicted tokens of these rows."""


def batch_of(rows: "TokenRows", indices: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens, shape (n_rows, context_tokens + 1), and lengths, shape (n_rows,), of the given rows."""
    tokens = torch.from_numpy(rows.tokens[indices].astype("int64"))
    lengths = torch.from_numpy(rows.lengths[indices].astype("int64"))
    return tokens.to(device), lengths.to(device)


def row_losses_nats(network: torch.nn.Module, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Negative log-likelihood of each row's predicted tokens, in nats, shape (n_rows,); padding counts nothing.

    Padding lies to the right and the models are causal, so it needs no mask on the way in.
    """
    return row_losses_of_logits(next_token_logits(network, tokens), tokens, lengths)


def next_token_logits(network: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Logits of each token but the first, shape (n_rows, context_tokens, vocab_size)."""
    logits: Tensor = network(input_ids=tokens[:, :-1].contiguous(), **_positions(network, tokens[:, 1:])).logits
    return logits


def row_losses_of_logits(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Negative log-likelihood of each row's predicted tokens under `logits`, in nats, shape (n_rows,)."""
    targets = tokens[:, 1:]
    padding = torch.arange(targets.shape[1], device=tokens.device) >= lengths[:, None]
    nats = functional.cross_entropy(
        logits.float().flatten(0, 1),
        targets.masked_fill(padding, _IGNORED).flatten(),
        ignore_index=_IGNORED,
        reduction="none",
    )
    return nats.view_as(targets).sum(dim=1)


def _positions(network: torch.nn.Module, targets: Tensor) -> dict[str, Tensor]:
    """Positions by row, for networks that take them: a position embedding that is looked up once for all rows has no
    gradient by row."""
    if "position_ids" not in inspect.signature(network.forward).parameters:
        return {}
    return {"position_ids": torch.arange(targets.shape[1], device=targets.device).repeat(len(targets), 1)}
