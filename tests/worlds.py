"""Exact worlds for tests of the search: table models with a naive oracle beside them."""

import numpy as np

from canary_audit.models.table import TableModel
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteVocabulary


def digit_walk(n_digits: int, *, prefix: str = "pin ") -> CanonicalWalk:
    """All numbers of `n_digits` digits, one token a digit."""
    return CanonicalWalk(parse_space(f"{{digit:{n_digits}}}"), ByteVocabulary(), prefix=prefix)


def naive_cost(model: TableModel, path: tuple[int, ...]) -> float:
    """Cost of one secret, token by token, straight from the table."""
    state, cost = model.start, 0.0
    for token in path:
        cost -= float(model.log_probs[state, token])
        state = int(model.transitions[state, token])
    return cost


def naive_costs(model: TableModel, n_digits: int) -> np.ndarray:
    """Costs of all secrets in numerical order, shape (10**n_digits,), straight from the table."""
    states, costs = np.array([model.start]), np.zeros(1)
    for _ in range(n_digits):
        digits = np.arange(ord("0"), ord("9") + 1)
        costs = (costs[:, None] - model.log_probs[states][:, digits]).ravel()
        states = model.transitions[states][:, digits].ravel()
    return costs


def secret_of(number: int, n_digits: int) -> bytes:
    """The secret with this number."""
    return str(number).zfill(n_digits).encode()
