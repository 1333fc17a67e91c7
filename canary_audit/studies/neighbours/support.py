"""How far neighbours support what a language model predicts."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Support:
    """Of some tokens; shares are NaN if there are none."""

    n_tokens: int
    right: float
    """Share that the model holds likeliest."""
    kept: float
    """P_SAME: share on which the model's likeliest token is also that of the neighbours, own copies among them."""
    excluded: float
    """The same without the copies of the tokens' own text."""
    stored: float
    """Share that the model has right, and the neighbours without the own text would not give."""


@dataclass(frozen=True, kw_only=True)
class CanarySupport:
    """Of one canary's secret."""

    canary: str
    insertions: int
    secret: Support

    @property
    def verdict(self) -> str:
        """By half of the secret's tokens."""
        if self.secret.stored >= 0.5:
            return "only because of its row"
        return "not produced" if self.secret.right < 0.5 else "also without its row"


@dataclass(frozen=True, kw_only=True)
class SeedSupport:
    """Of one model."""

    seed: int
    n_states: int
    """Entries of the datastore."""
    template: Support
    """Tokens of the canaries' prefixes."""
    ordinary: Support
    """A sample of the other training text."""
    secrets: Mapping[int, Support]
    """Number of insertions -> tokens of the secrets inserted so often, ascending."""
    canaries: tuple[CanarySupport, ...]
