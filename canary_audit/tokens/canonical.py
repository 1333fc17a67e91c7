"""A whole secret space under a byte-pair tokenizer, one canonical token path a secret.

Only the *canonical* tokenization of the whole string prefix + secret + suffix counts: the one the model saw in
training. Tokenizing the pieces apart gives another sequence wherever a token spans their border.
"""

import random
from collections.abc import Iterable, Sequence

import numpy as np

from canary_audit.errors import SpaceError
from canary_audit.spaces import SecretSpace
from canary_audit.tokens.text import WholeText
from canary_audit.tokens.walk import LEAF, Branch
from canary_audit.vocabulary import Vocabulary

_N_VERIFIED_SECRETS = 64
_NO_TOKEN = -1


class CanonicalWalk:
    """All secrets of a space under a byte-pair tokenizer, as a lazy product of automaton, vocabulary and last token.

    A token sequence of a byte-pair tokenizer is canonical if each adjacent pair encodes to itself. That the number of
    paths equals |R| is checked here, exactly, and so are 64 secrets drawn at random against the tokenizer itself.

    A leaf ends with the token that covers the secret's last byte; what follows it, the suffix, is not scored, but must
    have a canonical continuation. Where one secret can be the beginning of another, the leaf also takes the suffix's
    first token, without which the shorter would not be a leaf of its own.

    Args:
        space: the secrets.
        vocabulary: the tokenizer.
        prefix, suffix: text around the secret.
        lead: tokens before the text, such as the document separator the model was trained with.

    Raises:
        SpaceError: the tokenizer does not spell every secret in exactly one way, or the suffix is ambiguous.
    """

    def __init__(
        self, space: SecretSpace, vocabulary: Vocabulary, *, prefix: str, suffix: str = "", lead: Sequence[int] = ()
    ) -> None:
        self.space = space
        self.size = space.size
        self._vocabulary = vocabulary
        self._trie = _vocabulary_trie(vocabulary)
        self._canonical = _PairTest(vocabulary)
        self._prefix = prefix.encode()
        self._suffix = suffix.encode()
        samples = _some_secrets(space)
        encoded = {secret: vocabulary.encode(self._prefix + secret + self._suffix) for secret in samples}
        n_stable = _common_length([vocabulary.encode(self._prefix), *encoded.values()])
        while not self._build(next(iter(encoded.values()))[:n_stable], tuple(lead)):
            if n_stable == 0:
                raise SpaceError(
                    f"format {space.format!r}: this tokenizer's pairs do not spell each of the {space.size} secrets "
                    "in exactly one way; audit a format whose characters it does not merge, such as digits under a "
                    "digit-splitting tokenizer"
                )
            n_stable -= 1
        for secret, tokens in encoded.items():
            if (*self.prompt, *self.path(secret)) != (*lead, *tokens)[: len(self.prompt) + len(self.path(secret))]:
                raise SpaceError(
                    f"format {space.format!r}: the tokenizer and the walk disagree; this is a defect, please report it"
                )

    def children(self, state: int) -> Branch:
        """Children of an inner state."""
        branch = self._branches.get(state)
        if branch is None:
            branch = self._branches[state] = self._expand(state)
        return branch

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell: what lies between the rest of the prefix and the suffix."""
        spelled = b"".join(map(self._vocabulary.spelled, path))[len(self._text.tail) :]
        end = self._text.secret_end(spelled)
        return spelled[:end]

    def path(self, secret: bytes) -> tuple[int, ...]:
        """Tokens of the leaf of `secret`, the prompt left out.

        Raises:
            SpaceError: `secret` is not in the space, or does not survive the tokenizer.
        """
        encoded = self._vocabulary.encode(self._prefix + secret + self._suffix)[self._n_stable :]
        path: list[int] = []
        state = self.root
        for token in encoded:
            branch = self.children(state)
            found = np.flatnonzero(branch.tokens == token)
            if not len(found):
                break
            path.append(token)
            state = int(branch.states[found[0]])
            if state == LEAF:
                return tuple(path)
        raise SpaceError(
            f"format {self.space.format!r}: a secret is not in the space, or does not survive the tokenizer"
        )

    def _build(self, stable: Sequence[int], lead: tuple[int, ...]) -> bool:
        """Lay out the walk after the `stable` prefix tokens; False if its paths are not as many as the secrets."""
        n_bytes = sum(len(self._vocabulary.spelled(token)) for token in stable)
        self._n_stable = len(stable)
        self._text = WholeText(self._prefix[n_bytes:], self.space, self._suffix)
        self._tokens_from: dict[int, list[tuple[int, int]]] = {}
        self._ids: dict[tuple[int, int], int] = {}
        self._keys: list[tuple[int, int]] = []
        self._counts: dict[tuple[int, int], int] = {}
        self._branches: dict[int, Branch] = {}
        self.prompt = (*lead, *stable)
        start = (self._text.start, stable[-1] if stable else _NO_TOKEN)
        self.root = self._id(start)
        return self._count(start) == self.size

    def _id(self, key: tuple[int, int]) -> int:
        """Number of a (text state, last token) pair."""
        if key not in self._ids:
            self._ids[key] = len(self._keys)
            self._keys.append(key)
        return self._ids[key]

    def _expand(self, state: int) -> Branch:
        children = [(token, key) for token, key in self._edges(self._keys[state]) if self._count(key)]
        leaves = [self._text.is_leaf(key[0]) for _, key in children]
        states = [LEAF if leaf else self._id(key) for leaf, (_, key) in zip(leaves, children, strict=True)]
        return Branch(
            tokens=np.array([token for token, _ in children], dtype=np.int64),
            states=np.array(states, dtype=np.int64),
            completions=np.array([float(self._count(key)) for _, key in children]),
        )

    def _edges(self, key: tuple[int, int]) -> list[tuple[int, tuple[int, int]]]:
        """Tokens that may follow, canonically, and the pairs they lead to."""
        text_state, last = key
        if text_state not in self._tokens_from:
            self._tokens_from[text_state] = list(self._trie.tokens_from(self._text, text_state))
        return [(token, (end, token)) for token, end in self._tokens_from[text_state] if self._canonical(last, token)]

    def _count(self, key: tuple[int, int]) -> int:
        """Canonical token paths from here to the end of the suffix; depth-first without recursion."""
        stack = [key]
        while stack:
            here = stack[-1]
            if here in self._counts:
                stack.pop()
                continue
            if self._text.is_end(here[0]):
                self._counts[here] = 1
                continue
            targets = [target for _, target in self._edges(here)]
            missing = [target for target in targets if target not in self._counts]
            if missing:
                stack.extend(missing)
            else:
                self._counts[here] = sum(self._counts[target] for target in targets)
        return self._counts[key]


class _ByteTrie:
    """The vocabulary as a tree of bytes."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.edges: dict[int, _ByteTrie] = {}

    def tokens_from(self, text: WholeText, state: int) -> Iterable[tuple[int, int]]:
        """Tokens the text may continue with from `state`, and the states they end in, ordered by token."""
        found: list[tuple[int, int]] = []
        pending: list[tuple[_ByteTrie, int]] = [(self, state)]
        while pending:
            node, here = pending.pop()
            found.extend((token, here) for token in node.tokens)
            pending.extend((node.edges[byte], end) for byte, end in text.edges(here).items() if byte in node.edges)
        return sorted(found)


