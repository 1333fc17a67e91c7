"""From logits to the log-probabilities of the tokens that were asked for; shared by the back-ends that run here."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from canary_audit.errors import ModelError
from canary_audit.models.interface import FloatArray
from canary_audit.models.passes import Chunk

LARGEST_LOG_PROB_NATS = 1e-6
"""A log-probability may pass zero by rounding, and by no more."""


def prompt_ids(network: PreTrainedModel, prompt: Sequence[int]) -> Tensor:
    """The prompt's tokens, shape (1, n_tokens), on the network's device.

    Raises:
        ModelError: the prompt is empty, or the network is in training mode.
    """
    if not prompt:
        raise ModelError("the prompt is empty: the model needs at least one token, such as the one before a document")
    if network.training:
        raise ModelError("the network is in training mode, where dropout makes its scores random: call eval() first")
    return torch.tensor([list(prompt)], device=network.device)


def context_tokens(network: PreTrainedModel) -> int | None:
    """Positions the network was built for; None if it has no such limit."""
    limit: int | None = getattr(network.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return limit


def require_room(n_tokens: int, limit: int | None, who: str = "prompt and secret reach") -> None:
    """Refuse sequences beyond the network's positions.

    Raises:
        ModelError: `n_tokens` exceeds `limit`.
    """
    if limit is not None and n_tokens > limit:
        raise ModelError(
            f"{who} {n_tokens} tokens, the model was built for {limit}: "
            "use a shorter one or a model with a longer context"
        )


def child_log_probs(logits: Tensor, chunk: Chunk) -> FloatArray:
    """Log-probabilities in nats, float64, of the chunk's children; `logits` may be overwritten.

    `logits` has shape (n_asked, vocab_size), in any precision. The sum over the vocabulary is taken in fp32, with the
    largest logit of each row moved to zero, in place: at 4,096 rows and 50,000 tokens a copy would be 800 MB.

    Raises:
        ModelError: a value cannot be a log-probability.
    """
    if not len(chunk.tokens):
        return np.empty(0)
    scores = logits.float()
    scores -= scores.amax(dim=-1, keepdim=True)
    places = torch.from_numpy(chunk.places).to(scores.device)
    asked = scores[places, torch.from_numpy(chunk.tokens).to(scores.device)]
    totals = scores.exp_().sum(dim=-1)
    log_probs: FloatArray = asked.cpu().double().numpy() - np.log(totals.cpu().double().numpy())[chunk.places]
    check_log_probs(log_probs)
    return log_probs


def check_log_probs(log_probs: FloatArray) -> None:
    """Refuse numbers that no trained model can give.

    Raises:
        ModelError: a value is not a number, infinite, or above zero by more than rounding; says how many are.
    """
    faults = {
        "not a number (the logits hold NaN or +infinity)": np.isnan(log_probs),
        "minus infinity (the model rules the token out)": np.isneginf(log_probs),
        f"above {LARGEST_LOG_PROB_NATS:g} nats (a probability above one)": log_probs > LARGEST_LOG_PROB_NATS,
    }
    for fault, wrong in faults.items():
        if wrong.any():
            raise ModelError(
                f"{int(wrong.sum())} of {len(log_probs)} log-probabilities are {fault}; "
                "the model is damaged or overflows, and cannot be audited"
            )
