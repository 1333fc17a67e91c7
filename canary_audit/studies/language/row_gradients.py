"""How strongly single documents pull at the weights: norms of their gradients, and how unequal these are.

Arpit et al. 2017, section 4.2, follow the loss back through training to each example; that costs the whole training in
memory. The norm of a row's own gradient, taken at checkpoints, is what TracIn (Pruthi et al. 2020) calls its influence
on itself, as a norm instead of a square.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.stream import pack_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def gradient_norms(
    network: Any, tokenizer: "PreTrainedTokenizerFast", documents: Sequence[str], context_tokens: int
) -> NDArray[np.float64]:
    """L2 norm of the gradient of each document's mean loss a token, over all weights that are trained.

    A document is read as training reads it when it has rows of its own. The mean, because the norm of a sum says above
    all how long a document is.

    Args:
        network: in evaluation mode; it is left as it was.
        context_tokens: tokens of a training row.

    Returns:
        Shape (n_documents,), in nats a token for a unit step of the weights.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    found = []
    # cuDNN refuses a gradient through an LSTM in evaluation mode.
    with torch.backends.cudnn.flags(enabled=False):
        for document in documents:
            rows = pack_documents([document], tokenizer, context_tokens)
            tokens, lengths = batch_of(rows, slice(None), network.device)
            loss = row_losses_nats(network, tokens, lengths).sum() / lengths.sum()
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
            found.append(float(torch.stack(squares).sum().sqrt()))
    return np.array(found)
