"""What a network says of every token of whole texts: the raw material of membership scores.

A text is framed as in training: a start token that is only read, its own tokens, and an end token. Where a tokenizer
has no such tokens, the first token of the text is only read.

Texts of like length are read together, padded on the right; the networks are causal, so padding needs no mask. The
logits of one batch are all that is ever held, and the numbers made of them come a slice at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canary_audit.errors import ModelError
from canary_audit.models.interface import FloatArray
from canary_audit.models.scoring import check_log_probs, context_tokens, require_room
from canary_audit.models.tokenizer import document_end, document_start

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_TOKENS_PER_BATCH = 4_096
_LOGITS_PER_BATCH = 1 << 27
"""Half a gigabyte in fp32; one text may need more."""
_LOGITS_PER_SLICE = 1 << 22
_IMPOSSIBLE_NATS = -200.0
"""A token this unlikely has the probability 0 in fp32. Ruled out altogether it would be minus infinity times zero."""


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """One text under one network. Every array has shape (n_tokens,): the text's tokens and the end token."""

    tokens: NDArray[np.int64]
    log_probs: FloatArray
    """Of each token after those before it, in nats."""
    means: FloatArray
    """Mean log-probability under the network's own next-token distribution, in nats: its negative entropy."""
    deviations: FloatArray
    """Standard deviation of the same, in nats."""
    is_top: NDArray[np.bool_]
    """Whether no other token was more likely."""

    @property
    def nll_nats(self) -> float:
        """Negative log-likelihood of the text, a sum over its tokens."""
        return -float(self.log_probs.sum())


def token_scores(
    network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]
) -> list[TokenScores]:
    """Score every token of each text, in the order given; one forward pass over all of them.

    Batches depend on the lengths of the texts alone, so the numbers repeat exactly. Text that spells a special token is
    read as ordinary text. The network's mode is left as it was.

    Raises:
        ModelError: a text has nothing to predict, or is longer than the network reads; or the network is no causal
            language model, or gives impossible numbers.
    """
    if network.config.is_encoder_decoder:
        raise ModelError(f"{type(network).__name__} writes from a source text: whole texts have no score of their own")
    framed = _framed(tokenizer, texts)
    found: dict[int, TokenScores] = {}
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        for batch in _batches([len(tokens) - 1 for tokens in framed], _vocab_size(network)):
            scored = _score_batch(network, [framed[place] for place in batch])
            found |= zip(batch, scored, strict=True)
    network.train(was_training)
    return [found[place] for place in range(len(framed))]


def text_tokens(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text as training reads them: nothing added, special tokens never read out of the text."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _framed(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> list[list[int]]:
    lead, tail = ([] if token is None else [token] for token in (document_start(tokenizer), document_end(tokenizer)))
    framed = [[*lead, *tokens, *tail] for tokens in text_tokens(tokenizer, texts)]
    if min(map(len, framed), default=2) < 2:
        raise ModelError("a text has no token that could be predicted, and the tokenizer has none to put around it")
    return framed


def _vocab_size(network: "PreTrainedModel") -> int:
    """Logits of a token; a network may have more than its tokenizer has entries."""
    size: int = network.config.get_text_config(decoder=True).vocab_size
    return size


def _batches(lengths: Sequence[int], vocab_size: int) -> Iterator[list[int]]:
    """Places of texts to be read together, the longest first; a batch is as wide as its first text."""
    n_tokens = min(_TOKENS_PER_BATCH, _LOGITS_PER_BATCH // vocab_size)
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    start = 0
    while start < len(order):
        n_rows = max(1, n_tokens // lengths[order[start]])
        yield order[start : start + n_rows]
        start += n_rows


def _score_batch(network: "PreTrainedModel", framed: Sequence[Sequence[int]]) -> list[TokenScores]:
    lengths = [len(tokens) - 1 for tokens in framed]
    width = max(lengths)
    require_room(width, context_tokens(network), "a text reaches")
    cells = np.zeros((len(framed), width + 1), dtype=np.int64)
    for row, tokens in zip(cells, framed, strict=True):
        row[: len(tokens)] = tokens
    rows = torch.from_numpy(cells).to(network.device)
    logits = network(input_ids=rows[:, :-1]).logits
    asked = torch.arange(width, device=rows.device) < torch.tensor(lengths, device=rows.device)[:, None]
    numbers = _numbers(logits, rows[:, 1:], asked)
    check_log_probs(numbers[0])
    ends = np.cumsum(lengths)
    return [
        TokenScores(
            tokens=cells[row, 1 : length + 1],
            log_probs=numbers[0, end - length : end],
            means=numbers[1, end - length : end],
            deviations=numbers[2, end - length : end],
            is_top=numbers[3, end - length : end] > 0,
        )
        for row, (length, end) in enumerate(zip(lengths, ends, strict=True))
    ]


def _numbers(logits: Tensor, targets: Tensor, asked: Tensor) -> FloatArray:
    """Log-probability, mean, deviation and whether it is the top, of the asked targets: shape (4, n_asked)."""
    rows, places = asked.nonzero(as_tuple=True)
    n_tokens = max(1, _LOGITS_PER_SLICE // logits.shape[-1])
    slices = []
    for start in range(0, len(rows), n_tokens):
        own = rows[start : start + n_tokens], places[start : start + n_tokens]
        slices.append(_reduced(logits[own].float(), targets[own]))
    found: FloatArray = torch.cat(slices, dim=1).cpu().double().numpy()
    return found


def _reduced(logits: Tensor, targets: Tensor) -> Tensor:
    """The same of one slice of shape (n, vocab_size), in fp32."""
    log_probs = logits.log_softmax(dim=-1)
    own = log_probs.gather(1, targets[:, None])[:, 0]
    is_top = own >= log_probs.amax(dim=-1)
    probs = log_probs.exp()
    possible = log_probs.clamp_(min=_IMPOSSIBLE_NATS)
    means = (probs * possible).sum(dim=-1)
    deviations = (probs * (possible - means[:, None]).square()).sum(dim=-1).sqrt()
    return torch.stack([own, means, deviations, is_top.float()])
