"""What the comparison with noise found, in words, tables and charts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.learning_order.agreement import FloatArray
from canary_audit.studies.learning_order.wording import each, seed_mean, shown
from canary_audit.studies.seeds import band

REAL: Final = "real"
RANDOM_LABELS: Final = "random labels, the same for all"
RANDOM_INPUTS: Final = "random inputs, the same for all"
FRESH: Final = "random labels, fresh for each"

GAP: Final = 0.2
NULL: Final = 0.2
_TWO_POINT_GAP: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One ensemble on one kind of examples."""

    stored: FloatArray
    """Share of right answers on the training examples, by epoch; fresh labels are each network's own."""
    constancy: FloatArray
    """Correlation of accessibility between two halves of the networks, over the epochs up to each."""
    agreement: float
    """Of the networks on held-out inputs, whatever the label."""
    agreement_by_chance: float
    """The same if each network's answers were dealt out at random."""
    two_point: FloatArray
    pearson_bimodality: FloatArray
    """Of the share of networks that are right, by epoch."""
    isolation: float
    """Rank correlation of accessibility, over all epochs, with the distance to the nearest other examples."""


Kinds = dict[str, Measured]


def report(data: Dataset, measured: Sequence[Kinds], *, networks: int, epochs: int, longer: int) -> Section:
    """The section, from what was measured for each seed."""
    halves = {kind: [float(one[kind].constancy[epochs - 1]) for one in measured] for kind in measured[0]}
    long_run = [float(one[FRESH].constancy[-1]) for one in measured]
    trends = judged(measured, epochs)
    return Section(
        experiment="noise",
        title="The order of noise",
        answer=_answer(seed_mean(halves[RANDOM_LABELS]), seed_mean(halves[FRESH])),
        findings=(
            f"{networks // 2} + {networks // 2} networks with two layers of 64 learned {data.name} for {epochs} "
            "epochs: as it is, with random labels or random inputs that all networks share, and with random labels "
            "that are fresh for each network. Accessibility is the share of networks and epochs that gave the label "
            "which the network itself was taught.",
            f"On held-out inputs, for which no label was taught, networks agree on {_of(measured, REAL)} (share with "
            f"the most frequent answer) after learning real data, on {_of(measured, RANDOM_LABELS)} after random "
            f"labels and on {_of(measured, RANDOM_INPUTS)} after random inputs. With fresh labels it is "
            f"{_of(measured, FRESH)}; {shown(seed_mean([one[FRESH].agreement_by_chance for one in measured]))} would "
            "be chance.",
            "On the training examples the correlation of accessibility between halves is "
            f"{each(halves[REAL])} for real data, {each(halves[RANDOM_LABELS])} for random labels, "
            f"{each(halves[RANDOM_INPUTS])} for random inputs and {each(halves[FRESH])} for fresh labels, seed by "
            "seed. It need not vanish on noise that all networks share: those that were taught the same random labels "
            "can fit the same ones first. So it cannot tell regularity from noise by itself.",
            _isolated(measured, long_run, epochs=epochs, longer=longer),
            "Bimodality is reported only. Shares of networks that are right can pile up near none and all for shared "
            "random labels as well, and both measures of it depend on how much has been learned.",
        ),
        trends=trends,
        grids=(_grid(measured, epochs),),
        charts=_charts(measured, epochs),
    )


def _answer(shared: float, fresh: float) -> str:
    numbers = (
        f"between halves of an ensemble of classifiers, r = {shown(shared)} on random labels that all share, and "
        f"{shown(fresh)} on labels drawn afresh for each"
    )
    if shared - abs(fresh) >= GAP:
        return (
            "That several trainings on one corpus store the same things in the same order does not show that these are "
            f"regular; drawing the secrets afresh for each training does: {numbers}."
        )
    return (
        f"Noise that all trainings share and fresh noise are not told apart by the order of learning here: {numbers}."
    )


