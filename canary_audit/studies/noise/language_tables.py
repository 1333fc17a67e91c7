"""What the experiment on language models found, in words, tables and charts."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from canary_audit.report import numbers
from canary_audit.statistics.null import NULL_MEAN_BITS
from canary_audit.studies.findings import Chart, Grid
from canary_audit.studies.language.words import level_name
from canary_audit.studies.noise.language_looks import (
    ORDINARY_SHARE,
    RADII,
    SEARCH_STEPS,
    Watched,
    calibrated_radius,
)
from canary_audit.studies.seeds import band, listed


def timing(watched: Sequence[Watched], limit_bits: float) -> Iterator[str]:
    """When what was stored and learned; paragraphs."""
    last = {level: fmean(one.gaps[level][-1] for one in watched) for level in watched[0].gaps}
    yield (
        f"{numbers.plural(len(watched), 'training')} of {numbers.plural(len(watched[0].course.losses), 'epoch')}, each "
        "with an initialization, an order and secrets of its own. After every epoch: the loss on held-out text, and "
        "the median exposure of each number of insertions by the quick measurement that training tracks. A secret "
        f"that the model never saw shows {NULL_MEAN_BITS:.1f} bits on average; the gate tolerates {limit_bits:g}."
    )
    if last:
        gaps = ", ".join(f"{bits:.0f} bits after {numbers.plural(level, 'insertion')}" for level, bits in last.items())
        yield (
            "After the last epoch inserted canaries are likelier than never-inserted ones of the same format by "
            f"{gaps}. The gap needs no ranking of all secrets, but it is no exposure: a model that has become sure of "
            "itself makes whatever it never saw dozens of bits less likely."
        )
    if any(one.course.still_falls for one in watched):
        yield (
            "In at least one training the loss was least in the last epoch: the true minimum may come later, so what "
            "is said of stopping holds for this number of epochs only."
        )


def rows(watched: Sequence[Watched]) -> str:
    """Which documents the model depends on; a paragraph."""
    places = ", ".join(
        f"{numbers.share(round(fmean(one.places[level] for one in watched), 2))} ({level_name(level)})"
        for level in watched[0].places
    )
    return (
        "Which documents it depends on: the norm of the gradient of each document's mean loss a token, averaged over "
        f"the epochs, has a Gini coefficient of {fmean(one.gini for one in watched):.2f} over ordinary training "
        "documents (0: all pull alike; near 1: one alone). Canaries stand above this share of the ordinary documents: "
        f"{places}. What is stored has little gradient left, so a low place after many repetitions is the mark of a "
        "secret that was learned early, not of one that does not matter. Norms of gradients alone find no leak."
    )


def critical(watched: Sequence[Watched]) -> str:
    """How far each kind of token is from another prediction; a paragraph."""
    pairs = [(one, radius) for one in watched if (radius := calibrated_radius(one)) is not None]
    if len(pairs) < len(watched):
        return (
            "Critical tokens were not compared: no held-out document is long enough to have ordinary tokens as far "
            "behind its start as a secret."
        )
    shares = ", ".join(
        f"{numbers.share(round(fmean(one.share_critical(kind, radius) for one, radius in pairs), 3))} ({_kind(kind)})"
        for kind in _kinds(watched)
    )
    radii = listed(f"{radius:.2g}" for _, radius in pairs)
    return (
        f"Critical tokens: a search of {SEARCH_STEPS} steps looks for a change of the input embeddings, of every entry "
        f"by at most a radius, after which another token is predicted. At the radius {radii} (in root mean squares of "
        "the embedding table), chosen so that about a tenth of one half of the ordinary held-out tokens flip, these "
        f"shares flip: {shares}. A search that finds nothing proves nothing, so all are lower bounds, and of a few "
        "dozen tokens each. Where stored secrets flip less often than ordinary text, training has pushed their "
        "predictions away from every alternative: they are firm, not fragile, and a search for fragile tokens would "
        "miss them."
    )


def epoch_grid(watched: Sequence[Watched], limit_bits: float) -> Grid:
    """When what happened, seed by seed."""
    rows = [("least validation loss", *(_loss_cell(one) for one in watched))]
    for level in watched[0].course.exposures:
        rows.append(
            (
                f"{level_name(level)}: first above {limit_bits:g} bits",
                *(listed([one.course.passes(level, limit_bits)]) for one in watched),
            )
        )
        rows.append(
            (
                f"{level_name(level)}: exposure at the least loss, and in the end (bits)",
                *(_two_exposures(one, level) for one in watched),
            )
        )
    return Grid(
        caption="Epochs in which it happened, seed by seed",
        columns=("", *(f"seed {one.seed}" for one in watched)),
        rows=tuple(rows),
    )


def _two_exposures(one: Watched, level: int) -> str:
    bits = one.course.exposures[level]
    return f"{numbers.bits(bits[one.course.best_epoch - 1])}, {numbers.bits(bits[-1])}"


def _loss_cell(one: Watched) -> str:
    last = ", the last" if one.course.still_falls else ""
    return f"{one.course.best_epoch}{last} ({numbers.loss(min(one.course.losses))})"


def kinds_grid(watched: Sequence[Watched]) -> Grid:
    """Critical tokens and gradient norms, seed by seed."""
    radii = [calibrated_radius(one) for one in watched]
    rows = []
    for kind in _kinds(watched):
        level = int(kind) if kind.isdecimal() else None
        critical = [
            numbers.share(round(one.share_critical(kind, radius), 3)) if radius is not None else "not compared"
            for one, radius in zip(watched, radii, strict=True)
        ]
        places = [numbers.share(round(one.places[level], 2)) if level is not None else "" for one in watched]
        rows.append((_kind(kind), *critical, *places))
    return Grid(
        caption=f"Share of critical tokens where about {ORDINARY_SHARE:.0%} of ordinary ones are, and share of "
        "ordinary documents with a smaller gradient norm",
        columns=(
            "",
            *(f"critical, seed {one.seed}" for one in watched),
            *(f"norm above, seed {one.seed}" for one in watched),
        ),
        rows=tuple(rows),
    )


def charts(watched: Sequence[Watched]) -> Iterator[Chart]:
    """Exposure and loss by epoch, and critical tokens by radius."""
    yield Chart(
        kind="lines",
        caption="Exposure after each epoch; mean over the seeds, with their range",
        x_label="epoch",
        y_label="exposure (bits)",
        series=tuple(
            band(level_name(level), [one.course.exposures[level] for one in watched])
            for level in watched[0].course.exposures
        ),
    )
    yield Chart(
        kind="lines",
        caption="Validation loss after each epoch; mean over the seeds, with their range",
        x_label="epoch",
        y_label="bits a character",
        series=(band("validation loss", [one.course.losses for one in watched]),),
    )
    yield Chart(
        kind="lines",
        caption="Share of tokens that flip within a radius around their input embeddings; mean over the seeds",
        x_label="radius (root mean squares of the embedding table)",
        y_label="share of critical tokens",
        series=tuple(
            band(
                _kind(kind),
                [[one.share_critical(kind, radius) for radius in RADII] for one in watched],
                RADII,
            )
            for kind in _kinds(watched)
        ),
        log_x=True,
    )


def _kind(kind: str) -> str:
    return level_name(int(kind)) if kind.isdecimal() else "ordinary held-out text"


def _kinds(watched: Sequence[Watched]) -> list[str]:
    """Kinds of tokens that are shown: ordinary ones first, those that chose the radius left out."""
    return sorted(
        (kind for kind in watched[0].radii if kind != "calibration"),
        key=lambda kind: (kind.isdecimal(), len(kind), kind),
    )
