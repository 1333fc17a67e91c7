"""What requests are made of: token ids and texts as JSON can hold them, and how much they cost."""

from collections.abc import Sequence

from canary_audit.errors import EndpointError
from canary_audit.vocabulary import Vocabulary


def integers(tokens: Sequence[int]) -> list[int]:
    """Plain integers; numpy's are none to JSON."""
    return [int(token) for token in tokens]


def prompt_of(tokens: Sequence[int]) -> list[int]:
    """The tokens of a prompt.

    Raises:
        EndpointError: there are none, and no server answers that.
    """
    if not len(tokens):
        raise EndpointError("a server needs a token to start from: give the canaries a prefix")
    return integers(tokens)


def n_tokens_of(text: str, vocabulary: Vocabulary | None) -> int:
    """Tokens of a text; without a vocabulary its bytes, which are at least as many."""
    return len(text.encode()) if vocabulary is None else len(vocabulary.encode(text.encode()))


def spaced(seed: int, n: int) -> int:
    """The seed of a request for `n` texts. Servers count up from it, so that the next request's must be `n` higher."""
    return seed * n


def names_at_once(top_k: int, vocabulary: Vocabulary | None) -> int:
    """How many likeliest tokens to ask for: a server names no more than there are."""
    return top_k if vocabulary is None else min(top_k, vocabulary.size)


def text_of(tokens: Sequence[int], vocabulary: Vocabulary | None) -> str:
    """The text that a server tokenizes to `tokens`, special tokens left out: servers put their own before a text.

    Raises:
        EndpointError: there is no vocabulary, or no such text.
    """
    if vocabulary is None:
        raise EndpointError("only texts can be sent here, and tokens have none without a tokenizer: give --tokenizer")
    spelling = [token for token in integers(tokens) if vocabulary.spelled(token)]
    spelled = b"".join(vocabulary.spelled(token) for token in spelling)
    # A tokenizer that puts a space before a text does so on the server too.
    for text in (spelled, spelled.removeprefix(b" ")):
        try:
            text.decode()
        except UnicodeDecodeError:
            continue
        if vocabulary.encode(text) == spelling:
            return text.decode()
    raise EndpointError(
        "a prefix ends inside a character, or is not how the tokenizer writes its text, so that it cannot be sent as a "
        "text: use an API that takes token ids"
    )
