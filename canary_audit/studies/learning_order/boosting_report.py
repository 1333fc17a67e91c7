"""What the comparison with boosting found, in words, tables and charts."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.learning_order.agreement import (
    BoolArray,
    accessibility,
    constancy,
    pearson,
    spearman,
    within_classes,
)
from canary_audit.studies.learning_order.wording import each, seed_mean, shown
from canary_audit.studies.seeds import band

NETWORKS: Final = "networks"
STUMPS: Final = "AdaBoost, trees of depth 1"
TREES: Final = "AdaBoost, trees of depth 3"

SAME_ORDER: Final = 0.7
"""What is asked of two architectures is asked of two ways of learning."""

Learned = dict[str, tuple[BoolArray, BoolArray]]
"""Right answers of one seed, on training and held-out examples."""

_TRAIN, _HELD_OUT = 0, 1
_MOST_DOTS = 300


def report(data: Dataset, learned: Sequence[Learned]) -> Section:
    """The section, from what networks and boosters of each seed learned."""
    boosters = [name for name in learned[0] if name != NETWORKS]
    with_networks = {
        name: [[_against_networks(one, name, part) for one in learned] for part in (_TRAIN, _HELD_OUT)]
        for name in boosters
    }
    trend = judged(with_networks)
    follows = (
        "follows the order of the networks" if trend.holds else "does not clearly follow the order of the networks"
    )
    return Section(
        experiment="boosting",
        title="Boosting beside networks",
        answer=""
        if trend.holds
        else "The order belongs to the data and the way of learning together: by the measure "
        "asked of two architectures, boosting does not share it with networks.",
        findings=(
            f"AdaBoost learned {data.name} over {learned[0][STUMPS][0].shape[0]} rounds with trees of depth 1, and "
            f"over {learned[0][TREES][0].shape[0]} with depth 3; {learned[0][STUMPS][0].shape[1]} boosters of each "
            "kind differ in the random features that a tree may split on. Accessibility over rounds is compared with "
            f"that of {learned[0][NETWORKS][0].shape[1]} networks with one layer of 64 over epochs.",
            " ".join(
                f"{name} against networks: {each(train)} on training and {each(held_out)} on held-out examples, "
                "seed by seed."
                for name, (train, held_out) in with_networks.items()
            ),
            f"By the criterion, boosting {follows}. The versions of the paper disagree on it: the first manuscript "
            "says that AdaBoost learns in the same order, the published version that other ways of learning may have "
            "another.",
            "Boosters vary among themselves, which lowers these correlations; the table gives the correlation between "
            "two halves of them, and what Spearman's correction for it makes of the correlation with networks. And two "
            "good classifiers agree to some extent on any data, because what is easy for one is easy for the other: "
            "that their orders correlate is no evidence of a common mechanism.",
        ),
        trends=(trend,),
        grids=(_grid(data, learned),),
        charts=(_dots(learned[0]), _curves(learned)),
    )


def _answer(learned: Sequence[Learned], with_networks: dict[str, list[list[float]]], *, holds: bool) -> str:
    found = [seed_mean(held_out) for _, held_out in with_networks.values()]
    networks = seed_mean([constancy(one[NETWORKS][_HELD_OUT]) for one in learned])
    numbers = (
        f"r = {shown(min(found))} to {shown(max(found))} between boosting and networks on held-out examples, "
        f"{shown(networks)} between two halves of the networks"
    )
    if holds:
        return f"Even another way of learning follows the order of the networks: {numbers}."
    return f"The order belongs in part to the data and in part to the way of learning: {numbers}."


def judged(with_networks: dict[str, list[list[float]]]) -> Trend:
    """Trend H5, from the correlations of each booster with networks: on training and held-out examples, by seed."""
    means = {name: [seed_mean(part) for part in parts] for name, parts in with_networks.items()}
    return Trend(
        id="H5",
        claim="boosting learns in the same order as networks (first manuscript; the published version is not sure)",
        paper="no number",
        ours="; ".join(f"{name}: training {shown(a)}, held-out {shown(b)}" for name, (a, b) in means.items()),
        criterion=f"correlation of accessibility with networks at least {SAME_ORDER} on training and held-out examples "
        "for both depths of trees; reported, not asked for",
        holds=all(value >= SAME_ORDER for parts in means.values() for value in parts),
    )


def _against_networks(one: Learned, name: str, part: int) -> float:
    return pearson(accessibility(one[name][part]), accessibility(one[NETWORKS][part]))


def _grid(data: Dataset, learned: Sequence[Learned]) -> Grid:
    return Grid(
        caption="Right answers at the end and correlations of accessibility, on held-out examples; mean over the seeds",
        columns=("learner", "right", "two halves", "with networks", "of ranks", "within classes", "corrected"),
        rows=tuple(_row(data, name, [one[name][_HELD_OUT] for one in learned], learned) for name in learned[0]),
    )


def _row(data: Dataset, name: str, right: list[BoolArray], learned: Sequence[Learned]) -> tuple[str, ...]:
    own = (
        name,
        shown(seed_mean([float(one[-1].mean()) for one in right])),
        shown(seed_mean(list(map(constancy, right)))),
    )
    if name == NETWORKS:
        return (*own, "", "", "", "")
    pairs = [(accessibility(a), accessibility(one[NETWORKS][_HELD_OUT])) for a, one in zip(right, learned, strict=True)]
    within = [pearson(*(within_classes(values, data.test_y) for values in pair)) for pair in pairs]
    return (
        *own,
        shown(seed_mean([pearson(*pair) for pair in pairs])),
        shown(seed_mean([spearman(*pair) for pair in pairs])),
        shown(seed_mean(within)),
        shown(seed_mean([_corrected(one, name) for one in learned])),
    )


def _corrected(one: Learned, name: str) -> float:
    """Correlation with networks on held-out examples, if there were very many boosters and networks.

    Spearman's correction for attenuation; the reliability of a whole ensemble follows from that of its halves by the
    Spearman-Brown formula.
    """
    split = [constancy(one[which][_HELD_OUT]) for which in (name, NETWORKS)]
    reliability = float(np.prod([2 * r / (1 + r) if r > 0 else np.nan for r in split]))
    return _against_networks(one, name, _HELD_OUT) / float(np.sqrt(reliability))


def _dots(one: Learned) -> Chart:
    networks = accessibility(one[NETWORKS][_HELD_OUT])
    step = -(-len(networks) // _MOST_DOTS)
    return Chart(
        kind="dots",
        caption="Accessibility of held-out examples, boosters against networks (first seed)",
        x_label="accessibility, networks",
        y_label="accessibility, boosters",
        series=tuple(
            Series(
                name=name,
                x=tuple(networks[::step].tolist()),
                y=tuple(accessibility(right[_HELD_OUT])[::step].tolist()),
            )
            for name, right in one.items()
            if name != NETWORKS
        ),
    )


def _curves(learned: Sequence[Learned]) -> Chart:
    return Chart(
        kind="lines",
        caption="Held-out examples answered rightly, by round of boosting or epoch of the networks",
        x_label="round or epoch",
        y_label="share right",
        series=tuple(band(name, [one[name][_HELD_OUT].mean(axis=(1, 2)) for one in learned]) for name in learned[0]),
    )
