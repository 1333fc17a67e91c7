"""The right walk for a space and a tokenizer."""

from collections.abc import Sequence

from canary_audit.errors import SpaceError
from canary_audit.spaces import SecretSpace
from canary_audit.tokens.canonical import CanonicalWalk, UndecidedPairsError
from canary_audit.tokens.enumerated import MAX_ENUMERATED, EnumeratedWalk
from canary_audit.tokens.walk import SecretWalk
from canary_audit.vocabulary import Vocabulary


def secret_walk(
    space: SecretSpace, vocabulary: Vocabulary, *, prefix: str, suffix: str = "", lead: Sequence[int] = ()
) -> SecretWalk:
    """The tree of a space's secrets: of any size where pairs of tokens decide, else of at most a million secrets.

    Arguments as for `CanonicalWalk`. The walk's `notice` says if the space had to be written out.

    Raises:
        SpaceError: no tree is exact here; the message says why.
    """
    try:
        return CanonicalWalk(space, vocabulary, prefix=prefix, suffix=suffix, lead=lead)
    except UndecidedPairsError as error:
        if space.size > MAX_ENUMERATED:
            raise SpaceError(
                f"{error}, and {space.size} secrets are too many to tokenize one by one (at most {MAX_ENUMERATED}); "
                "choose a smaller format"
            ) from None
        return EnumeratedWalk(space, vocabulary, prefix=prefix, suffix=suffix, lead=lead)
