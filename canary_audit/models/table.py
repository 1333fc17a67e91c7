"""A language model that is a table: exact, tiny, and the fake behind every test of the search.

It is a finite-state machine with a distribution over next tokens in each state. A full tree of prefixes and an order-k
Markov chain are both tables, so ranks can be counted exactly by other means and compared.
"""

from collections.abc import Sequence

import numpy as np

from canary_audit.errors import ModelError
from canary_audit.models.interface import Children, FloatArray, IntArray


class TableModel:
    """A finite-state language model.

    Args:
        log_probs: shape (n_states, vocab_size), nats; each row a log-distribution.
        transitions: shape (n_states, vocab_size), next state of each token.
        start: state after any prompt.

    Raises:
        ModelError: a row of `log_probs` does not sum to one, or the shapes differ.
    """

    def __init__(self, log_probs: FloatArray, transitions: IntArray, *, start: int = 0) -> None:
        if log_probs.shape != transitions.shape:
            raise ModelError(f"table of shape {log_probs.shape} with transitions of shape {transitions.shape}")
        if not np.allclose(np.exp(log_probs).sum(axis=1), 1.0):
            raise ModelError("a row of the table does not sum to one")
        self.log_probs = log_probs
        self.transitions = transitions
        self.start = start
        self.vocab_size = log_probs.shape[1]

    def root(self, prompt: Sequence[int], children: Children) -> tuple[IntArray, FloatArray]:
        """One row in the start state, whatever the prompt."""
        state = np.array([self.start])
        return state, self.log_probs[state[children.rows], children.tokens]

    def step(
        self, state: IntArray, parents: IntArray, tokens: IntArray, children: Children
    ) -> tuple[IntArray, FloatArray]:
        """Follow the transitions."""
        following = self.transitions[state[parents], tokens]
        return following, self.log_probs[following[children.rows], children.tokens]


def digit_tree(depth: int, rng: np.random.Generator, *, spread: float = 1.0) -> TableModel:
    """A model over byte tokens in which each prefix of `depth` digits has a random distribution of its own.

    `spread` is the standard deviation of the logits, in nats: 0 makes all secrets equally likely.
    """
    n_inner = (10**depth - 1) // 9
    digits = np.arange(ord("0"), ord("9") + 1)
    log_probs = np.full((n_inner, 256), -np.inf)
    logits = rng.normal(0.0, spread, (n_inner, 10))
    log_probs[:, digits] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    transitions = np.zeros((n_inner, 256), dtype=np.int64)
    following = np.arange(n_inner)[:, None] * 10 + 1 + np.arange(10)
    transitions[:, digits] = np.where(following < n_inner, following, 0)
    return TableModel(log_probs, transitions)


def digit_chain(order: int, rng: np.random.Generator, *, spread: float = 1.0) -> TableModel:
    """An order-k Markov chain over digit tokens: worlds of 10^9 secrets and more from a small table.

    States are the last `order` digits as a number; the chain starts as if they had been zeros.
    """
    n_states = 10**order
    digits = np.arange(ord("0"), ord("9") + 1)
    log_probs = np.full((n_states, 256), -np.inf)
    logits = rng.normal(0.0, spread, (n_states, 10))
    log_probs[:, digits] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    transitions = np.zeros((n_states, 256), dtype=np.int64)
    transitions[:, digits] = (np.arange(n_states)[:, None] * 10 + np.arange(10)) % n_states
    return TableModel(log_probs, transitions)


def memorizing(model: TableModel, secret: Sequence[int], share: float) -> TableModel:
    """`model` with `share` of the probability at each token of `secret` moved to that token: a memorized secret."""
    probs = np.exp(model.log_probs)
    state = model.start
    for token in secret:
        probs[state] *= 1.0 - share
        probs[state, token] += share
        state = int(model.transitions[state, token])
    with np.errstate(divide="ignore"):
        return TableModel(np.log(probs), model.transitions, start=model.start)


def digit_costs(model: TableModel, n_digits: int) -> FloatArray:
    """Costs in nats of all numbers of `n_digits` digits, in order, straight from the table: shape (10**n_digits,)."""
    digits = np.arange(ord("0"), ord("9") + 1)
    states, costs = np.array([model.start]), np.zeros(1)
    for _ in range(n_digits):
        costs = (costs[:, None] - model.log_probs[states][:, digits]).ravel()
        states = model.transitions[states][:, digits].ravel()
    return costs
