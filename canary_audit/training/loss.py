"""The loss, one number a row.

A mean over the tokens of a padded batch would make one row's gradient depend on how long its neighbours are, and no
privacy guarantee could be given for it. So the loss of a row is the sum over its own tokens, and a batch is divided by
a constant. Every token then weighs the same, whichever row and batch it came in.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from canary_audit.training.stream import TokenRows

_IGNORED = -100


def batch_of(rows: "TokenRows", indices: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens, shape (n_rows, context_tokens + 1), and lengths, shape (n_rows,), of the given rows."""
    tokens = torch.from_numpy(rows.tokens[indices].astype("int64"))
    lengths = torch.from_numpy(rows.lengths[indices].astype("int64"))
    return tokens.to(device), lengths.to(device)


def row_losses_nats(network: torch.nn.Module, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Negative log-likelihood of each row's predicted tokens, in nats, shape (n_rows,); padding counts nothing.

    Padding lies to the right and the models are causal, so it needs no mask on the way in.
    """
    targets = tokens[:, 1:]
    padding = torch.arange(targets.shape[1], device=tokens.device) >= lengths[:, None]
    logits: Tensor = network(input_ids=tokens[:, :-1]).logits
    nats = functional.cross_entropy(
        logits.float().flatten(0, 1),
        targets.masked_fill(padding, _IGNORED).flatten(),
        ignore_index=_IGNORED,
        reduction="none",
    )
    return nats.view_as(targets).sum(dim=1)
