"""Worlds of digits whose conditional probabilities are known, and in which every rank is counted exactly.

A world is a finite-state machine over digits. Its probabilities are recorded from a language model, so they look like a
real model's, and asking it costs nothing: intervals can be checked by the thousand.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from subject import Subject, cache_path

from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.models.table import TableModel

_GRID = 2.0**-30
"""Costs are multiples of this: sums are exact in any order, and ties are ties."""
_DIGITS = np.arange(ord("0"), ord("9") + 1)
_OTHER = 0
"""Token that takes the probability of everything that is no digit."""


@dataclass(frozen=True, kw_only=True)
class DigitWorld:
    """Secrets of `n_digits` digits; both arrays have shape (n_states, 10), and the start is state 0."""

    name: str
    n_digits: int
    costs: IntArray
    """Cost of each next digit in units of the grid."""
    following: IntArray
    """State after each digit."""

    @property
    def size(self) -> int:
        """Number of secrets."""
        return int(10**self.n_digits)

    def model(self) -> TableModel:
        """The world as a language model over bytes."""
        log_probs = np.full((len(self.costs), 256), -np.inf)
        log_probs[:, _DIGITS] = -self.costs * _GRID
        log_probs[:, _OTHER] = np.log1p(-np.minimum(np.exp(log_probs[:, _DIGITS]).sum(axis=1), 1.0 - 1e-12))
        transitions = np.zeros(log_probs.shape, dtype=np.int64)
        transitions[:, _DIGITS] = self.following
        return TableModel(log_probs, transitions)

    def costs_nats(self, numbers: IntArray) -> FloatArray:
        """Cost of secrets given as numbers, shape (n,)."""
        states, costs = np.zeros(len(numbers), dtype=np.int64), np.zeros(len(numbers), dtype=np.int64)
        for place in reversed(range(self.n_digits)):
            digits = numbers // 10**place % 10
            costs += self.costs[states, digits]
            states = self.following[states, digits]
        return (costs * _GRID).astype(np.float64)

    def beginnings(self, start: int, n_digits: int) -> tuple[IntArray, IntArray]:
        """Cost of each number of `n_digits` digits from state `start`, and the state after it, in numeric order."""
        states, costs = np.array([start]), np.zeros(1, dtype=np.int64)
        for _ in range(n_digits):
            costs = (costs[:, None] + self.costs[states]).ravel()
            states = self.following[states].ravel()
        return costs, states


class ExactRanks:
    """Exact ranks in a world, by meeting in the middle: sorted costs of all ends, looked up from all beginnings."""

    def __init__(self, world: DigitWorld) -> None:
        self.world = world
        n_head = world.n_digits // 2
        self._n_tail = world.n_digits - n_head
        self._head_costs, self._head_states = world.beginnings(0, n_head)
        states = np.unique(self._head_states)
        self._heads = {int(state): np.flatnonzero(self._head_states == state) for state in states}
        self._tails = {state: np.sort(world.beginnings(state, self._n_tail)[0]) for state in self._heads}

    def count(self, thresholds: IntArray) -> IntArray:
        """Secrets that cost at most each threshold, in units of the grid; shape (n,)."""
        counts = np.zeros(len(thresholds), dtype=np.int64)
        for state, heads in self._heads.items():
            left = thresholds[:, None] - self._head_costs[heads]
            counts += np.searchsorted(self._tails[state], left, side="right").sum(axis=1)
        return counts

    def canaries(self, ranks: IntArray) -> tuple[IntArray, IntArray]:
        """Secrets, as numbers, and their exact ranks: the first of at least each rank (later where costs tie)."""
        low = np.full(len(ranks), -1)
        high = np.full(len(ranks), int(self.world.costs.max()) * self.world.n_digits)
        while (high - low > 1).any():
            middle = (low + high) // 2
            enough = self.count(middle) >= ranks
            high, low = np.where(enough, middle, high), np.where(enough, low, middle)
        return np.array([self._secret(int(cost)) for cost in high]), self.count(high)

    def _secret(self, cost: int) -> int:
        """A secret of exactly this cost."""
        for state, heads in self._heads.items():
            left = cost - self._head_costs[heads]
            places = np.minimum(np.searchsorted(self._tails[state], left), len(self._tails[state]) - 1)
            (found,) = np.nonzero(self._tails[state][places] == left)
            if len(found):
                head = int(heads[found[0]])
                tails, _ = self.world.beginnings(state, self._n_tail)
                (tail,) = np.nonzero(tails == left[found[0]])
                return head * int(10**self._n_tail) + int(tail[0])
        raise ValueError("no secret has this cost")


def tree_world(subject: Subject, prefix: str, n_digits: int) -> DigitWorld:
    """The model's own probabilities of all `n_digits`-digit numbers behind `prefix`; recorded once and kept."""
    log_probs = _kept(subject, prefix, f"tree{n_digits}", lambda: _record_tree(subject, prefix, n_digits))
    n_inner = len(log_probs)
    following = np.arange(n_inner)[:, None] * 10 + 1 + np.arange(10)
    return DigitWorld(
        name=f"recorded tree of {n_digits} digits",
        n_digits=n_digits,
        costs=_on_grid(log_probs),
        following=np.where(following < n_inner, following, 0),
    )


