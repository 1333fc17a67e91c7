"""Secret spaces as trees of tokens.

A secret space is a set of strings; under a tokenizer it becomes a tree whose edges are tokens and whose leaves are
secrets. Two walks share one interface:

- `CanonicalWalk`: the whole space, lazily, never enumerated;
- `TrieWalk`: an explicit set of secrets, for scoring just those.

Only the *canonical* tokenization of the whole string prefix + secret + suffix counts: the one the model saw in
training. Tokenizing the pieces apart gives another sequence wherever a token spans their border.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from canary_audit.errors import SpaceError
from canary_audit.models.interface import FloatArray, IntArray
from canary_audit.spaces import SecretSpace
from canary_audit.vocabulary import Vocabulary

LEAF = -1
"""State of a child that completes a secret."""

_N_VERIFIED_LEAVES = 64


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The children of one state; all arrays have shape (n_children,)."""

    tokens: IntArray
    states: IntArray
    """Walk state of each child, `LEAF` where the secret is complete."""
    completions: FloatArray
    """Secrets below each child (1 for a leaf)."""


class TokenWalk(Protocol):
    """A tree of tokens over a set of secrets."""

    prompt: tuple[int, ...]
    """Tokens the model reads before the first choice."""
    root: int
    size: int
    """Number of leaves."""

    def children(self, state: int) -> Branch:
        """Children of an inner state."""

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell."""


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
        self._text = _WholeText(self._prefix[n_bytes:], self.space, self._suffix)
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


class TrieWalk:
    """An explicit set of token paths that share their beginnings.

    Args:
        prompt: tokens the model reads before the first choice.
        paths: distinct token paths, none a prefix of another.
        spell: turns a path into its secret.
    """

    root = 0

    def __init__(
        self, prompt: Sequence[int], paths: Iterable[Sequence[int]], spell: Callable[[Sequence[int]], bytes]
    ) -> None:
        self.prompt = tuple(prompt)
        self._spell = spell
        self._children: list[dict[int, int]] = [{}]
        self._below: list[int] = [0]
        self.size = 0
        for path in paths:
            self._insert(path)
        self._branches: dict[int, Branch] = {}

    def children(self, state: int) -> Branch:
        """Children of an inner state."""
        branch = self._branches.get(state)
        if branch is None:
            edges = self._children[state]
            states = np.array(list(edges.values()), dtype=np.int64)
            counts = [1 if child == LEAF else self._below[child] for child in edges.values()]
            branch = self._branches[state] = Branch(
                tokens=np.array(list(edges), dtype=np.int64), states=states, completions=np.array(counts, dtype=float)
            )
        return branch

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell."""
        return self._spell(path)

    def _insert(self, path: Sequence[int]) -> None:
        *inner, last = path
        state = 0
        visited = [0]
        for token in inner:
            child = self._children[state].get(token)
            if child == LEAF:
                raise SpaceError("one secret's tokens begin another's; add a suffix that ends the secret")
            if child is None:
                child = len(self._children)
                self._children[state][token] = child
                self._children.append({})
                self._below.append(0)
            state = child
            visited.append(state)
        if last in self._children[state]:
            raise SpaceError("two secrets have the same tokens, or one's tokens begin another's")
        self._children[state][last] = LEAF
        self.size += 1
        for node in visited:
            self._below[node] += 1


class _WholeText:
    """Byte automaton of what is left of the prefix, then a secret, then the suffix.

    States number the rest of the prefix, then the space's states, then the suffix.
    """

    def __init__(self, tail: bytes, space: SecretSpace, suffix: bytes) -> None:
        self.tail = tail
        self._space = space
        self._suffix = suffix
        self._first_suffix_state = len(tail) + space.n_states
        self.start = 0 if tail else len(tail) + space.start
        self._ends_with_secret = space.prefix_free
        self._check_suffix()

    def edges(self, state: int) -> dict[int, int]:
        """Byte -> next state."""
        if state < len(self.tail):
            following = state + 1 if state + 1 < len(self.tail) else len(self.tail) + self._space.start
            return {self.tail[state]: following}
        if state >= self._first_suffix_state:
            offset = state - self._first_suffix_state + 1
            return {self._suffix[offset]: state + 1} if offset < len(self._suffix) else {}
        inside = state - len(self.tail)
        edges = {byte: len(self.tail) + target for byte, target in self._space.edges(inside).items()}
        if self._space.accepts(inside) and self._suffix:
            edges[self._suffix[0]] = self._first_suffix_state
        return edges

    def is_end(self, state: int) -> bool:
        """Is the whole text, suffix included, complete?"""
        if self._suffix:
            return state == self._first_suffix_state + len(self._suffix) - 1
        return self._accepts(state)

    def is_leaf(self, state: int) -> bool:
        """Is the secret complete, and sure not to go on?"""
        return state >= self._first_suffix_state or (self._ends_with_secret and self._accepts(state))

    def secret_end(self, spelled: bytes) -> int:
        """Length of the secret at the start of `spelled`, which may run on into the suffix."""
        state, end = self._space.start, 0
        for position, byte in enumerate(spelled):
            following = self._space.edges(state).get(byte)
            if following is None:
                break
            state, end = following, position + 1
        return end

    def _accepts(self, state: int) -> bool:
        inside = state - len(self.tail)
        return 0 <= inside < self._space.n_states and self._space.accepts(inside)

    def _check_suffix(self) -> None:
        """The suffix must begin with a byte that cannot continue a secret, or its end would be ambiguous."""
        if self._ends_with_secret:
            return
        if not self._suffix:
            raise SpaceError(
                f"format {self._space.format!r} has secrets that begin other secrets: add a suffix that ends them"
            )
        for state in range(self._space.n_states):
            if self._space.accepts(state) and self._suffix[0] in self._space.edges(state):
                raise SpaceError(
                    f"format {self._space.format!r}: the suffix begins like the rest of a secret; "
                    "change its first character"
                )


class _ByteTrie:
    """The vocabulary as a tree of bytes."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.edges: dict[int, _ByteTrie] = {}

    def tokens_from(self, text: _WholeText, state: int) -> Iterable[tuple[int, int]]:
        """Tokens the text may continue with from `state`, and the states they end in, ordered by token."""
        found: list[tuple[int, int]] = []
        pending: list[tuple[_ByteTrie, int]] = [(self, state)]
        while pending:
            node, here = pending.pop()
            found.extend((token, here) for token in node.tokens)
            pending.extend((node.edges[byte], end) for byte, end in text.edges(here).items() if byte in node.edges)
        return sorted(found)


_NO_TOKEN = -1


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
    return space.draw(min(_N_VERIFIED_LEAVES, space.size), random.Random(0))  # noqa: S311 - not for secrets


def _common_length(sequences: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all sequences share."""
    shortest = min(map(len, sequences))
    for position in range(shortest):
        if len({sequence[position] for sequence in sequences}) > 1:
            return position
    return shortest
