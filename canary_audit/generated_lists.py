"""Word lists made from the model, for canaries that bound epsilon: its own tokens as words, and texts it wrote.

Random words that are single tokens are as unlikely as a text can be, so a model that has seen one stands out; texts
that the model wrote before it was trained on the user's data are as likely as any, like real text. Neither depends on
canaries or coins. The lists are kept in the ledger, so ledger and key alone give every secret back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np

from canary_audit.canaries import seed_of
from canary_audit.config import Config
from canary_audit.errors import ModelError, SpaceError
from canary_audit.models.determinism import reproducible
from canary_audit.models.interface import Children, FloatArray, IntArray, LanguageModel
from canary_audit.models.load import LoadedModel, load_model, load_tokenizer
from canary_audit.models.resolve import resolve_files
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.vocabulary import Vocabulary, vocabulary_of
from canary_audit.wordlists import FEWEST_TOKENS, SAMPLED, TOKENS, n_sampled_texts

_TOKENS_PER_TEXT = 32
_FEWEST_TOKENS_PER_TEXT = 20
_TEXTS_AT_ONCE = 32
_TRIALS_PER_TEXT = 8
"""Texts that are written for each that is needed, before the model is given up: many end too soon, or repeat."""

OnTexts = Callable[[int, int], None]
"""Told (texts found, texts needed)."""


def generate_lists(
    config: Config, needed: Mapping[str, int], *, key: bytes, unplanted: Iterable[str], on_texts: OnTexts | None = None
) -> dict[str, tuple[str, ...]]:
    """The lists that `canaries.generated_lists_of` found to be needed, from the model that training starts with.

    Args:
        key: decides which texts are sampled; the list of tokens depends on the tokenizer alone.
        unplanted: what a built-in model's tokenizer is trained on, as in training.

    Raises:
        SpaceError: the tokenizer has too few words, or rewrites text.
        ModelError: a pretrained model cannot be loaded, or does not write what can be planted.
    """
    model = config.model
    if model.kind != "pretrained":
        return {
            TOKENS: single_tokens(vocabulary_of(train_tokenizer(unplanted, model.vocab_size, model.context_tokens)))
        }
    files = resolve_files(model.path, revision=model.revision)
    lists = {}
    if TOKENS in needed:
        lists[TOKENS] = single_tokens(vocabulary_of(load_tokenizer(files.folder)))
    if SAMPLED in needed:
        with reproducible(config.training.threads, config.training.device):
            loaded = load_model(
                files.folder, adapter=files.adapter, device=config.training.device, batch_rows=_TEXTS_AT_ONCE
            )
            lists[SAMPLED] = sample_texts(
                loaded, n_sampled_texts(needed[SAMPLED]), seed=seed_of(key, "sampled texts"), on_texts=on_texts
            )
    return lists


def single_tokens(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Words of ASCII letters that are one token each behind a space, in the order of the vocabulary.

    Words that begin another one are left out, so that a secret that ends in a word has a clear end.

    Raises:
        SpaceError: there are fewer than `FEWEST_TOKENS`.
    """
    spelled = {token: vocabulary.spelled(token) for token in range(vocabulary.size)}
    letters = {token: word for token, word in spelled.items() if word[:1] == b" " and word[1:].isalpha()}
    first = vocabulary.encode(b"a")
    encoded = vocabulary.encode_batch([b"a" + word for word in letters.values()])
    words = [
        word[1:].decode()
        for (token, word), tokens in zip(letters.items(), encoded, strict=True)
        if tokens == [*first, token]
    ]
    kept = _without_beginnings(words)
    if len(kept) < FEWEST_TOKENS:
        raise SpaceError(
            f"{{word:{TOKENS}}}: only {len(kept)} entries of the tokenizer's vocabulary are words that begin no other, "
            f"and it takes {FEWEST_TOKENS}; enlarge [model] vocab_size, or use a built-in list such as english"
        )
    return kept