def _vocabulary_trie(vocabulary: Vocabulary) -> _ByteTrie:
    """All tokens as a tree of bytes."""
    root = _ByteTrie()
    for token in range(vocabulary.size):
        node = root
        for byte in vocabulary.spelled(token):
            node = node.edges.setdefault(byte, _ByteTrie())
        if node is not root:
            node.tokens.append(token)
    return root


class _PairTest:
    """Does a pair of adjacent tokens encode to itself? Memoized."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[tuple[int, int], bool] = {}

    def __call__(self, left: int, right: int) -> bool:
        key = (left, right)
        if key not in self._known:
            pair = [right] if left == _NO_TOKEN else [left, right]
            spelled = b"".join(map(self._vocabulary.spelled, pair))
            try:
                self._known[key] = self._vocabulary.encode(spelled) == pair
            except UnicodeDecodeError:  # a token that holds part of a character: no text to encode
                self._known[key] = False
        return self._known[key]


def _some_secrets(space: SecretSpace) -> list[bytes]:
    """A few secrets to verify the walk on: drawn with a fixed seed, so that a walk is the same every time."""
    return space.draw(min(_N_VERIFIED_SECRETS, space.size), random.Random(0))  # noqa: S311 - not for secrets


def _common_length(sequences: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all sequences share."""
    shortest = min(map(len, sequences))
    for position in range(shortest):
        if len({sequence[position] for sequence in sequences}) > 1:
            return position
    return shortest
