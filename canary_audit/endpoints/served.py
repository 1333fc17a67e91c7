"""A served model as a `LanguageModel`: prefixes go out, log-probabilities of next tokens come back.

The state is the prefixes themselves. Every answer is remembered, so that one prefix is paid for once: whoever asks for
all children of a prefix at first asks nothing twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from canary_audit.endpoints.dialect import Dialect, Request, Window
from canary_audit.models.interface import Children, FloatArray, IntArray, Unseen
from canary_audit.results import Tier
from canary_audit.tokens.walk import TokenWalk

Prefix = tuple[int, ...]
T = TypeVar("T")

_WANTED_AT_ONCE = 128
"""Tokens that vLLM lets one request choose."""


class Asker(Protocol):
    """Sends requests; `client.Client` is one."""

    def ask(self, requests: Sequence[Request[T]], *, repeat: int = 0) -> list[T]:
        """Answers in the order of the requests.

        Raises:
            EndpointError: the endpoint fails, or an answer cannot be true.
            BudgetSpentError: the budget does not allow all of them; answers that were paid for are kept.
        """


class _Prefixes(ABC):
    """What both kinds of model do: extend prefixes, and look their children up in what was answered."""

    @property
    @abstractmethod
    def n_prefixes(self) -> int:
        """Distinct prefixes that were asked about."""

    @property
    @abstractmethod
    def n_requests(self) -> int:
        """Requests that their answers took, from the journal or not."""

    @abstractmethod
    def _log_probs(self, state: list[Prefix], children: Children) -> FloatArray:
        """Log-probabilities of the children in nats, shape (n_children,)."""

    def root(self, prompt: Sequence[int], children: Children) -> tuple[list[Prefix], FloatArray]:
        """See `LanguageModel.root`; raises what `Asker.ask` does."""
        state = [tuple(map(int, prompt))]
        return state, self._log_probs(state, children)

    def step(
        self, state: list[Prefix], parents: IntArray, tokens: IntArray, children: Children
    ) -> tuple[list[Prefix], FloatArray]:
        """See `LanguageModel.step`; raises what `Asker.ask` does."""
        following = [(*state[parent], int(token)) for parent, token in zip(parents, tokens, strict=True)]
        return following, self._log_probs(following, children)


class ServedModel(_Prefixes):
    """A model whose server answers for any tokens, in one question a prefix or several."""

    def __init__(self, asker: Asker, dialect: Dialect, *, tier: Tier) -> None:
        self._asker, self._dialect, self._tier = asker, dialect, tier
        self._known: dict[Prefix, dict[int, float]] = {}
        self._n_requests = 0

    @property
    def n_prefixes(self) -> int:
        """See `_Prefixes`."""
        return len(self._known)

    @property
    def n_requests(self) -> int:
        """See `_Prefixes`."""
        return self._n_requests

    def whole_costs(self, walk: TokenWalk, paths: Sequence[Prefix]) -> FloatArray:
        """Costs in nats, shape (n_paths,), of leaves of a walk: one request scores a whole secret.

        Raises what `Asker.ask` does.
        """
        start = len(walk.prompt)
        answers = self._asker.ask([self._dialect.score((*walk.prompt, *path), start) for path in paths])
        return np.array([-float(scores.sum()) for scores in answers])

    def _log_probs(self, state: list[Prefix], children: Children) -> FloatArray:
        self._learn(_asked(state, children))
        return np.array(
            [self._known[state[row]][int(token)] for row, token in zip(children.rows, children.tokens, strict=True)]
        )

    def _learn(self, asked: dict[Prefix, list[int]]) -> None:
        """Ask for what is not known yet: whole windows first, then single tokens that they left out."""
        parts = [
            (prefix, wanted[start : start + _WANTED_AT_ONCE])
            for prefix, wanted in self._missing(asked).items()
            for start in range(0, len(wanted), _WANTED_AT_ONCE)
        ]
        windows = self._ask([self._dialect.window(prefix, wanted, tier=self._tier) for prefix, wanted in parts])
        for (prefix, _), window in zip(parts, windows, strict=True):
            self._known.setdefault(prefix, {}).update(window.log_probs)
        single = [(prefix, token) for prefix, wanted in self._missing(asked).items() for token in wanted]
        forced = self._ask([self._dialect.forced(prefix, token) for prefix, token in single])
        for (prefix, token), log_prob in zip(single, forced, strict=True):
            self._known[prefix][token] = log_prob

    def _missing(self, asked: dict[Prefix, list[int]]) -> dict[Prefix, list[int]]:
        missing = {
            prefix: [token for token in wanted if token not in self._known.get(prefix, ())]
            for prefix, wanted in asked.items()
        }
        return {prefix: wanted for prefix, wanted in missing.items() if wanted}

    def _ask(self, requests: Sequence[Request[T]]) -> list[T]:
        self._n_requests += len(requests)
        return self._asker.ask(requests) if requests else []


class TopTokensModel(_Prefixes):
    """A `WindowedModel`: its server answers for the likeliest tokens after a prefix, and for no others."""

    def __init__(self, asker: Asker, dialect: Dialect) -> None:
        self._asker, self._dialect = asker, dialect
        self._known: dict[Prefix, Window] = {}

    @property
    def n_prefixes(self) -> int:
        """See `_Prefixes`."""
        return len(self._known)

    @property
    def n_requests(self) -> int:
        """See `_Prefixes`; one a prefix."""
        return len(self._known)

    def unseen(self, state: list[Prefix]) -> Unseen:
        """See `WindowedModel.unseen`. A prefix that nothing was asked about has all of its tokens unseen."""
        bounds = [_outside(self._known.get(prefix)) for prefix in state]
        each, together = np.array(bounds, dtype=np.float64).reshape(-1, 2).T
        return Unseen(most_each=each, most_all=together)

    def _log_probs(self, state: list[Prefix], children: Children) -> FloatArray:
        asked = _asked(state, children)
        new = [(prefix, wanted) for prefix, wanted in asked.items() if prefix not in self._known]
        requests = [self._dialect.window(prefix, wanted, tier="top-k") for prefix, wanted in new]
        answers = self._asker.ask(requests) if requests else []
        self._known |= {prefix: window for (prefix, _), window in zip(new, answers, strict=True)}
        return np.array(
            [
                self._known[state[row]].log_probs.get(int(token), -np.inf)
                for row, token in zip(children.rows, children.tokens, strict=True)
            ]
        )


def affordable_prefixes(
    calls_left: Callable[[], float], model: _Prefixes, *, cost_at_first: float
) -> Callable[[], int]:
    """How many more prefixes a budget of requests can pay for, going by what they cost so far.

    Args:
        cost_at_first: requests a prefix, as long as none was asked about.
    """

    def left() -> int:
        cost = model.n_requests / model.n_prefixes if model.n_prefixes else cost_at_first
        return int(min(calls_left() / max(cost, 1.0), 1e9))

    return left


def _asked(state: list[Prefix], children: Children) -> dict[Prefix, list[int]]:
    """The distinct tokens wanted after each prefix, ascending."""
    asked: dict[Prefix, set[int]] = {}
    for row, token in zip(children.rows, children.tokens, strict=True):
        asked.setdefault(state[row], set()).add(int(token))
    return {prefix: sorted(tokens) for prefix, tokens in asked.items()}


def _outside(window: Window | None) -> tuple[float, float]:
    """Log-probabilities that one token outside the window, and all of them together, have at most."""
    if window is None or not window.n_top:
        return 0.0, 0.0
    likeliest = sorted(window.log_probs.values(), reverse=True)[: window.n_top]
    left = 1.0 - float(np.exp(likeliest).sum())
    rounding = 1e-6 * window.n_top  # servers add up in single precision
    together = float(np.log(max(left, 0.0) + rounding))
    return min(likeliest[-1], together), together
