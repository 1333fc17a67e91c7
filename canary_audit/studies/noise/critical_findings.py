"""What the critical samples and the accuracy curves say: trends A3 and A4, in words, a table and charts."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.noise.curves import (
    FITTED,
    RANDOM_LABELS,
    REAL,
    WORLDS,
    Curves,
    Stopping,
    World,
    stopping,
)

_JUDGED = RANDOM_LABELS[:2]
"""Worlds of A4; with more noise there is hardly anything to lose."""


def section(data: str, curves: Curves) -> Section:
    """What the curves of this data set show."""
    found = {world: stopping(curves, world) for world in WORLDS}
    return Section(
        experiment="critical-samples",
        title="Critical samples, and when to stop",
        answer=_answer(found, curves.n_epochs),
        findings=_findings(data, curves, found),
        trends=(_a3(curves), _a4(found, curves.n_epochs)),
        grids=(_grid(curves, found),),
        charts=_charts(data, curves),
    )


def _a3(curves: Curves) -> Trend:
    """Critical points increase with noise, and while noise is learned."""
    real, *noisy = (_mean(curves.critical, world) for world in (REAL, *RANDOM_LABELS))
    ends = [real[-1], *(ratios[-1] for ratios in noisy)]
    return Trend(
        id="A3",
        claim="more points are critical the more noise there is in the labels, and the longer it is trained on",
        paper="curves without numbers",
        ours=f"critical at the end: real data {real[-1]:.3f}, "
        + ", ".join(
            f"{world.name} {ratios[-1]:.3f} (epoch {curves.looks[0]}: {ratios[0]:.3f})"
            for world, ratios in zip(RANDOM_LABELS, noisy, strict=True)
        ),
        criterion="at the end the share rises strictly with the share of random labels, at 50% it is at least 3 "
        "times that "
        "of real data, and with noise it is at least 1.5 times its value at the first look",
        holds=bool(
            all(before < after for before, after in pairwise(ends))
            and noisy[1][-1] >= 3 * real[-1]
            and all(ratios[-1] >= 1.5 * ratios[0] for ratios in noisy)
        ),
    )


def _a4(found: dict[World, Stopping], n_epochs: int) -> Trend:
    """Real data are learned before the noise is fitted."""
    return Trend(
        id="A4",
        claim="held-out accuracy is best before the noise in the labels is fitted, and falls while it is",
        paper="curves without numbers",
        ours="; ".join(
            f"{world.name}: best {found[world].peak:.1%} in epoch {found[world].peak_epoch}, then "
            f"{found[world].last:.1%}; the noise {_when_fitted(found[world], n_epochs)}"
            for world in _JUDGED
        ),
        criterion=f"with 20% and with 50% random labels the best epoch comes before the one with {FITTED:.0%} training "
        "accuracy (one after the last if there is none), and at least 5 points are lost from it to the last",
        holds=all(found[world].peaks_before_fitting(n_epochs) and found[world].drop >= 0.05 for world in _JUDGED),
    )


def _answer(found: dict[World, Stopping], n_epochs: int) -> str:
    parts = [
        f"with {world.name} in epoch {found[world].peak_epoch} (the noise {_when_fitted(found[world], n_epochs)})"
        for world in _JUDGED
    ]
    return (
        f"Training should stop where held-out accuracy is best: {' and '.join(parts)}. What is learned after that is "
        "mostly noise."
        if all(found[world].drop > 0 for world in _JUDGED)
        else f"Held-out accuracy was best {' and '.join(parts)}; training on cost little of it here."
    )


def _when_fitted(found: Stopping, n_epochs: int) -> str:
    if found.fitted_epoch is None:
        return f"was not fitted in {n_epochs} epochs, training accuracy {found.train_at_end:.1%}"
    return f"was fitted in epoch {found.fitted_epoch}"


def _findings(data: str, curves: Curves, found: dict[World, Stopping]) -> tuple[str, ...]:
    inputs = _mean(curves.critical, WORLDS[-1])[-1]
    real = _mean(curves.critical, REAL)
    return (
        f"On {data}, networks with two hidden layers of 128 learned for {curves.n_epochs} epochs: real data, data "
        "with a "
        "share of random labels, and data of which half the inputs are Gaussian noise. A held-out point is critical if "
        "another point, no coordinate of which differs by more than a radius, is given another class; the true class "
        "plays no part.",
        f"The radius is {curves.radius:.4f}, {curves.radius / curves.deviation:.3f} of the deviation of the inputs: "
        "two "
        f"further networks, trained on real data and used for nothing else, have {curves.calibrated:.1%} of the "
        "held-out "
        "points critical at it. A search takes 10 to 100 steps, and ends when a step finds fewer than 0.2% of the "
        "points. It can miss "
        "neighbours, so every share is a lower bound.",
        f"On real data the share went from {real[0]:.3f} in epoch {curves.looks[0]} to {real[-1]:.3f} at the end; with "
        f"random inputs it ended at {inputs:.3f}, though half of these labels have nothing to do with their inputs. "
        "Held-out "
        "points are real in every world.",
        f"Accuracy on held-out points fell from its best to the last epoch by {found[REAL].drop:.1%} on real data: so "
        "much comes from picking the best epoch on the points it is measured on. "
        + " ".join(
            f"With {world.name} it fell by {found[world].drop:.1%}, and training accuracy was "
            f"{found[world].train_at_peak:.1%} in the best epoch."
            for world in _JUDGED
        ),
        "Small networks on small data; the epoch numbers belong to this optimizer and learning rate. What carries "
        "over is "
        "the order: first the real regularities, then the noise.",
    )


def _grid(curves: Curves, found: dict[World, Stopping]) -> Grid:
    return Grid(
        caption="Critical share of held-out points by epoch, and accuracy; averages over the seeds.",
        columns=(
            "Trained on",
            *(f"Critical, epoch {epoch}" for epoch in curves.looks),
            "Best epoch",
            "Held-out accuracy, best",
            "Held-out accuracy, last",
            f"Epoch with {FITTED:.0%} training accuracy",
        ),
        rows=tuple(
            (
                world.name,
                *(f"{ratio:.3f}" for ratio in _mean(curves.critical, world)),
                str(found[world].peak_epoch),
                f"{found[world].peak:.1%}",
                f"{found[world].last:.1%}",
                str(found[world].fitted_epoch or "not reached"),
            )
            for world in WORLDS
        ),
    )


def _charts(data: str, curves: Curves) -> tuple[Chart, ...]:
    epochs = range(1, curves.n_epochs + 1)
    return (
        _lines(f"Critical share of held-out points, {data}", "critical share", curves.looks, curves.critical),
        _lines(f"Accuracy on held-out points with true labels, {data}", "held-out accuracy", epochs, curves.held_out),
        _lines(f"Accuracy on the labels trained on, {data}", "training accuracy", epochs, curves.train),
    )


def _lines(caption: str, y_label: str, epochs: Iterable[int], values: NDArray[np.float64]) -> Chart:
    """One line for each world; values of (n_worlds, n_seeds, n_epochs)."""
    return Chart(
        kind="lines",
        caption=caption,
        x_label="epoch",
        y_label=y_label,
        series=tuple(
            Series(
                name=world.name,
                x=tuple(map(float, epochs)),
                y=tuple(rows.mean(axis=0).tolist()),
                low=tuple(rows.min(axis=0).tolist()),
                high=tuple(rows.max(axis=0).tolist()),
            )
            for world, rows in zip(WORLDS, values, strict=True)
        ),
    )


def _mean(values: NDArray[np.float64], world: World) -> NDArray[np.float64]:
    """Average over the seeds, shape (n_epochs,)."""
    return np.asarray(values[WORLDS.index(world)].mean(axis=0), dtype=np.float64)
