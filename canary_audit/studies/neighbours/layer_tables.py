"""Grids and charts of the comparison with neighbours and linear classifiers, layer by layer."""

import math

from canary_audit.studies.findings import Chart, Grid, Series
from canary_audit.studies.neighbours.worlds import WORLDS, Looks

_NEIGHBOUR_COLUMNS = {
    "P_SAME, training": "train.p_same",
    "neighbours right, training": "train.accuracy",
    "P_SAME, test": "test.p_same",
    "MA, test": "test.both_right",
    "MD, test": "test.both_wrong",
    "divergence, test (nats)": "test.divergence",
    "neighbours right, test": "test.accuracy",
    "network right, test": "test.network_accuracy",
}
_LINEAR_COLUMNS = {
    "support vector machine, training": "vectors.train",
    "support vector machine, test": "vectors.test",
    "logistic regression, training": "logistic.train",
    "logistic regression, test": "logistic.test",
}


def neighbour_grid(network: str, looks: Looks) -> Grid:
    """Every number of the comparison with neighbours; `network` names the architecture."""
    caption = (
        f"{network} and its nearest neighbours. P_SAME: share of equal decisions; MA: of the examples the network has "
        "right, those on which the neighbours are right too; MD: of its errors, those that the neighbours make too; "
        "divergence: mean Kullback-Leibler divergence of their vote shares from the network's probabilities. On the "
        "training set, every example is left out of its own vote and 'right' means the training label"
    )
    return _grid(caption, looks, _NEIGHBOUR_COLUMNS)


def linear_grid(network: str, looks: Looks) -> Grid:
    """P_SAME with linear classifiers."""
    return _grid(f"{network} and linear classifiers on its layers: share of equal decisions", looks, _LINEAR_COLUMNS)


def charts(network: str, looks: Looks) -> tuple[Chart, ...]:
    """P_SAME against the layer, on the test set and on the training set."""
    return (
        _chart(f"{network}: decisions equal to those of the nearest neighbours, on the test set", looks, "test.p_same"),
        _chart(
            f"{network}: the same on the training set, each example left out of its own vote", looks, "train.p_same"
        ),
    )


def _grid(caption: str, looks: Looks, columns: dict[str, str]) -> Grid:
    rows = tuple(
        (f"{layer}, {world}", *(_shown(looks.mean(world, layer, number)) for number in columns.values()))
        for world in WORLDS
        for layer in looks.layers
    )
    return Grid(caption=caption, columns=("layer and labels", *columns), rows=rows)


def _shown(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.3f}"


def _chart(caption: str, looks: Looks, number: str) -> Chart:
    return Chart(
        kind="lines",
        caption=caption,
        x_label="layer",
        y_label="P_SAME",
        series=tuple(_series(world, looks, number) for world in WORLDS),
        names=looks.layers,
    )


def _series(world: str, looks: Looks, number: str) -> Series:
    seeds = [looks.each(world, layer, number) for layer in looks.layers]
    return Series(
        name=world,
        x=tuple(range(len(seeds))),
        y=tuple(looks.mean(world, layer, number) for layer in looks.layers),
        low=tuple(map(min, seeds)),
        high=tuple(map(max, seeds)),
    )
