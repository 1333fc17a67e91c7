"""What a check of the self-test says, and how much chance it allows for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import special

ALPHA = 0.05
FALSE_RED = 1e-7
"""How often chance may turn one check red, were its seed another."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim about the program, what was measured of it, what is required, and whether it holds."""

    name: str
    measured: str
    required: str
    holds: bool
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What was measured, for machines: dotted name -> number."""


def most_alarms(n_runs: int) -> int:
    """Largest count of false alarms that an error rate of alpha explains."""
    counts = np.arange(n_runs + 1)
    return int(counts[special.bdtrc(counts, n_runs, ALPHA) <= FALSE_RED][0])


def few_alarms(name: str, alarms: int, n_runs: int, numbers: Mapping[str, float] | None = None) -> Check:
    """At most as many false alarms as an error rate of alpha explains."""
    most = most_alarms(n_runs)
    return Check(
        name=name,
        measured=f"{alarms / n_runs:.1%} false alarms",
        required=f"{ALPHA:.0%}, so <= {most / n_runs:.1%} of {n_runs}",
        holds=alarms <= most,
        numbers=numbers or {},
    )
