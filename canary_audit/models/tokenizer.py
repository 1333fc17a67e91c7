"""The built-in models' own byte-level BPE tokenizer, and where documents begin and end for any tokenizer.

The built-in one represents every string and gives it back unchanged: there is no normalizer, all 256 bytes are in the
alphabet, and special tokens are never read out of the text. Digits are split one by one, so a number of n digits is n
tokens.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
"""The one special token, id 0: it stands before and after a document, and pads."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary of at most `vocab_size` entries from `texts`.

    Train it on text without canaries, or it learns the secrets. Encoding adds no special token by itself. A corpus too
    small to offer enough merges gives fewer entries: size the network by `len(tokenizer)`. `max_length` (tokens) is
    recorded as the model's context. The result is a function of the texts and the two numbers.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,  # "<|endoftext|>" written in a document is text, not the end of the document
    )


def document_start(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """Token that stands before a document: beginning-of-text if the tokenizer has one, else end-of-text, else None.

    Training puts it there and the audit expects it there, so that both see a canary behind the same tokens.
    """
    start: int | None = tokenizer.bos_token_id
    return document_end(tokenizer) if start is None else start


def document_end(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """Token that stands after a document: end-of-text; None if the tokenizer has none."""
    end: int | None = tokenizer.eos_token_id
    return end
