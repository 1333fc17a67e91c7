"""Table models seen as a served model is: through a window of the likeliest tokens, or at a price per prefix."""

import numpy as np

from canary_audit.errors import BudgetSpentError
from canary_audit.models.interface import Children, Unseen
from canary_audit.models.table import TableModel


class TopTokens:
    """A `WindowedModel`: the `k` likeliest tokens of each state of a table."""

    def __init__(self, model: TableModel, k: int) -> None:
        self._model = model
        columns = np.flatnonzero(np.isfinite(model.log_probs).any(axis=0))
        likeliest = np.argsort(-model.log_probs[:, columns], axis=1, kind="stable")[:, :k]
        top = np.take_along_axis(model.log_probs[:, columns], likeliest, axis=1)
        self._least = top[:, -1]
        self._left = np.log(np.maximum(1.0 - np.exp(top).sum(axis=1), 0.0) + 1e-12)
        self._inside = np.zeros(model.log_probs.shape, dtype=bool)
        np.put_along_axis(self._inside, columns[likeliest], values=True, axis=1)

    def root(self, prompt, children):
        state, log_probs = self._model.root(prompt, children)
        return state, self._seen(state, children, log_probs)

    def step(self, state, parents, tokens, children):
        following, log_probs = self._model.step(state, parents, tokens, children)
        return following, self._seen(following, children, log_probs)

    def unseen(self, state):
        return Unseen(most_each=self._least[state], most_all=self._left[state])

    def _seen(self, state, children, log_probs):
        return np.where(self._inside[state[children.rows], children.tokens], log_probs, -np.inf)


class Priced:
    """A model that takes one from `budget` for each prefix it had not answered for, and remembers its answers.

    Answers are for all children that were asked about at first; others have a price again.
    """

    def __init__(self, model, budget: int) -> None:
        self._model, self.left, self.spent = model, budget, 0
        self._known: set = set()

    def nodes_left(self) -> int:
        return self.left

    def root(self, prompt, children):
        prefixes = [tuple(prompt)]
        self._pay(prefixes, children)
        state, log_probs = self._model.root(prompt, children)
        return (state, prefixes), log_probs

    def step(self, state, parents, tokens, children):
        inner, before = state
        prefixes = [(*before[parent], int(token)) for parent, token in zip(parents, tokens, strict=True)]
        self._pay(prefixes, children)
        following, log_probs = self._model.step(inner, parents, tokens, children)
        return (following, prefixes), log_probs

    def _pay(self, prefixes, children: Children) -> None:
        asked = {(prefixes[row], int(token)) for row, token in zip(children.rows, children.tokens, strict=True)}
        price = len({prefix for prefix, _ in asked - self._known})
        if price > self.left:
            raise BudgetSpentError("the budget is spent")
        self.left -= price
        self.spent += price
        self._known |= asked


class PricedTopTokens(Priced):
    """The same of a windowed model."""

    def unseen(self, state):
        return self._model.unseen(state[0])
