"""The section on adversarial examples: one trend, test errors by attack and strength."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.seeds import mean_of, percents

EPSILONS: Final = (0.02, 0.05, 0.1, 0.15, 0.2)
"""Strengths: most that a feature moves, of a range of 1 for pixels or a deviation of 1 for other features."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of attack."""

    name: str
    is_iterative: bool
    is_black_box: bool


_WHITE: Final = Kind(name="one step, own gradients", is_iterative=False, is_black_box=False)
_WHITE_MANY: Final = Kind(name="ten steps, own gradients", is_iterative=True, is_black_box=False)
_BLACK: Final = Kind(name="one step, another network's gradients", is_iterative=False, is_black_box=True)
_BLACK_MANY: Final = Kind(name="ten steps, another network's gradients", is_iterative=True, is_black_box=True)
ATTACKS: Final = (_WHITE, _WHITE_MANY, _BLACK, _BLACK_MANY)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Test errors in percent of the networks of one way of training."""

    clean: NDArray[np.float64]
    """Shape (n_seeds,)."""
    under: Mapping[Kind, NDArray[np.float64]]
    """Shape (n_epsilons, n_seeds) each."""


def section(data: Dataset, seeds: Sequence[int], errors: Mapping[str, Errors], epochs: int) -> Section:
    """All of it, from the errors of `plain training` and `mixup`. M5 is of the table in `docs/papers.md`."""
    plain, mixup = errors["plain training"], errors["mixup"]
    place = int(np.abs(plain.under[_WHITE].mean(axis=1) - 50).argmin())
    trend = _m5(plain, mixup, place)
    return Section(
        experiment="adversarial",
        title="Adversarial examples",
        findings=(
            f"Networks with two layers of 128 units, {len(seeds)} of each kind, learned {len(data.train_y)} examples "
            f"of {data.name} for {epochs} epochs, plainly or with mixup (alpha 1). Test examples were then moved "
            "against them, by one step along the sign of the gradient (FGSM) or by ten within the same box "
            "(iterative FGSM). Gradients were the attacked network's own, or those of another plainly trained "
            "network, of the same seed number for both kinds, so that "
            "both face the same examples; that it was trained plainly favours mixup.",
            f"Test errors without an attack: {percents(plain.clean)} plain, {percents(mixup.clean)} with mixup. At "
            f"epsilon {EPSILONS[place]:g}, where plain training errs about half the time: {trend.ours}. After "
            f"ten steps with their own gradients: {mean_of(plain.under[_WHITE_MANY][place])} % plain, "
            f"{mean_of(mixup.under[_WHITE_MANY][place])} % mixup.",
            "What it does not show: a defence. One step is a weak attack, mixup's gain under it can come from "
            "gradients that point elsewhere rather than from wider margins, and no attack made for mixup was tried.",
        ),
        trends=(trend,),
        grids=tuple(_grid(kind, errors) for kind in ATTACKS),
        charts=(_chart(errors),),
    )


def _m5(plain: Errors, mixup: Errors, place: int) -> Trend:
    kinds = (_WHITE, _BLACK)
    return Trend(
        id="M5",
        claim="mixup lowers the error under one-step attacks",
        paper="ImageNet: lower top-1 error under FGSM, with own gradients and with another network's; not checked",
        ours="; ".join(
            f"{kind.name}: plain {percents(plain.under[kind][place])}, mixup {percents(mixup.under[kind][place])}"
            for kind in kinds
        ),
        criterion=(
            "One step, at the epsilon at which plain training's own gradients bring its error nearest to 50 %: mixup < "
            "plain, with own and with another network's gradients"
        ),
        holds=all(mixup.under[kind][place].mean() < plain.under[kind][place].mean() for kind in kinds),
    )


def _grid(kind: Kind, errors: Mapping[str, Errors]) -> Grid:
    return Grid(
        caption=f"Test error in percent, {kind.name}; means over seeds",
        columns=("training", "no attack", *(f"epsilon {epsilon:g}" for epsilon in EPSILONS)),
        rows=tuple(
            (name, mean_of(found.clean), *(mean_of(values) for values in found.under[kind]))
            for name, found in errors.items()
        ),
    )


def _chart(errors: Mapping[str, Errors]) -> Chart:
    return Chart(
        kind="lines",
        caption="Test error under one-step attacks, by how far a feature may move",
        x_label="epsilon",
        y_label="test error, %",
        series=tuple(
            Series(
                name=f"{name}, {kind.name}",
                x=(0.0, *EPSILONS),
                y=tuple(row.mean() for row in rows),
                low=tuple(row.min() for row in rows),
                high=tuple(row.max() for row in rows),
            )
            for name, found in errors.items()
            for kind in (_WHITE, _BLACK)
            for rows in ((found.clean, *found.under[kind]),)
        ),
    )
