"""Does this installation measure what it says? The calibration tests in short, on worlds whose truth is known.

Every world is a `TableModel`: the truth comes straight from its table, the measurement from the search, the ranks and
the statistics that an audit uses. Seeds are pinned. A limit leaves room for five standard errors or more of chance, so
that a correct program passes whatever the generator draws.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from scipy import special

from canary_audit.exposure.ranks import RankEstimate, RankSettings, measure_ranks
from canary_audit.extraction import extract
from canary_audit.models.interface import FloatArray, IntArray
from canary_audit.models.table import TableModel, digit_costs, digit_tree, memorizing
from canary_audit.spaces import parse_space
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.statistics.pvalues import exact_rank_p_value, holm, sampled_p_value, uniform_ks_p_value
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteVocabulary

_ALPHA = 0.05
_FALSE_RED = 1e-7
"""How often chance alone may turn one check red, had it another seed."""
_N_DIGITS = 5
_N_SECRETS = 10**_N_DIGITS
_COUNT_ALL = RankSettings(exact_nodes=20_000)
"""Counts every rank of a world of five digits, whose tree has 11,111 inner nodes."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim about the program, what was measured, and whether the claim holds."""

    name: str
    measured: str
    required: str
    holds: bool


def run_selftest(progress: Callable[[str, int, int], None]) -> tuple[Check, ...]:
    """Run all checks, in about ten seconds; `progress` is told what is done, how much, and out of how much.

    Raises:
        CanaryAuditError: the program broke on a world that it should measure.
    """
    checks: list[Check] = []
    for place, run in enumerate(_CHECKS):
        progress("self-test", place, len(_CHECKS))
        checks.append(run())
    progress("self-test", len(_CHECKS), len(_CHECKS))
    return tuple(checks)


def selftest_table(checks: tuple[Check, ...]) -> Table:
    """The checks as a table for the terminal."""
    table = Table("check", "measured", "required", "")
    for check in checks:
        table.add_row(check.name, check.measured, check.required, "holds" if check.holds else "[bold red]FAILS[/]")
    return table


def _exact_ranks() -> Check:
    """Counted ranks against full enumeration, in a world without ties and in one full of them."""
    n_equal = 0
    for model in (_tree(1), _tied_digits()):
        canaries = np.random.default_rng(2).choice(_N_SECRETS, 100, replace=False)
        ranks = [estimate.rank if estimate.exact else -1.0 for estimate in _measured(model, canaries, _COUNT_ALL)]
        n_equal += int((_true_ranks(model, canaries) == ranks).sum())
    return Check(
        name="exact ranks equal full enumeration, ties included",
        measured=f"{n_equal} of 200",
        required="200 of 200",
        holds=n_equal == 200,
    )


def _estimates() -> tuple[FloatArray, FloatArray]:
    """Repeated estimates of a few ranks: (estimate / truth, covered), each of shape (n_worlds, n_repeats)."""
    return _RATIOS


_CHECKS: tuple[Callable[[], Check], ...] = ()
