"""Easy examples: which training examples does a network get right after one pass (Arpit et al. 2017, figure 1)?

Many networks that differ by initialization and order see the data once. If no example were easier than another, their
error rates would scatter as a coin's would, binomially. Real data scatter far more: some are always right.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.noise.worlds import (
    RANDOM_INPUTS,
    RANDOM_LABELS,
    REAL,
    WORLDS,
    network_seeds,
    shuffled_labels,
    world,
)
from canary_audit.studies.seeds import over_seeds

N_NETWORKS = 100
_WIDTH = 128
_RECIPE = Recipe(epochs=1, learning_rate=0.0125, batch_size=20)
_N_POINTS = 101


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How the error rates of examples scatter."""

    mean: float
    ratio: float
    """Variance over the examples, divided by the binomial one for their mean; 1 if all are equally hard."""
    ratio_within: float
    """The same around the mean of each label, divided by the binomial variance for these means."""
    always_right: float
    """Share of examples that every network gets right."""


def run(setting: Setting) -> Section:
    """One pass of 100 networks over real data, random inputs and random labels, for every seed."""
    data = load_dataset(setting.config.study)
    rates: dict[str, list[NDArray[np.float64]]] = {name: [] for name in WORLDS}
    spreads: dict[str, list[Spread]] = {name: [] for name in WORLDS}
    for done, seed in enumerate(setting.seeds):
        setting.progress("easy examples: sets of networks", done, len(setting.seeds))
        for name in WORLDS:
            rate, labels = error_rates(data, name, seed, setting.device)
            rates[name].append(rate)
            spreads[name].append(spread(rate, labels, N_NETWORKS))
    return Section(
        experiment="easy-examples",
        title="Easy examples after one epoch",
        answer=_answer(spreads),
        findings=_findings(data, spreads, len(setting.seeds)),
        trends=(_trend(spreads),),
        grids=(_grid(spreads),),
        charts=(_chart(rates),),
    )


