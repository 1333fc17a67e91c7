"""The section on generative adversarial networks: one trend, how far generated points are from real ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.mixup.plane import POINTS, SPOTS
from canary_audit.studies.seeds import mean_of


@dataclass(frozen=True, kw_only=True)
class Course:
    """How one way of training went."""

    name: str
    rounds: tuple[int, ...]
    """At which it was looked at."""
    distance: NDArray[np.float64]
    """Energy distance of generated to real points, shape (n_looks, n_kinds_of_points, n_networks)."""
    spots: NDArray[np.float64]
    """Of the four spots, those hit; means something where the points are four spots. Same shape."""

    @property
    def late_distance(self) -> NDArray[np.float64]:
        """Its mean over the second half of training, shape (n_kinds_of_points, n_networks)."""
        return np.asarray(self._late.mean(axis=0), dtype=np.float64)

    @property
    def unrest(self) -> NDArray[np.float64]:
        """Its deviation from look to look in that half: how much training swings to and fro. Same shape."""
        return np.asarray(self._late.std(axis=0), dtype=np.float64)

    @property
    def _late(self) -> NDArray[np.float64]:
        return self.distance[len(self.distance) // 2 :]


def section(courses: Sequence[Course], n_networks: int, rounds: int) -> Section:
    """All of it, from plain training and mixup, in this order. M6 is of the table in `docs/papers.md`."""
    plain, mixup = courses
    trend = _m6(plain, mixup)
    spots = tuple(POINTS).index("four spots")
    return Section(
        experiment="gan",
        title="Generative adversarial networks",
        findings=(
            f"Generators learned to imitate points of the plane, {n_networks} for each kind of points and way of "
            f"training, for {rounds:,} steps; two steps of the discriminator came before each. Both networks have "
            "three layers of 64 units, where the paper has 512. With mixup the discriminator saw mixtures of real and "
            "generated points with shares from Beta(0.2, 0.2), drawn for every pair, and was asked for the share.",
            f"Over the second half of training: {trend.ours}. Of the {len(SPOTS)} spots, plain generators hit "
            f"{mean_of(plain.spots[-1, spots])} in the end, mixup's {mean_of(mixup.spots[-1, spots])}.",
            "What it does not show: the paper judged pictures of samples by eye and gives no number, so no number "
            "can be compared. Networks, learning rate and length of training are small, and whether a pair of "
            "networks settles depends on them. It also says nothing of memorization.",
        ),
        trends=(trend,),
        grids=(_grid(courses),),
        charts=tuple(_chart(kind, place, courses) for place, kind in enumerate(POINTS)),
    )


def _m6(plain: Course, mixup: Course) -> Trend:
    return Trend(
        id="M6",
        claim="mixup steadies the training of generative adversarial networks",
        paper="pictures only, no number",
        ours="; ".join(
            f"{kind}: energy distance {mean_of(plain.late_distance[place], 3)} plain, "
            f"{mean_of(mixup.late_distance[place], 3)} mixup, its swing "
            f"{mean_of(plain.unrest[place], 3)} plain, {mean_of(mixup.unrest[place], 3)} mixup"
            for place, kind in enumerate(POINTS)
        ),
        criterion=(
            "Over the second half of training, mean energy distance to real points, and its standard deviation from "
            "look to look: both lower with mixup, on both kinds of points"
        ),
        holds=bool(
            (mixup.late_distance.mean(axis=1) < plain.late_distance.mean(axis=1)).all()
            and (mixup.unrest.mean(axis=1) < plain.unrest.mean(axis=1)).all()
        ),
    )


def _grid(courses: Sequence[Course]) -> Grid:
    return Grid(
        caption="Energy distance of generated to real points over the second half of training; less is better",
        columns=("points", "training", "mean", "swing", "deviation between networks", "spots hit in the end"),
        rows=tuple(
            (
                kind,
                one.name,
                mean_of(one.late_distance[place], 3),
                mean_of(one.unrest[place], 3),
                f"{one.late_distance[place].std():.3f}",
                f"{mean_of(one.spots[-1, place])} of {len(SPOTS)}" if kind == "four spots" else "",
            )
            for place, kind in enumerate(POINTS)
            for one in courses
        ),
    )


def _chart(kind: str, place: int, courses: Sequence[Course]) -> Chart:
    return Chart(
        kind="lines",
        caption=f"Energy distance of generated to real points while training, {kind}; the band spans the networks",
        x_label="steps of the generator",
        y_label="energy distance",
        series=tuple(
            Series(
                name=one.name,
                x=one.rounds,
                y=tuple(one.distance[:, place].mean(axis=1).tolist()),
                low=tuple(one.distance[:, place].min(axis=1).tolist()),
                high=tuple(one.distance[:, place].max(axis=1).tolist()),
            )
            for one in courses
        ),
    )
