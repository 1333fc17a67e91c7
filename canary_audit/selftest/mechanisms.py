"""Mechanisms whose epsilon is known: each turns the coins of canaries into one score a canary, and a bound that exceeds
their epsilon more often than it may is wrong.

The coins of a canary are told from its score alone, so the epsilon of one canary is that of the whole.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from canary_audit.statistics.gaussian_dp import gaussian_mu

Coins = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One mechanism, (epsilon, delta)-differentially private and for no smaller epsilon."""

    name: str
    epsilon: float
    delta: float
    release: Callable[[Coins, np.random.Generator], Scores]
    """Coins of any shape -> scores of the same shape, higher = more likely in."""


def null() -> Mechanism:
    """Scores that know nothing of the coins."""
    return Mechanism(name="null", epsilon=0.0, delta=0.0, release=lambda coins, rng: rng.normal(size=coins.shape))


def randomized_response(epsilon: float) -> Mechanism:
    """The coin itself, turned over with probability 1 / (1 + e^epsilon) (Warner 1965): 0 or 1, so full of ties."""
    lie = float(special.expit(-epsilon))

    def release(coins: Coins, rng: np.random.Generator) -> Scores:
        return (coins ^ (rng.random(coins.shape) < lie)).astype(np.float64)

    return Mechanism(name=f"randomized response {epsilon:g}", epsilon=epsilon, delta=0.0, release=release)


def gaussian(epsilon: float, delta: float) -> Mechanism:
    """The coin and standard normal noise, at the distance that has this epsilon at `delta` (Balle and Wang 2018)."""
    mu = gaussian_mu(epsilon, delta)

    def release(coins: Coins, rng: np.random.Generator) -> Scores:
        return mu * coins + rng.normal(size=coins.shape)

    return Mechanism(name=f"Gaussian {epsilon:g}", epsilon=epsilon, delta=delta, release=release)


def laplace(epsilon: float) -> Mechanism:
    """The coin and Laplace noise of scale 1 / epsilon (Dwork, McSherry, Nissim and Smith 2006)."""

    def release(coins: Coins, rng: np.random.Generator) -> Scores:
        return coins + rng.laplace(scale=1 / epsilon, size=coins.shape)

    return Mechanism(name=f"Laplace {epsilon:g}", epsilon=epsilon, delta=0.0, release=release)


def abstaining(epsilon: float) -> Mechanism:
    """Randomized response that keeps silent, at a score of 1/2, about half of the canaries."""
    respond = randomized_response(epsilon).release

    def release(coins: Coins, rng: np.random.Generator) -> Scores:
        return np.where(rng.random(coins.shape) < 0.5, respond(coins, rng), 0.5)

    return Mechanism(name=f"abstaining {epsilon:g}", epsilon=epsilon, delta=0.0, release=release)


def skewed(epsilon: float) -> Mechanism:
    """Says "in" rarely, of one in fifty canaries that are out and e^epsilon as many that are in; so "out" tells little.

    Needs epsilon < ln 50.
    """

    def release(coins: Coins, rng: np.random.Generator) -> Scores:
        return (rng.random(coins.shape) < 0.02 * np.where(coins, math.exp(epsilon), 1.0)).astype(np.float64)

    return Mechanism(name=f"skewed {epsilon:g}", epsilon=epsilon, delta=0.0, release=release)
