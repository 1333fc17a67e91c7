"""Do trainings that share the text and nothing else learn it, and leak it, in the same order?

Every seed has an initialization, an order of rows and secrets of its own. Text is paired token by token. Canaries are
paired by their number of insertions only: a secret planted in all trainings would have the same systematic ease in all
of them, and their agreement would say nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.errors import ConfigError
from canary_audit.report import numbers
from canary_audit.results import NotAvailable
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section, Trend
from canary_audit.studies.learning_order.early_rows import EarlyRow, Row, early_rows
from canary_audit.studies.learning_order.language_looks import Followed, follow
from canary_audit.studies.learning_order.language_tables import charts, early_grid, levels_grid
from canary_audit.studies.learning_order.variance import VarianceShares, variance_shares
from canary_audit.studies.seeds import listed

_LEAST_CORRELATION: Final = 0.85


def run(setting: Setting) -> Section:
    """Train with every seed, and compare what was learned when.

    Raises:
        ConfigError: there is one seed, or no canary is inserted, or the configuration cannot be run.
        DataError: there are too few documents.
    """
    if len(setting.seeds) < 2:
        raise ConfigError("[study] seeds: one training has nothing to be compared with; ask for two or more")
    if not any(group.levels for group in setting.config.canaries):
        raise ConfigError("[[canaries]] levels: no canary is inserted, so nothing can leak; add levels = [1, 4, 16]")
    return section_of([follow(setting, seed) for seed in setting.seeds])


def section_of(followed: Sequence[Followed]) -> Section:
    """What the trainings show together."""
    shares = variance_shares({level: [one.exposures[level] for one in followed] for level in followed[0].exposures})
    early = early_rows(mean_rows(followed))
    order = _order(followed)
    return Section(
        experiment="language",
        title="Language model: the order in which text and secrets are learned",
        answer=_answer(followed, shares),
        findings=(_text_finding(followed, order), _leak_finding(shares), _early_finding(early)),
        trends=(order,),
        grids=(levels_grid(followed), early_grid(early)),
        charts=tuple(charts(followed)),
    )


def mean_correlation(by_seed: Sequence[NDArray[np.float64]]) -> float:
    """Pearson correlation of two trainings, mean over all pairs; 0 where one does not vary."""
    pairs = combinations(by_seed, 2)
    return fmean(float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0 for a, b in pairs)


def mean_rows(followed: Sequence[Followed]) -> list[Row]:
    """The rows, with accessibility averaged over the seeds."""
    return [
        replace(rows[0], accessibility=fmean(row.accessibility for row in rows))
        for rows in zip(*(one.rows for one in followed), strict=True)
    ]


def _answer(followed: Sequence[Followed], shares: VarianceShares) -> str:
    top = max(followed[0].exposures)
    bits = listed(numbers.bits(fmean(one.exposures[top])) for one in followed)
    kind = "A property of the data" if shares.levels > 0.5 else "To a large part an accident of the run"
    certain = "does" if _differ(shares) else "does not"
    return (
        f"{kind}: {numbers.share(round(shares.levels, 2))} of the variance of exposure lies between numbers of "
        f"insertions, {numbers.share(round(shares.seeds, 2))} between trainings at the same number, and "
        f"{numbers.share(round(shares.within, 2))} between canaries of one training and number. With fresh secrets, "
        f"initialization and order, canaries inserted {top} times reach {bits} bits; which training it was {certain} "
        "make a difference beyond chance."
    )


def _differ(shares: VarianceShares) -> bool:
    return not isinstance(shares.seeds_p, NotAvailable) and shares.seeds_p < 0.05


def _order(followed: Sequence[Followed]) -> Trend:
    trained = mean_correlation([one.text for one in followed])
    held_out = mean_correlation([one.held_out for one in followed])
    return Trend(
        id="H4",
        claim="networks of one architecture learn the same examples in the same order",
        paper="r about 0.99 for image classifiers, examples instead of tokens; quoted from notes, not checked",
        ours=f"r {trained:.3f} over tokens of training documents, {held_out:.3f} over held-out ones",
        criterion=f"correlation of accessibility between seeds at least {_LEAST_CORRELATION} on both",
        holds=min(trained, held_out) >= _LEAST_CORRELATION,
    )


def _text_finding(followed: Sequence[Followed], order: Trend) -> str:
    by_row = mean_correlation([np.array([row.accessibility for row in one.rows if not row.canary]) for one in followed])
    first = followed[0]
    return (
        f"{numbers.plural(len(followed), 'training')} of {numbers.plural(len(first.course.losses), 'epoch')}. After "
        "every epoch each token is right if no other is likelier after those before it; its accessibility is the share "
        f"of epochs in which it was. Between trainings this correlates: {order.ours} ({len(first.text):,} and "
        f"{len(first.held_out):,} tokens), {by_row:.3f} over whole training documents. So the order in which ordinary "
        "text is learned is a property of the text. It correlates on training text also where memory alone could have "
        "learned it, as all trainings saw the same text; that is why held-out text is asked about too."
    )


def _leak_finding(shares: VarianceShares) -> str:
    if isinstance(shares.seeds_p, NotAvailable):
        test = f"Whether trainings differ could not be tested: {shares.seeds_p.not_available}."
    else:
        test = f"If trainings did not differ, so large a share would have a probability of {shares.seeds_p:.2g}."
    return (
        "Canaries have fresh secrets in every training and are paired by their number of insertions. The variance of "
        f"their exposure under the final models, never-inserted ones included, splits into {shares.levels:.1%} between "
        f"levels, {shares.seeds:.1%} between trainings at one level and {shares.within:.1%} between the canaries of "
        f"one level in one training. {test} The share between levels is what another training on the same data would "
        "show again. Two or three trainings say little of rare accidents."
    )


def _early_finding(early: Sequence[EarlyRow]) -> str:
    repeated = sum(one.row.occurrences > 1 for one in early)
    top = [one.row for one in early[:repeated] if one.row.occurrences > 1]
    found = (
        f"{numbers.plural(repeated, 'row')} of them occur more than once; of the {repeated} at the top of the list "
        f"{len(top)} do, {sum(bool(row.canary) for row in top)} of these canaries."
        if repeated
        else "None of them occurs twice."
    )
    return (
        f"Rows learned early that should be hard: {len(early):,} distinct training documents, ordered by how far their "
        "accessibility, mean over the trainings, lies above that of ordinary documents of the same zlib entropy and "
        f"length. {found} Rows are named by their place among the training documents. The first ones are worth a look: "
        "they were copied, they share a template, or they are easy in a way that zlib does not see."
    )