def chain_world(subject: Subject, prefix: str, n_digits: int) -> DigitWorld:
    """An order-2 chain: at each place, the model's probabilities behind `prefix` after digits that end in each pair.

    The digits before a pair are drawn from the model, place by place. States are the empty beginning, then (number of
    digits read, last two of them); a beginning of one digit counts as if a zero stood before it.
    """
    following = np.zeros((1 + 100 * (n_digits - 1), 10), dtype=np.int64)
    following[0] = 1 + np.arange(10)
    pairs = np.arange(100)[:, None] * 10 % 100 + np.arange(10)
    for place in range(1, n_digits - 1):
        following[1 + 100 * (place - 1) : 1 + 100 * place] = 1 + 100 * place + pairs
    log_probs = _kept(subject, prefix, f"chain{n_digits}", lambda: _record_chain(subject, prefix, n_digits))
    name = f"recorded order-2 chain of {n_digits} digits"
    return DigitWorld(name=name, n_digits=n_digits, costs=_on_grid(log_probs), following=following)


def random_chain_world(n_digits: int, spread: float, rng: np.random.Generator) -> DigitWorld:
    """An order-2 chain whose logits are normal with standard deviation `spread` in nats."""
    logits = rng.normal(0.0, spread, (100, 10))
    return DigitWorld(
        name=f"random order-2 chain of {n_digits} digits, spread {spread:g}",
        n_digits=n_digits,
        costs=_on_grid(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)),
        following=(np.arange(100)[:, None] * 10 + np.arange(10)) % 100,
    )


def log_spaced_ranks(size: int, n_ranks: int) -> IntArray:
    """Ranks from 1 to half of `size`, even in bits."""
    return np.unique(np.rint(2.0 ** np.linspace(0.0, math.log2(size / 2), n_ranks)).astype(np.int64))


def _on_grid(log_probs: FloatArray) -> IntArray:
    """Costs rounded up to the grid, so that probabilities never sum to more than one."""
    return np.ceil(-log_probs / _GRID).astype(np.int64)


def _kept(subject: Subject, prefix: str, what: str, record: Callable[[], FloatArray]) -> FloatArray:
    """A recording from the file beside the model, made now if there is none for this prefix."""
    file = Path(f"{cache_path(subject.folder, what)}.npz")
    if file.is_file():
        with np.load(file) as kept:
            if str(kept["prefix"]) == prefix:
                return np.asarray(kept["log_probs"])
    log_probs = record()
    unfinished = file.with_name(f"unfinished-{file.name}")
    np.savez(unfinished, log_probs=log_probs, prefix=np.array(prefix))
    unfinished.replace(file)
    return log_probs


def _record_tree(subject: Subject, prefix: str, n_digits: int) -> FloatArray:
    """Log-probabilities of the next digit after each beginning, level by level; shape (n_inner, 10)."""
    reader = _DigitReader(subject, prefix)
    levels = [reader.log_probs]
    for level in range(1, n_digits):
        parents = np.arange(10**level) // 10
        levels.append(reader.read(parents, np.arange(10**level) % 10))
    return np.concatenate(levels)


def _record_chain(subject: Subject, prefix: str, n_digits: int) -> FloatArray:
    """Log-probabilities of the next digit in each state of a chain; shape (n_states, 10)."""
    rng = np.random.default_rng(0)
    reader = _DigitReader(subject, prefix)
    states = [reader.log_probs, np.tile(reader.read(np.zeros(10, dtype=np.int64), np.arange(10)), (10, 1))]
    pairs = np.arange(100)
    ends = np.arange(10)  # last digit of each beginning the model has read
    for _ in range(2, n_digits):
        candidates = [np.flatnonzero(ends == digit) for digit in range(10)]
        parents = np.array([_draw(reader.log_probs, candidates[pair // 10], pair % 10, rng) for pair in range(100)])
        states.append(reader.read(parents, pairs % 10))
        ends = pairs % 10
    return np.concatenate(states)


def _draw(log_probs: FloatArray, candidates: IntArray, digit: int, rng: np.random.Generator) -> int:
    """One of the beginnings, as likely as it goes on with `digit`."""
    chances = np.exp(log_probs[candidates, digit])
    return int(rng.choice(candidates, p=chances / chances.sum()))


class _DigitReader:
    """Beginnings of digits, read by the model in step."""

    def __init__(self, subject: Subject, prefix: str) -> None:
        walk = subject.walk("{digit:2}", prefix)
        tokens = walk.children(walk.root).tokens
        spelled = [subject.vocabulary.spelled(int(token)) for token in tokens]
        if sorted(spelled) != [bytes([digit]) for digit in _DIGITS]:
            raise ValueError("worlds of digits need a token for each digit, and a prefix that ends before the first")
        self._model = subject.language_model
        self._tokens = tokens[np.argsort([int(word) for word in spelled])]
        self._state: Any
        self._state, found = self._model.root(walk.prompt, self._children(1))
        self.log_probs = found.reshape(-1, 10)
        """Of the next digit after each beginning, shape (n_beginnings, 10)."""

    def read(self, parents: IntArray, digits: IntArray) -> FloatArray:
        """Go on to these beginnings: parents among those of before, each with one more digit."""
        read = self._tokens[digits]
        self._state, found = self._model.step(self._state, parents, read, self._children(len(parents)))
        self.log_probs = found.reshape(-1, 10)
        return self.log_probs

    def _children(self, n_rows: int) -> Children:
        return Children(rows=np.repeat(np.arange(n_rows), 10), tokens=np.tile(self._tokens, n_rows))
