"""The text on which endpoints are tried: its tokens are known, and it holds no secret."""

from collections.abc import Sequence
from dataclasses import dataclass

from canary_audit.vocabulary import Vocabulary

CONTROL_TEXT = "The quick brown fox jumps over 31 lazy dogs. So"
"""Short enough for any model's context, even a token a byte."""

_SCORED = 12


@dataclass(frozen=True, kw_only=True)
class Control:
    """The control text in the tokens of the model's own tokenizer."""

    lead: tuple[int, ...]
    """Tokens that stand before a document."""
    text_tokens: tuple[int, ...]

    @classmethod
    def of(cls, vocabulary: Vocabulary, lead: Sequence[int]) -> "Control":
        """Tokenize the text."""
        return cls(lead=tuple(lead), text_tokens=tuple(vocabulary.encode(CONTROL_TEXT.encode())))

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens, those before a document too."""
        return (*self.lead, *self.text_tokens)

    @property
    def start(self) -> int:
        """First of the tokens that are scored: the last dozen."""
        return max(1, len(self.tokens) - _SCORED)