def error_rates(
    data: Dataset, name: str, seed: int, device: str, n_networks: int = N_NETWORKS
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Share of networks that get each training example wrong after one epoch, and its label: both (n_train,)."""
    examples = shuffled_labels(data, seed) if name == RANDOM_LABELS else world(data, name, seed)
    ensemble = Ensemble(
        lambda: mlp(data.n_features, data.n_classes, (_WIDTH,)), network_seeds(seed, n_networks), device
    )
    fit(ensemble, examples.x, examples.y, _RECIPE)
    return (ensemble.predict(examples.x) != examples.y).mean(axis=0), examples.y


def spread(rates: NDArray[np.float64], labels: NDArray[np.int64], n_networks: int) -> Spread:
    """Compare the scatter of error rates, one an example, with that of `n_networks` independent tosses each."""
    mean = float(rates.mean())
    of_label = {label: rates[labels == label].mean() for label in np.unique(labels)}
    centres = np.array([of_label[label] for label in labels])
    return Spread(
        mean=mean,
        ratio=_ratio(float(rates.var()), mean * (1 - mean) / n_networks),
        ratio_within=_ratio(
            float(np.mean((rates - centres) ** 2)), float(np.mean(centres * (1 - centres))) / n_networks
        ),
        always_right=float(np.mean(rates == 0)),
    )


def _ratio(variance: float, binomial: float) -> float:
    """1 if neither scatters: then all networks agree on everything."""
    return variance / binomial if binomial > 0 else 1.0


def _mean(spreads: list[Spread], field: str) -> float:
    return float(np.mean([getattr(one, field) for one in spreads]))


def _shown(spreads: list[Spread], field: str, digits: int = 2) -> str:
    return over_seeds([getattr(one, field) for one in spreads], digits)


def _trend(spreads: dict[str, list[Spread]]) -> Trend:
    noise = [spreads[RANDOM_INPUTS], spreads[RANDOM_LABELS]]
    real = spreads[REAL]
    holds = (
        _mean(real, "ratio") >= 2 * max(_mean(one, "ratio") for one in noise)
        and _mean(real, "always_right") >= 0.5
        and max(_mean(one, "always_right") for one in noise) <= 0.05
    )
    ours = "; ".join(
        f"{name} {_shown(spreads[name], 'ratio', 1)}, always right {_shown(spreads[name], 'always_right')}"
        for name in WORLDS
    )
    return Trend(
        id="A1",
        claim="real data have easy examples, which every network learns first; random inputs have none",
        paper="no number; curves of 100 networks",
        ours=f"variance of error rates over binomial variance: {ours}",
        criterion="after epoch 1, the ratio for real data is at least twice that of either noise; "
        "always right: at least 50 % of real examples, at most 5 % of noise",
        holds=holds,
    )


def _answer(spreads: dict[str, list[Spread]]) -> str:
    real, noise = (_mean(spreads[name], "always_right") for name in (REAL, RANDOM_LABELS))
    return (
        f"After one pass, {real:.0%} of the real examples are right in all of {N_NETWORKS} networks, and {noise:.0%} "
        "of those with random labels: what is learned first is what examples share."
    )


def _findings(data: Dataset, spreads: dict[str, list[Spread]], n_seeds: int) -> tuple[str, ...]:
    inputs, labels = (spreads[name] for name in (RANDOM_INPUTS, RANDOM_LABELS))
    return (
        f"{N_NETWORKS} networks with one hidden layer of {_WIDTH} units, each with an initialization and an order of "
        f"its own, saw the {len(data.train_y):,} training examples of {data.name} once. The error rate of a training "
        f"example is the share of networks that then get it wrong. This was done {n_seeds} times, each with "
        "new networks and new noise. Random labels are the real ones dealt out anew: drawn one by one, some labels "
        "become more frequent, all networks favour those, and on the digits the variance was up to four times as large "
        "for that reason.",
        "Real examples differ greatly: the variance of their error rates is "
        f"{_mean(spreads[REAL], 'ratio'):.0f} times the binomial variance, which is what equally hard examples would "
        "have, and the surplus stays when labels are compared with themselves only "
        f"({_mean(spreads[REAL], 'ratio_within'):.0f} times).",
        "The paper finds random inputs close to binomial. Here the ratio is "
        f"{_mean(inputs, 'ratio'):.1f} for random inputs and {_mean(labels, 'ratio'):.1f} for random labels. Part of "
        "that is because networks favour some labels over others, and do so alike; around the mean of each label it is "
        f"{_mean(inputs, 'ratio_within'):.1f} and {_mean(labels, 'ratio_within'):.1f}. The rest is what one pass "
        "already stores of the examples themselves, of which there are few. So real data are compared with "
        "noise, and noise with the binomial only for orientation.",
        "All are compared after epoch 1 only. Later the noise is stored too, and its examples differ more and more. "
        "The ratio grows with the number of networks and means nothing without it.",
    )


def _grid(spreads: dict[str, list[Spread]]) -> Grid:
    return Grid(
        caption=f"Error rates of training examples over {N_NETWORKS} networks after one epoch; mean (seeds)",
        columns=("data", "mean error", "variance / binomial", "within labels", "always right"),
        rows=tuple(
            (
                name,
                _shown(spreads[name], "mean"),
                _shown(spreads[name], "ratio", 1),
                _shown(spreads[name], "ratio_within", 1),
                _shown(spreads[name], "always_right"),
            )
            for name in WORLDS
        ),
    )


def _chart(rates: dict[str, list[NDArray[np.float64]]]) -> Chart:
    shares = np.linspace(0, 1, _N_POINTS)
    place = tuple(float(100 * share) for share in shares)
    series: list[Series] = []
    for name in WORLDS:
        curves = np.stack([np.quantile(rate, shares) for rate in rates[name]])
        mean, low, high = (tuple(map(float, found)) for found in (curves.mean(0), curves.min(0), curves.max(0)))
        series.append(Series(name=name, x=place, y=mean, low=low, high=high))
    for name in WORLDS:
        p = float(np.mean(rates[name]))
        # Not 0 and 1 themselves: no example of a finite set lies there.
        inner = np.clip(shares, 0.5 / rates[name][0].size, 1 - 0.5 / rates[name][0].size)
        binomial = stats.binom.ppf(inner, N_NETWORKS, p) / N_NETWORKS
        series.append(Series(name=f"{name}, if equally hard", x=place, y=tuple(map(float, binomial))))
    return Chart(
        kind="lines",
        caption="Error rates of training examples after one epoch, sorted, beside those of equally hard examples",
        x_label="examples, easiest first (%)",
        y_label="share of networks that are wrong",
        series=tuple(series),
    )
