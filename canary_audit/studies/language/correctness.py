"""Which tokens of a text a network would have written itself: no other token is likelier after those before it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from canary_audit.training.loss import batch_of, next_token_logits
from canary_audit.training.stream import TokenRows, pack_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_TOKENS_PER_BATCH: Final = 4_096
_LOGITS_PER_BATCH: Final = 1 << 27
"""Half a gigabyte in fp32; one row may need more."""


def correct_tokens(
    network: Any, tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], context_tokens: int
) -> list[NDArray[np.bool_]]:
    """For each text, whether each of its tokens, and the end token behind them, is the likeliest one.

    Every text is cut into rows of `context_tokens` tokens as training does with a document that has rows of its own, so
    long ones are read piece by piece. None may be empty.

    Args:
        network: in evaluation mode; it is left as it was.

    Returns:
        Arrays of shape (n_tokens + 1,), one for each text.
    """
    packed = [pack_documents([text], tokenizer, context_tokens) for text in texts]
    if not packed:
        return []
    rows = TokenRows(
        tokens=np.concatenate([one.tokens for one in packed]), lengths=np.concatenate([one.lengths for one in packed])
    )
    correct = np.zeros((rows.n_rows, context_tokens), dtype=bool)
    with torch.inference_mode():
        for batch in _batches(rows, network.config.get_text_config(decoder=True).vocab_size):
            width = int(rows.lengths[batch].max())
            tokens, _ = batch_of(rows, batch, network.device)
            tokens = tokens[:, : width + 1]
            top = next_token_logits(network, tokens).argmax(dim=-1)
            correct[batch, :width] = (top == tokens[:, 1:]).cpu().numpy()
    predicted = np.arange(context_tokens) < rows.lengths[:, None]
    ends = np.cumsum([one.n_tokens for one in packed])[:-1]
    return np.split(correct[predicted], ends)


def _batches(rows: TokenRows, vocab_size: int) -> Iterator[NDArray[np.int64]]:
    """Rows of like length together, the longest first; a batch is as wide as its first row."""
    most = min(_TOKENS_PER_BATCH, _LOGITS_PER_BATCH // vocab_size)
    order = np.argsort(-rows.lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, most // int(rows.lengths[order[start]]))
        yield order[start:stop]
        start = stop
