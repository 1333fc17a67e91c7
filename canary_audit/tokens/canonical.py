"""A whole secret space under a byte-pair tokenizer, one canonical token path a secret, however large the space.

A token sequence of a byte-pair tokenizer is canonical if each adjacent pair encodes to itself. So the tree is the
product of the text's automaton, the vocabulary's trie and the class of the last token; it is never written out.
"""

from collections.abc import Iterator, Sequence

from canary_audit.errors import SpaceError
from canary_audit.spaces import SecretSpace
from canary_audit.tokens.framing import Framing
from canary_audit.tokens.merging import MergeTrees
from canary_audit.tokens.tree import TokenTree
from canary_audit.tokens.walk import Branch
from canary_audit.vocabulary import MergeRules, Vocabulary


class UndecidedPairsError(SpaceError):
    """Pairs of adjacent tokens do not tell which token sequences are canonical here."""


class CanonicalWalk:
    """All secrets of a space under a byte-pair tokenizer; a `SecretWalk`.

    That the number of paths equals |R| is checked here, exactly, and so are 64 secrets and more against the tokenizer.
    Tokens that all secrets begin with are the prompt; where the number of paths is not |R|, fewer of them are taken.

    Args:
        space: the secrets.
        vocabulary: the tokenizer.
        prefix, suffix: text around the secret.
        lead: tokens before the text, such as the document separator the model was trained with.

    Raises:
        UndecidedPairsError: pairs of the tokenizer's tokens do not spell every secret in exactly one way.
        SpaceError: the suffix is ambiguous, or the tokenizer rewrites the text.
    """

    notice: str | None = None

    def __init__(
        self, space: SecretSpace, vocabulary: Vocabulary, *, prefix: str, suffix: str = "", lead: Sequence[int] = ()
    ) -> None:
        self.space = space
        self.size = space.size
        self._framing = Framing(space, vocabulary, prefix, suffix)
        if vocabulary.merges is None:
            raise UndecidedPairsError(f"format {space.format!r}: this is not a byte-pair tokenizer")
        tree = _grow(self._framing, vocabulary.merges)
        if tree is None:
            raise UndecidedPairsError(
                f"format {space.format!r}: pairs of this tokenizer's tokens do not spell each of the {space.size} "
                "secrets in exactly one way"
            )
        self._tree = tree
        self.root = tree.root
        self.prompt = (*lead, *tree.stable)
        if None in map(self._path, self._framing.samples, self._framing.sample_tokens):
            raise UndecidedPairsError(
                f"format {space.format!r}: the tokenizer does not merge as its pairs of tokens do"
            )

    def children(self, state: int) -> Branch:
        """Children of an inner state."""
        return self._tree.children(state)

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell."""
        return self._framing.secret(path, self._tree.stable)

    def path(self, secret: bytes) -> tuple[int, ...]:
        """Tokens of the leaf of `secret`; see `SecretWalk.path`."""
        return self.paths([secret])[0]

    def paths(self, secrets: Sequence[bytes]) -> list[tuple[int, ...]]:
        """Tokens of the leaf of each secret; see `SecretWalk.paths`."""
        encoded = self._framing.tokenize(secrets)
        paths = [self._path(secret, tokens) for secret, tokens in zip(secrets, encoded, strict=True)]
        found = [path for path in paths if path is not None]
        if len(found) < len(secrets):
            raise SpaceError(
                f"format {self.space.format!r}: a secret is not in the space, or does not survive the tokenizer"
            )
        return found

    def _path(self, secret: bytes, tokens: Sequence[int]) -> tuple[int, ...] | None:
        """Tokens of a secret's leaf; None if the tree does not hold it. A path spells one secret, so it proves it."""
        stable = self._tree.stable
        path = self._framing.path(secret, tokens, len(stable))
        return path if tuple(tokens[: len(stable)]) == stable and self._tree.has(path) else None


def _grow(framing: Framing, rules: MergeRules) -> TokenTree | None:
    """The tree after as many shared tokens as possible; None if its paths are never as many as the secrets."""
    trees = MergeTrees(rules)
    suffix = _needed_suffix(framing, rules)
    for n_stable in _fewer_and_fewer(framing.n_shared()):
        stable = tuple(framing.sample_tokens[0][:n_stable])
        tree = TokenTree(framing, trees, stable, suffix)
        if tree.n_paths == framing.space.size:
            return tree
    return None


def _fewer_and_fewer(most: int) -> Iterator[int]:
    """`most`, then one fewer, two fewer, four, eight, ... down to 0."""
    yield most
    step = 1
    while step < most:
        yield most - step
        step *= 2
    if most:
        yield 0


def _needed_suffix(framing: Framing, rules: MergeRules) -> bytes:
    """The suffix up to the first place where the pre-tokenizer cuts it in every sample: tokens never span that."""
    suffix = framing.suffix.decode()
    cuts = set(range(len(suffix) + 1))
    for sample in framing.samples:
        text = (framing.prefix + sample).decode()
        cuts &= {place - len(text) for place in rules.splits(text + suffix)}
    if not framing.space.prefix_free:
        cuts.discard(0)  # the suffix's first token ends the secret
    return suffix[: min(cuts, default=len(suffix))].encode()
