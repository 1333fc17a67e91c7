"""Mixup for language models: a row's embeddings are mixed with those of another row, and so are the two losses.

Zhang et al. 2018 mix inputs and labels of a classifier. Tokens cannot be mixed, so what is mixed is their embeddings,
position by position (as wordMixup does for sentences, Guo et al. 2019), and the loss of a row is the mixture of the
losses on both rows' next tokens, with the same weight. The training loss that is reported is that of the mixtures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from canary_audit.training.loss import next_token_logits, row_losses_of_logits


def mixed_row_losses_nats(network: Any, tokens: Tensor, lengths: Tensor, alpha: float) -> Tensor:
    """Loss of each row mixed with a partner, in nats, shape (n_rows,).

    Draws from torch's global generator: a weight for each row from Beta(alpha, alpha), and who is whose partner.

    Args:
        network: a transformers model.
        tokens: shape (n_rows, context_tokens + 1).
        lengths: predicted tokens of each row, shape (n_rows,).
    """
    weights = torch.distributions.Beta(alpha, alpha).sample((len(tokens),)).to(tokens.device)
    partners = torch.randperm(len(tokens)).to(tokens.device)
    return mixture_losses_nats(network, tokens, lengths, weights, partners)


def mixture_losses_nats(network: Any, tokens: Tensor, lengths: Tensor, weights: Tensor, partners: Tensor) -> Tensor:
    """The same for given weights of shape (n_rows,) in [0, 1] and partners, a permutation of the rows."""
    with _mixed_embeddings(network.get_input_embeddings(), weights, partners):
        logits = next_token_logits(network, tokens)
    own = row_losses_of_logits(logits, tokens, lengths)
    other = row_losses_of_logits(logits, tokens[partners], lengths[partners])
    return weights * own + (1 - weights) * other


@contextmanager
def _mixed_embeddings(embedding: nn.Module, weights: Tensor, partners: Tensor) -> Iterator[None]:
    def mix(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        share = weights[:, None, None].to(output.dtype)
        return share * output + (1 - share) * output[partners]

    handle = embedding.register_forward_hook(mix)
    try:
        yield
    finally:
        handle.remove()
