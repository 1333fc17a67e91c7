"""Given secrets as tokens, without the tree of their whole space: all that scoring them takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from canary_audit.errors import SpaceError
from canary_audit.tokens.trie import TrieWalk
from canary_audit.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class SpelledSecrets:
    """Secrets behind one prefix, each as the canonical tokens of its whole text."""

    prompt: tuple[int, ...]
    """Tokens that all texts begin with and that end before the secret, the lead included."""
    paths: tuple[tuple[int, ...], ...]
    """The tokens behind it, up to the one that holds the last byte of the secret; in the order of the secrets."""

    def walk(self) -> TrieWalk:
        """A tree of these secrets alone; its leaves do not spell them."""
        return TrieWalk(self.prompt, sorted(set(self.paths)), lambda _: b"")


def spell_secrets(
    secrets: Sequence[bytes],
    vocabulary: Vocabulary,
    *,
    prefix: str,
    suffix: str = "",
    lead: Sequence[int] = (),
    prefix_free: bool = True,
) -> SpelledSecrets:
    """Tokenize secrets where they stand, between prefix and suffix.

    Args:
        prefix_free: False if a secret may begin another one; then the suffix's first byte, which ends it, is scored
            too, as a walk over the whole space does.

    Raises:
        SpaceError: the tokenizer does not give a text back.
    """
    before, after = prefix.encode(), suffix.encode()
    texts = [before + secret + after for secret in secrets]
    encoded = vocabulary.encode_batch(texts)
    beyond = len(after) + (-1 if not prefix_free and after else 0)
    kept, n_shared = [], []
    for secret, text, tokens in zip(secrets, texts, encoded, strict=True):
        spelled = b"".join(map(vocabulary.spelled, tokens))
        if spelled not in {text, b" " + text}:
            raise SpaceError(
                "the tokenizer does not give back the text of a canary; audit one that keeps what it reads"
            )
        ends = list(accumulate(len(vocabulary.spelled(token)) for token in tokens))
        last = next(place for place, end in enumerate(ends, start=1) if end >= len(spelled) - beyond)
        kept.append(tuple(tokens[:last]))
        n_shared.append(sum(end <= len(spelled) - len(after) - len(secret) for end in ends))
    n_prompt = min(n_shared, default=0)
    while len({tokens[:n_prompt] for tokens in kept}) > 1:
        n_prompt -= 1
    return SpelledSecrets(
        prompt=(*lead, *kept[0][:n_prompt]) if kept else tuple(lead),
        paths=tuple(tokens[n_prompt:] for tokens in kept),
    )
