"""One small trained tokenizer of each kind that language models use."""

import json
import random
from collections.abc import Callable
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from canary_audit.vocabulary import Vocabulary, vocabulary_of

END = "<|endoftext|>"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = "the cat sat on the mat and it's a red fox. my pin is 1234 and she's here 42 times, green grape"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def corpus() -> list[str]:
    """Words, mixed identifiers, hex and numbers, so that all of them merge."""
    rng = random.Random(7)
    plain = TEXT.split()
    mixed = ["".join(rng.choices("abcdeABCD0123", k=rng.randint(2, 6))) for _ in range(300)]
    hexes = ["".join(rng.choices("0123456789abcdef", k=8)) for _ in range(200)]
    numbers = [str(number) for number in range(1000)] + [f"{number:03}" for number in range(1000)] * 2
    mails = [f"{a}{b}@mail.com" for a in plain[:10] for b in plain[5:15]]
    words = plain * 40 + mixed * 2 + hexes + numbers + mails
    rng.shuffle(words)
    return [" ".join(words[start : start + 12]) for start in range(0, len(words), 12)]


def _finish(tokenizer: Tokenizer) -> Vocabulary:
    return vocabulary_of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END))


def _bpe(tokenizer: Tokenizer, vocab_size: int, alphabet: list[str]) -> Vocabulary:
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _finish(tokenizer)


def gpt2() -> Vocabulary:
    """Byte-level, digits merge freely."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _bpe(tokenizer, 900, BYTES)


def gpt2_with_space() -> Vocabulary:
    """Byte-level, with a space put before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return _bpe(tokenizer, 900, BYTES)


def llama3() -> Vocabulary:
    """Byte-level, digits in groups of three from the left, whole pre-tokens looked up first."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _bpe(tokenizer, 2600, BYTES)


def smollm2() -> Vocabulary:
    """Byte-level, each digit by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return _bpe(tokenizer, 700, BYTES)


def _characters() -> list[str]:
    return [chr(code) for code in range(0x21, 0x7F) if chr(code) not in "{}~"] + ["\u2581"]


def _with_fallback(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=_characters(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for name in fallback:
        vocabulary[name] = len(vocabulary)
    state["model"]["byte_fallback"] = True
    return _finish(Tokenizer.from_str(json.dumps(state)))


def sentence_piece() -> Vocabulary:
    """SentencePiece BPE with byte fallback, words split at spaces."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    return _with_fallback(tokenizer, 600)


def llama2() -> Vocabulary:
    """SentencePiece BPE with byte fallback and no pre-tokenizer at all: spaces merge like letters."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return _with_fallback(tokenizer, 600)


def unigram() -> Vocabulary:
    """SentencePiece unigram."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=500,
        special_tokens=[END, "<unk>"],
        unk_token="<unk>",
        initial_alphabet=_characters(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _finish(tokenizer)


KINDS: dict[str, Callable[[], Vocabulary]] = {
    maker.__name__: cache(maker) for maker in (gpt2, gpt2_with_space, llama3, smollm2, sentence_piece, llama2, unigram)
}
