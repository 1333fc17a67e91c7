"""How much privacy a training spends: epsilon of the Poisson-subsampled Gaussian mechanism, by Opacus' accountants.

PRV (Gopi, Lee and Wutschitz 2021) gives an upper bound within 0.01 of the true epsilon, but for huge epsilons its grid
outgrows any memory. RDP (Mironov 2017) with small orders added covers those; both are upper bounds, so either may
answer.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from opacus.accountants import PRVAccountant, RDPAccountant

from canary_audit.config import PrivacyConfig
from canary_audit.errors import ConfigError

Accountant = Literal["prv", "rdp"]

_PRV_UP_TO = 100.0
"""RDP's epsilon up to which PRV is asked; it needs seconds at 100, and did not return at some larger ones."""
_ORDERS = [*(1 + 10.0**power for power in (-4, -3.5, -3, -2.5, -2, -1.5)), *RDPAccountant.DEFAULT_ALPHAS]
_ORDERS += [80, 100, 128, 192, 256, 512, 1024]
"""Orders near 1 for huge epsilons, where the usual ones overstate it tenfold, and high ones for tiny epsilons."""
_TOLERANCE = 2e-3
"""Relative precision to which the noise for a target epsilon is found, from above."""
_MOST_NOISE = 1e4


@dataclass(frozen=True, kw_only=True)
class Spent:
    """An epsilon and who counted it."""

    epsilon: float
    accountant: Accountant


@lru_cache(maxsize=256)
def spent(
    *,
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    accountant: Literal["auto", "prv", "rdp"],
) -> Spent:
    """Epsilon at `delta` after that many steps; infinite without noise.

    Args:
        noise_multiplier: standard deviation of the noise over the largest norm of one unit's gradient.
        sampling_rate: chance of a unit to take part in a step.
    """
    if steps == 0:
        return Spent(epsilon=0.0, accountant="rdp" if accountant == "auto" else accountant)
    if noise_multiplier == 0:
        return Spent(epsilon=math.inf, accountant="rdp" if accountant == "auto" else accountant)
    history = [(noise_multiplier, sampling_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order is the smallest or largest one
        by_rdp = RDPAccountant()
        by_rdp.history = history
        rough = float(by_rdp.get_epsilon(delta, alphas=_ORDERS))
        if accountant == "rdp" or (accountant == "auto" and rough > _PRV_UP_TO):
            return Spent(epsilon=rough, accountant="rdp")
        by_prv = PRVAccountant()
        by_prv.history = history
        return Spent(epsilon=float(by_prv.get_epsilon(delta)), accountant="prv")


def noise_multiplier_for(privacy: PrivacyConfig, *, sampling_rate: float, steps: int) -> float:
    """The noise of a configuration: the one it gives, or the least that ends at its target epsilon or just below.

    Raises:
        ConfigError: no noise reaches the target.
    """
    target = privacy.target_epsilon
    if target is None:
        return privacy.noise_multiplier or 0.0

    def epsilon(noise: float, accountant: Literal["auto", "prv", "rdp"]) -> float:
        return spent(
            noise_multiplier=noise, sampling_rate=sampling_rate, steps=steps, delta=privacy.delta, accountant=accountant
        ).epsilon

    high = 1.0
    while epsilon(high, "rdp") > target:
        high *= 2
        if high > _MOST_NOISE:
            raise ConfigError(
                f"[privacy] target_epsilon: no noise reaches {target:g} in {steps} steps at delta = {privacy.delta:g}; "
                "ask for fewer epochs, or for a larger epsilon"
            )
    by_rdp = _least(lambda noise: epsilon(noise, "rdp") <= target, 0.0, high)
    if privacy.accountant == "rdp":
        return by_rdp
    # What PRV counts is never more, and seldom as little as a third less noise would give: a short way to search.
    return _least(lambda noise: epsilon(noise, privacy.accountant) <= target, by_rdp / 2, by_rdp)


def _least(enough: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest noise that is enough, to a relative precision, from above; `high` is enough."""
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