def sample_texts(loaded: LoadedModel, n_texts: int, *, seed: int, on_texts: OnTexts | None = None) -> tuple[str, ...]:
    """Distinct texts of a few dozen tokens that the model writes at temperature 1, in no particular order.

    Runs of white space become one space. Texts that end too soon, hold characters that cannot be printed, or begin
    another one are thrown away.

    Raises:
        ModelError: the model cannot continue nothing, or most of what it writes is of no use.
    """
    if loaded.prompt_token is None:
        raise ModelError(f"{{word:{SAMPLED}}}: the model writes nothing by itself: it has no token to start from")
    vocabulary = vocabulary_of(loaded.tokenizer)
    draw = np.random.Generator(np.random.Philox(seed))
    found: dict[str, None] = {}
    for _ in range(max(1, _TRIALS_PER_TEXT * n_texts // _TEXTS_AT_ONCE)):
        for tokens in _sampled_tokens(loaded.language_model, loaded.prompt_token, vocabulary.size, draw):
            if text := _plantable(tokens, vocabulary):
                found[text] = None
        kept = _without_beginnings(list(found))
        if on_texts:
            on_texts(min(len(kept), n_texts), n_texts)
        if len(kept) >= n_texts:
            return kept[:n_texts]
    raise ModelError(
        f"{{word:{SAMPLED}}}: the model wrote {len(kept)} texts that can be planted, of {n_texts}; most of what it "
        "writes ends at once, repeats itself or cannot be printed"
    )


def _sampled_tokens(
    model: LanguageModel, start: int, vocab_size: int, draw: np.random.Generator
) -> Iterator[list[int]]:
    """`_TEXTS_AT_ONCE` continuations of the start token."""
    everything = np.arange(vocab_size)
    state, nats = model.root([start], Children(rows=np.zeros(vocab_size, dtype=np.int64), tokens=everything))
    parents = np.zeros(_TEXTS_AT_ONCE, dtype=np.int64)
    log_probs = np.repeat(nats[None, :], _TEXTS_AT_ONCE, axis=0)
    columns = []
    for place in range(_TOKENS_PER_TEXT):
        columns.append(_drawn(log_probs, draw))
        if place + 1 < _TOKENS_PER_TEXT:
            wanted = Children(
                rows=np.repeat(np.arange(_TEXTS_AT_ONCE), vocab_size), tokens=np.tile(everything, _TEXTS_AT_ONCE)
            )
            state, nats = model.step(state, parents, columns[-1], wanted)
            parents = np.arange(_TEXTS_AT_ONCE)
            log_probs = nats.reshape(_TEXTS_AT_ONCE, vocab_size)
    yield from np.stack(columns, axis=1).tolist()


def _drawn(log_probs: FloatArray, draw: np.random.Generator) -> IntArray:
    """One token a row, by inversion of its distribution function; shapes (n_rows, vocab_size) and (n_rows,)."""
    reached = np.cumsum(np.exp(log_probs), axis=1)
    level = draw.random(len(reached)) * reached[:, -1]
    tokens: IntArray = np.minimum((reached <= level[:, None]).sum(axis=1), reached.shape[1] - 1)
    return tokens


def _plantable(tokens: list[int], vocabulary: Vocabulary) -> str | None:
    """The text of sampled tokens up to the first special one, or None if it is of no use."""
    pieces = [vocabulary.spelled(token) for token in tokens]
    n_pieces = pieces.index(b"") if b"" in pieces else len(pieces)
    try:
        text = " ".join(b"".join(pieces[:n_pieces]).decode().split())
    except UnicodeDecodeError:  # it ends amid a character
        return None
    return text if n_pieces >= _FEWEST_TOKENS_PER_TEXT and text.isprintable() else None


def _without_beginnings(words: list[str]) -> tuple[str, ...]:
    """The words that no other one begins with, in the order given."""
    ordered = sorted(words)
    begun = {word for word, following in pairwise(ordered) if following.startswith(word)}
    return tuple(word for word in words if word not in begun)
