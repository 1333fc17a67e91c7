"""What regularizers did against stored noise: trend A5, in words, tables and charts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Errors from 0 to 1, each of shape (n_regularizers, n_shares, n_seeds)."""

    wrong_labels: NDArray[np.float64]
    """On training examples with a wrong label, against that label, at the end: 0 if every one is stored."""
    right_labels: NDArray[np.float64]
    """On the other training examples, at the end."""
    best: NDArray[np.float64]
    """On held-out points, in the best epoch."""
    last: NDArray[np.float64]
    """On held-out points, in the last epoch."""


def section(data: str, names: Sequence[str], shares: Sequence[float], outcome: Outcome) -> Section:
    """What came out; the first name is that without a regularizer, and "dropout 0.5" is among the others."""
    chosen = names.index("dropout 0.5")
    return Section(
        experiment="regularizers",
        title="Regularizers against stored noise",
        answer=_answer(outcome, shares, chosen),
        findings=_findings(data, names, shares, outcome),
        trends=(_a5(outcome, shares, chosen),),
        grids=tuple(_grid(names, share, outcome, place) for place, share in enumerate(shares)),
        charts=tuple(_chart(data, names, share, outcome, place) for place, share in enumerate(shares)),
    )


def _a5(outcome: Outcome, shares: Sequence[float], chosen: int) -> Trend:
    """Dropout caps what is stored at no cost."""
    stored, best, last = (_mean(error) for error in (outcome.wrong_labels, outcome.best, outcome.last))
    return Trend(
        id="A5",
        claim="dropout keeps wrong labels from being stored, at no cost to accuracy on held-out points",
        paper="curves without numbers",
        ours="; ".join(
            f"{share:.0%} wrong labels: training error on them {stored[0, place]:.1%} without, "
            f"{stored[chosen, place]:.1%} "
            f"with dropout 0.5; test error best {best[0, place]:.1%} and {best[chosen, place]:.1%}, "
            f"last {last[0, place]:.1%} and {last[chosen, place]:.1%}"
            for place, share in enumerate(shares)
        ),
        criterion="with dropout 0.5, at either share of wrong labels, the training error on them is at least 50% and "
        "the "
        "best test error no higher than without",
        holds=bool((stored[chosen] >= 0.5).all() and (best[chosen] <= best[0]).all()),
    )


def _answer(outcome: Outcome, shares: Sequence[float], chosen: int) -> str:
    stored = 1 - _mean(outcome.wrong_labels)
    parts = [
        f"with {share:.0%} wrong labels, {stored[0, place]:.0%} of them without and {stored[chosen, place]:.0%} with "
        "dropout"
        for place, share in enumerate(shares)
    ]
    return f"What networks had stored at the end: {'; '.join(parts)}."


def _findings(data: str, names: Sequence[str], shares: Sequence[float], outcome: Outcome) -> tuple[str, ...]:
    stored, best = _mean(outcome.wrong_labels), _mean(outcome.best)
    lines = []
    for place, share in enumerate(shares):
        most, lowest = int(stored[:, place].argmax()), int(best[:, place].argmin())
        lines.append(
            f"With {share:.0%} wrong labels the least was stored with {names[most]}: training error "
            f"{stored[most, place]:.1%} "
            f"on wrong labels. The lowest test error was that of {names[lowest]}: {best[lowest, place]:.1%} in its "
            "best "
            f"epoch, against {best[0, place]:.1%} without a regularizer."
        )
    return (
        f"On {data}, a share of the training labels was replaced by wrong ones, and networks with two hidden layers "
        "of 192 "
        "learned from all of them, each with another regularizer. A low training error on wrong labels means that they "
        "were stored; held-out points have their true labels.",
        *lines,
        "Noise on inputs, and the size of adversarial steps, are in deviations of the inputs. The adversarial weight "
        "is "
        "the part of the loss that one gradient-sign step away from each example counts for. Strengths are single "
        "values, not tuned, so the table ranks these settings and not the methods.",
        "Best test errors are picked on the points they are measured on, for every regularizer alike. A regularizer "
        "that "
        "slows storing also slows learning: longer training could store more.",
    )


def _grid(names: Sequence[str], share: float, outcome: Outcome, place: int) -> Grid:
    errors = (outcome.wrong_labels, outcome.right_labels, outcome.best, outcome.last)
    return Grid(
        caption=f"Error with {share:.0%} wrong labels; averages over the seeds.",
        columns=("Regularizer", "Train, wrong labels", "Train, right labels", "Test, best epoch", "Test, last epoch"),
        rows=tuple((name, *(f"{_mean(error)[row, place]:.1%}" for error in errors)) for row, name in enumerate(names)),
    )


def _chart(data: str, names: Sequence[str], share: float, outcome: Outcome, place: int) -> Chart:
    """In the form of the paper's figures: storing noise to the right, doing well upwards."""
    x, y = 1 - outcome.wrong_labels[:, place], 1 - outcome.best[:, place]
    return Chart(
        kind="dots",
        caption=f"Wrong labels stored at the end, and best held-out accuracy, with {share:.0%} wrong labels, {data}",
        x_label="training accuracy on wrong labels",
        y_label="best held-out accuracy",
        series=tuple(
            Series(name=name, x=(float(x[row].mean()),), y=(float(y[row].mean()),)) for row, name in enumerate(names)
        ),
    )


def _mean(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over the seeds."""
    return np.asarray(error.mean(axis=-1), dtype=np.float64)
