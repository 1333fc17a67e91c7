"""What the comparison of architectures found, in words, tables and charts."""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.learning_order.agreement import (
    BoolArray,
    FloatArray,
    accessibility,
    halves,
    pearson,
    pearson_interval,
    spearman,
    true_agreement,
    within_classes,
)
from canary_audit.studies.learning_order.wording import each, seed_mean, shown
from canary_audit.studies.seeds import band

SAME: Final = 0.9
ACROSS: Final = 0.7

Learned = dict[str, tuple[BoolArray, BoolArray]]
"""Right answers of one seed's networks, by architecture, on training and held-out examples."""
Pair = tuple[FloatArray, FloatArray]

_TRAIN, _HELD_OUT = 0, 1
_MOST_DOTS = 300
_SHOWN_CLASSES = 3


def report(data: Dataset, learned: Sequence[Learned], seed: int) -> Section:
    """The section, from what the networks of each seed learned; `seed` draws the bootstrap."""
    small, large, *others = learned[0]
    same = [[pearson(*halves(one[small][part])) for one in learned] for part in (_TRAIN, _HELD_OUT)]
    across = [[pearson(*_orders(one, small, large, part)) for one in learned] for part in (_TRAIN, _HELD_OUT)]
    trend = judged(same, across)
    beyond = [[pearson(*_orders(one, small, other, _HELD_OUT)) for one in learned] for other in others]
    return Section(
        experiment="architectures",
        title="Other networks, the same order",
        answer=_answer(same[_HELD_OUT], across[_HELD_OUT], holds=trend.holds),
        findings=(
            f"On {data.name}, {learned[0][small][0].shape[1]} networks with {small} and "
            f"{learned[0][large][0].shape[1]} with {large} learned the same {len(data.train_y):,} examples for "
            f"{learned[0][small][0].shape[0]} epochs, each from its own initialization and in its own order. The "
            "accessibility of an example is the share of networks and epochs that were right on it: near 1 if it is "
            "learned at once, near 0 if never.",
            f"Two halves of one ensemble, which share nothing but the data, give accessibilities that correlate at "
            f"{each(same[_TRAIN])} on training and {each(same[_HELD_OUT])} on held-out examples, seed by seed. "
            f"{small.capitalize()} against {large}: {each(across[_TRAIN])} and {each(across[_HELD_OUT])}. "
            + " ".join(f"Against {other}: {each(r)} held-out." for other, r in zip(others, beyond, strict=True)),
            "Some classes are harder than others; the table also gives the correlation once the mean of each class is "
            "taken out. Intervals are bootstraps over the examples of the "
            "first seed; they say what other examples would have given, not other networks.",
            "Learning rates were chosen for each architecture so that learning is spread over the epochs. The smaller "
            "ensembles measure accessibility less exactly, which lowers their correlations. Correlation with the order "
            "of real examples says nothing yet about noise: see the experiment with noise."
            + ("" if "convolutions" in learned[0] else " Without images there is no convolutional network."),
        ),
        trends=(trend,),
        grids=(_correlations(data, learned, seed), _classes(data, learned)),
        charts=(_dots(learned[0], small, large), _agreement_over_epochs(learned, small)),
    )


def judged(same: Sequence[list[float]], across: Sequence[list[float]]) -> Trend:
    """Trend H1, from correlations on training and held-out examples, one for each seed."""
    return Trend(
        id="H1",
        claim="networks learn the same examples in the same order, also across architectures",
        paper="r about 0.99 for one architecture, 0.87 for ResNet-50 against AlexNet; quoted from notes, not checked",
        ours=f"one architecture: training {shown(seed_mean(same[0]))}, held-out {shown(seed_mean(same[1]))}; "
        f"1 layer of 64 against 3 of 256: {shown(seed_mean(across[0]))}, {shown(seed_mean(across[1]))}",
        criterion=f"correlation of accessibility on training and held-out examples: at least {SAME} between two halves "
        f"of an ensemble, at least {ACROSS} across architectures",
        holds=all(seed_mean(part) >= SAME for part in same) and all(seed_mean(part) >= ACROSS for part in across),
    )


