"""Canaries are noise among text: when does a language model store them, while it learns the language or after it?

The secrets of canaries play the part of random labels, which only memory can fit, and the corpus that of real data.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from canary_audit.errors import ConfigError
from canary_audit.gate import load_policy
from canary_audit.report import numbers
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section, Trend
from canary_audit.studies.noise.language_looks import Watched, watch
from canary_audit.studies.noise.language_tables import charts, critical, epoch_grid, kinds_grid, rows, timing
from canary_audit.studies.seeds import listed

_SHARE_BEFORE_BEST: Final = 0.7


def run(setting: Setting) -> Section:
    """Train with every seed and compare the epochs of storing with that of the least validation loss.

    Raises:
        ConfigError: no canary is inserted, or the configuration cannot be run.
    """
    if not any(group.levels for group in setting.config.canaries):
        raise ConfigError(
            "[[canaries]] levels: no canary is inserted, so nothing can be stored; add levels = [1, 4, 16]"
        )
    limit = load_policy(Path(setting.config.policy.path)).table.max_exposure_bits
    return section_of([watch(setting, seed) for seed in setting.seeds], limit)


def section_of(watched: Sequence[Watched], limit_bits: float) -> Section:
    """What the trainings show, against the exposure that the gate tolerates."""
    return Section(
        experiment="language",
        title="Language model: learning the language, or storing the secrets",
        answer=answer(watched, limit_bits),
        findings=(*timing(watched, limit_bits), rows(watched), critical(watched)),
        trends=(_early(watched),),
        grids=(epoch_grid(watched, limit_bits), kinds_grid(watched)),
        charts=tuple(charts(watched)),
    )


def answer(watched: Sequence[Watched], limit_bits: float) -> str:
    """Is it learning or storing, and when should training stop?"""
    courses = [one.course for one in watched]
    top = max(courses[0].exposures)
    passed = [course.passes(top, limit_bits) for course in courses]
    best = listed(course.best_epoch for course in courses)
    falls = ", where the loss still fell" if any(course.still_falls for course in courses) else ""
    learned = f"the validation loss was least after epoch {best} of {len(courses[0].losses)}{falls}"
    if all(epoch is None for epoch in passed):
        return (
            f"Learning: {learned}, and canaries inserted {top} times never passed the gate's {limit_bits:g} bits. "
            "Training may go on to the least loss."
        )
    early = [epoch is not None and epoch < one.best_epoch for epoch, one in zip(passed, courses, strict=True)]
    what = (
        "Both at once" if all(early) else "First learning, then storing" if not any(early) else "It depends on the seed"
    )
    return (
        f"{what}: {learned}, and canaries inserted {top} times passed the gate's {limit_bits:g} bits in "
        f"{listed('no epoch' if epoch is None else f'epoch {epoch}' for epoch in passed)}. "
        f"{_advice(watched, limit_bits)}"
    )


def _advice(watched: Sequence[Watched], limit_bits: float) -> str:
    """Where training would have to stop so that no level passes the limit, and what that costs."""
    stops, costs = [], []
    for course in (one.course for one in watched):
        passed = [epoch for level in course.exposures if (epoch := course.passes(level, limit_bits)) is not None]
        stop = min(course.best_epoch, *(epoch - 1 for epoch in passed)) if passed else course.best_epoch
        stops.append(stop)
        costs.append(course.losses[max(stop, 1) - 1] - min(course.losses))
    if all(stop == one.course.best_epoch for stop, one in zip(stops, watched, strict=True)):
        return "Stopping at the least validation loss keeps every level within the limit."
    if min(stops) == 0:
        return "In some seed no epoch is early enough: stopping early is no defence here; take the repetitions out."
    return (
        f"To keep every level within the limit, training would have to stop after epoch {listed(stops)}, "
        f"{numbers.loss(fmean(costs))} bits a character above the least loss on average: stopping at the least loss "
        "comes too late."
    )


def _early(watched: Sequence[Watched]) -> Trend:
    top = max(watched[0].course.exposures)
    shares = [one.course.share_before_best(top) for one in watched]
    return Trend(
        id="S2",
        claim="secrets are stored before the model has learned the language",
        paper="exposure is at its greatest near the least validation loss (Carlini et al. 2019)",
        ours=f"{top} insertions: {listed(f'{share:.0%}' for share in shares)} of the greatest exposure before the "
        f"epoch of least loss ({listed(one.course.best_epoch for one in watched)})",
        criterion=f"exposure of the most inserted canaries reaches {_SHARE_BEFORE_BEST:.0%} of its maximum before the "
        "epoch of least validation loss",
        holds=fmean(shares) >= _SHARE_BEFORE_BEST,
    )
