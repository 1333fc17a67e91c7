"""A secret space written out: every secret tokenized, for tokenizers whose pairs of tokens decide nothing."""

from collections.abc import Sequence

import numpy as np

from canary_audit.errors import SpaceError
from canary_audit.models.interface import IntArray
from canary_audit.spaces import SecretSpace
from canary_audit.tokens.framing import Framing
from canary_audit.tokens.trie import TrieWalk, padded
from canary_audit.tokens.walk import Branch
from canary_audit.vocabulary import Vocabulary

MAX_ENUMERATED = 10**6
_SECRETS_AT_ONCE = 8_192


class EnumeratedWalk:
    """All secrets of a space under any tokenizer that gives texts back; a `SecretWalk`.

    Args:
        space: the secrets, at most `MAX_ENUMERATED`.
        vocabulary: the tokenizer.
        prefix, suffix: text around the secret.
        lead: tokens before the text, such as the document separator the model was trained with.

    Raises:
        SpaceError: the space is too large, the suffix is ambiguous, or the tokenizer rewrites a secret.
    """

    root = TrieWalk.root

    def __init__(
        self, space: SecretSpace, vocabulary: Vocabulary, *, prefix: str, suffix: str = "", lead: Sequence[int] = ()
    ) -> None:
        if space.size > MAX_ENUMERATED:
            raise SpaceError(
                f"format {space.format!r}: each secret has to be tokenized under this tokenizer, and {space.size} are "
                f"more than {MAX_ENUMERATED}; choose a smaller format"
            )
        self.space = space
        self.size = space.size
        self.notice: str | None = (
            f"Pairs of this tokenizer's tokens do not decide how a secret is tokenized, so all {space.size:,} secrets "
            f"of {space.format!r} were tokenized one by one."
        )
        self._framing = Framing(space, vocabulary, prefix, suffix)
        rows, n_stable = _leaf_rows(self._framing)
        self._stable = tuple(rows[0, :n_stable].tolist())
        self.prompt = (*lead, *self._stable)
        self._trie = TrieWalk.of_rows(self.prompt, rows[:, n_stable:], self.secret)

    def children(self, state: int) -> Branch:
        """Children of an inner state."""
        return self._trie.children(state)

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell."""
        return self._framing.secret(path, self._stable)

    def path(self, secret: bytes) -> tuple[int, ...]:
        """Tokens of the leaf of `secret`; see `SecretWalk.path`."""
        return self.paths([secret])[0]

    def paths(self, secrets: Sequence[bytes]) -> list[tuple[int, ...]]:
        """Tokens of the leaf of each secret; see `SecretWalk.paths`."""
        if not all(secret in self.space for secret in secrets):
            raise SpaceError(f"format {self.space.format!r}: a secret is not in the space")
        encoded = self._framing.tokenize(secrets)
        n_stable = len(self._stable)
        return [self._framing.path(secret, tokens, n_stable) for secret, tokens in zip(secrets, encoded, strict=True)]


def all_secrets(space: SecretSpace) -> list[bytes]:
    """Every secret of a space, from the ends to the start: each state's completions are made once."""
    completions: list[list[bytes]] = []
    for state in range(space.start + 1):  # edges lead to lower states
        found = [b""] if space.accepts(state) else []
        for byte, target in dict(space.edges(state)).items():
            letter = bytes([byte])
            found += [letter + rest for rest in completions[target]]
        completions.append(found)
    return completions[space.start]


def _leaf_rows(framing: Framing) -> tuple[IntArray, int]:
    """All tokens of each secret up to its leaf, filled up with -1, and how many of them are the same for all."""
    lengths = np.array([len(framing.vocabulary.spelled(token)) for token in range(framing.vocabulary.size)])
    secrets = all_secrets(framing.space)
    blocks = [
        _block(framing, secrets[begin : begin + _SECRETS_AT_ONCE], lengths)
        for begin in range(0, len(secrets), _SECRETS_AT_ONCE)
    ]
    width = max(block.shape[1] for block in blocks)
    rows = np.concatenate(
        [np.pad(block, ((0, 0), (0, width - block.shape[1])), constant_values=-1) for block in blocks]
    )
    same = (rows == rows[0]).all(axis=0) & (np.cumsum(lengths[rows[0]]) <= len(framing.head)) & (rows[0] >= 0)
    return rows, int(np.logical_and.accumulate(same).sum())


def _block(framing: Framing, secrets: Sequence[bytes], lengths: IntArray) -> IntArray:
    """Rows of some secrets."""
    rows = padded(framing.tokenize(secrets))
    ends = np.cumsum(np.where(rows >= 0, lengths[rows], 0), axis=1)
    wanted = np.array([framing.leaf_bytes(secret) for secret in secrets])
    n_tokens = (ends < wanted[:, None]).sum(axis=1) + 1
    rows[np.arange(rows.shape[1]) >= n_tokens[:, None]] = -1
    return rows[:, : int(n_tokens.max())]
