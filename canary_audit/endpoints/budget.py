"""How much a served model may be asked: requests and tokens, counted before they are sent."""

import math

from canary_audit.errors import BudgetSpentError


class Budget:
    """What an audit may still spend. It belongs to the audit, not to a process: an answer that an earlier process got
    counts when it is used, so that a resumed run ends where an undisturbed one does."""

    def __init__(self, max_calls: int | None, max_tokens: int | None) -> None:
        """None sets no limit."""
        self._max_calls = math.inf if max_calls is None else max_calls
        self._max_tokens = math.inf if max_tokens is None else max_tokens
        self._calls = 0
        self._tokens = 0
        self.is_spent = False
        """Whether a request did not fit."""

    @property
    def calls_left(self) -> float:
        """Requests that may still be sent; infinity if there is no limit."""
        return self._max_calls - self._calls

    @property
    def tokens_left(self) -> float:
        """Tokens that may still be sent and asked for; infinity if there is no limit."""
        return self._max_tokens - self._tokens

    def likely_calls_left(self) -> float:
        """Requests that both limits allow, if the next cost as many tokens as those so far."""
        if self._tokens == 0:
            return self.calls_left
        return min(self.calls_left, self.tokens_left * self._calls / self._tokens)

    def reserve(self, n_tokens: int) -> None:
        """Set one request of at most `n_tokens` aside; nothing is set aside if it does not fit.

        Raises:
            BudgetSpentError: it would exceed the budget.
        """
        self.is_spent = self.is_spent or self.calls_left < 1 or self.tokens_left < n_tokens
        if self.calls_left < 1:
            raise BudgetSpentError(
                f"all {self._max_calls} requests of the budget are used; allow more with [endpoint] max_calls"
            )
        if self.tokens_left < n_tokens:
            raise BudgetSpentError(
                f"the next request needs {n_tokens} tokens, and of the budget of {self._max_tokens} only "
                f"{self.tokens_left} are left; allow more with [endpoint] max_tokens"
            )
        self._calls += 1
        self._tokens += n_tokens

    def release(self, n_tokens: int) -> None:
        """Take a reservation back: that request was never answered."""
        self._calls -= 1
        self._tokens -= n_tokens