def _answer(same: list[float], across: list[float], *, holds: bool) -> str:
    numbers = (
        f"r = {shown(seed_mean(same))} between ensembles of one architecture and {shown(seed_mean(across))} between "
        "architectures, on held-out examples"
    )
    if holds:
        return f"When a classifier learns an example is a property of the data, not an accident of the run: {numbers}."
    return f"Classifiers do not clearly share one order of learning here: {numbers}."


def _orders(one: Learned, first: str, second: str, part: int) -> Pair:
    return accessibility(one[first][part]), accessibility(one[second][part])


def _correlations(data: Dataset, learned: Sequence[Learned], seed: int) -> Grid:
    names, parts = list(learned[0]), (_TRAIN, _HELD_OUT)
    generator = np.random.default_rng([seed, 71])
    compared = {
        f"{name}: two halves": [[halves(one[name][part]) for one in learned] for part in parts] for name in names
    }
    compared |= {
        f"{a} against {b}": [[_orders(one, a, b, part) for one in learned] for part in parts]
        for a, b in combinations(names, 2)
    }
    return Grid(
        caption="Correlation of accessibility, mean over the seeds; the interval is of the first seed",
        columns=(
            "compared",
            "training",
            "held-out",
            "95 % interval, held-out",
            "of ranks, held-out",
            "within classes, held-out",
        ),
        rows=tuple(_row(data, name, train, held_out, generator) for name, (train, held_out) in compared.items()),
    )


def _row(
    data: Dataset, name: str, train: Sequence[Pair], held_out: Sequence[Pair], generator: np.random.Generator
) -> tuple[str, ...]:
    """One pair of accessibilities for each seed."""
    low, high = pearson_interval(*held_out[0], generator)
    within = [pearson(*(within_classes(values, data.test_y) for values in pair)) for pair in held_out]
    return (
        name,
        shown(seed_mean([pearson(*pair) for pair in train])),
        shown(seed_mean([pearson(*pair) for pair in held_out])),
        f"{shown(low)} to {shown(high)}",
        shown(seed_mean([spearman(*pair) for pair in held_out])),
        shown(seed_mean(within)),
    )


def _classes(data: Dataset, learned: Sequence[Learned]) -> Grid:
    names, classes = list(learned[0]), np.unique(data.test_y)
    means = np.array([[_class_mean(data, learned, name, label) for name in names] for label in classes])
    order = np.argsort(-means[:, 0], kind="stable")
    if len(order) > 2 * _SHOWN_CLASSES:
        order = np.concatenate([order[:_SHOWN_CLASSES], order[-_SHOWN_CLASSES:]])
    return Grid(
        caption=f"Classes learned earliest and latest by the first architecture, of {len(classes)}: mean accessibility "
        "of their held-out examples",
        columns=("class", *names),
        rows=tuple((str(classes[place]), *(shown(value) for value in means[place])) for place in order),
    )


def _class_mean(data: Dataset, learned: Sequence[Learned], name: str, label: int) -> float:
    return seed_mean([float(one[name][_HELD_OUT][:, :, data.test_y == label].mean()) for one in learned])


def _dots(one: Learned, small: str, large: str) -> Chart:
    first, second = halves(one[small][_HELD_OUT])
    other = accessibility(one[large][_HELD_OUT])
    step = -(-len(first) // _MOST_DOTS)
    x = tuple(first[::step].tolist())
    return Chart(
        kind="dots",
        caption="Accessibility of held-out examples for half of the networks, against the other half and against "
        "another architecture (first seed)",
        x_label=f"accessibility, first half ({small})",
        y_label="accessibility, others",
        series=(
            Series(name="other half, same architecture", x=x, y=tuple(second[::step].tolist())),
            Series(name=large, x=x, y=tuple(other[::step].tolist())),
        ),
    )


def _agreement_over_epochs(learned: Sequence[Learned], small: str) -> Chart:
    shares = [true_agreement(one[small][_HELD_OUT]) for one in learned]
    return Chart(
        kind="lines",
        caption=f"Held-out examples on which all, none or some of the networks ({small}) are right, after each epoch",
        x_label="epoch",
        y_label="share of held-out examples",
        series=(
            band("all networks are right", [(share == 1).mean(axis=1) for share in shares]),
            band("no network is right", [(share == 0).mean(axis=1) for share in shares]),
            band("networks differ", [((share > 0) & (share < 1)).mean(axis=1) for share in shares]),
        ),
    )