def judged(measured: Sequence[Kinds], epochs: int) -> tuple[Trend, Trend]:
    """Trends H2 and H3."""
    real, labels = (seed_mean([one[kind].agreement for one in measured]) for kind in (REAL, RANDOM_LABELS))
    fresh = seed_mean([float(one[FRESH].constancy[epochs - 1]) for one in measured])
    pile = {kind: seed_mean([_mean(one[kind].two_point) for one in measured]) for kind in (REAL, RANDOM_LABELS)}
    return (
        Trend(
            id="H2",
            claim="the common order of learning breaks on noise",
            paper="no number: curves for random labels and synthetic data",
            ours=f"held-out agreement: real {shown(real)}, random labels {shown(labels)}; correlation between halves "
            f"with fresh labels: {shown(fresh)} after {epochs} epochs",
            criterion=f"held-out agreement on real data at least {GAP} above shared random labels, and the correlation "
            f"with fresh labels within {NULL} of 0",
            holds=real - labels >= GAP and abs(fresh) < NULL,
        ),
        Trend(
            id="H3",
            claim="on real data an example is right in nearly all networks or in nearly none; on noise it is not",
            paper="no number: histograms",
            ours=f"variance of the share of networks that are right, over p (1 - p), mean over epochs: real "
            f"{shown(pile[REAL])}, random labels {shown(pile[RANDOM_LABELS])}",
            criterion=f"real at least {_TWO_POINT_GAP} above shared random labels; reported, not asked for",
            holds=pile[REAL] - pile[RANDOM_LABELS] >= _TWO_POINT_GAP,
        ),
    )


def _isolated(measured: Sequence[Kinds], long_run: list[float], *, epochs: int, longer: int) -> str:
    stored = [seed_mean([float(one[FRESH].stored[at - 1]) for one in measured]) for at in (epochs, longer)]
    return (
        f"Fresh labels are a null only while little is stored. After {epochs} epochs a network has {stored[0]:.0%} "
        f"of its own random labels, after {longer} epochs {stored[1]:.0%}, and then the correlation is "
        f"{each(long_run)}: the inputs are still the same, and some can be given any label more easily than others. "
        "Are they the isolated ones? The rank correlation of accessibility with the distance to the nearest examples "
        f"is {each([one[FRESH].isolation for one in measured])} with fresh labels, while with real labels it is "
        f"{each([one[REAL].isolation for one in measured])}."
    )


def _of(measured: Sequence[Kinds], kind: str) -> str:
    return shown(seed_mean([one[kind].agreement for one in measured]))


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _grid(measured: Sequence[Kinds], epochs: int) -> Grid:
    columns: dict[str, Callable[[Measured], float]] = {
        "labels stored": lambda one: float(one.stored[epochs - 1]),
        "order, two halves (r, training)": lambda one: float(one.constancy[epochs - 1]),
        "agreement, held-out": lambda one: one.agreement,
        "agreement by chance": lambda one: one.agreement_by_chance,
        "variance over p (1 - p)": lambda one: _mean(one.two_point),
        "kurtosis - skewness squared": lambda one: _mean(one.pearson_bimodality),
    }
    return Grid(
        caption=f"Real data and noise after {epochs} epochs, mean over the seeds; the last two are means over epochs "
        "(1 / number of networks and 3 without any bimodality, 1 and 1 on two points)",
        columns=("examples", *columns),
        rows=tuple(
            (kind, *(shown(seed_mean([value(one[kind]) for one in measured])) for value in columns.values()))
            for kind in measured[0]
        ),
    )


def _charts(measured: Sequence[Kinds], epochs: int) -> tuple[Chart, ...]:
    kinds = list(measured[0])
    return (
        Chart(
            kind="bars",
            caption="Share of networks that give the most frequent answer on held-out inputs",
            x_label="learned",
            y_label="agreement",
            names=tuple(kinds),
            series=(
                _bars("observed", [[one[kind].agreement for one in measured] for kind in kinds]),
                _bars("by chance", [[one[kind].agreement_by_chance for one in measured] for kind in kinds]),
            ),
        ),
        Chart(
            kind="lines",
            caption="Correlation of accessibility between two halves of the networks, on the training examples, from "
            "the epochs up to each",
            x_label="epoch",
            y_label="correlation",
            series=tuple(band(kind, [one[kind].constancy for one in measured]) for kind in kinds),
        ),
    )


def _bars(name: str, values: list[list[float]]) -> Series:
    return Series(
        name=name,
        x=tuple(float(place) for place in range(len(values))),
        y=tuple(seed_mean(one) for one in values),
        low=tuple(min(one) for one in values),
        high=tuple(max(one) for one in values),
    )
