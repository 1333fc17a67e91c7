"""What the experiment on language models sees of a training, and of the model that comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.canaries import Canary, Ledger
from canary_audit.membership.scores import log_likelihood_bits
from canary_audit.models.token_scores import token_scores
from canary_audit.statistics.gini import gini
from canary_audit.studies.experiment import Setting
from canary_audit.studies.language.courses import Course, course_of
from canary_audit.studies.language.embedding_search import critical_radii
from canary_audit.studies.language.places import Place, secret_places, spread, text_places
from canary_audit.studies.language.row_gradients import gradient_norms
from canary_audit.studies.language.runs import LanguageRun, Planted, language_run

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

RADII: Final = tuple(0.0005 * 1.6**step for step in range(12))
"""In units of the root mean square of the embedding table's entries."""
SEARCH_STEPS: Final = 8
ORDINARY_SHARE: Final = 0.1
"""The share of ordinary held-out tokens that the radius is chosen to flip."""
_ORDINARY_ROWS: Final = 24
_ORDINARY_TOKENS: Final = 192
"""Half of them choose the radius, the others are compared with secrets."""
_TOKENS_PER_LEVEL: Final = 24


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One training. Levels are numbers of insertions; level 0 are the canaries that were never inserted."""

    seed: int
    course: Course
    gaps: Mapping[int, tuple[float, ...]]
    """Level -> bits by which its canaries are likelier than never-inserted ones, mean of the level, by epoch."""
    gini: float
    """Of the gradient norms of ordinary training documents, each a mean over the epochs."""
    places: Mapping[int, float]
    """Level -> share of ordinary documents with a smaller gradient norm than its canaries have, mean of the level."""
    radii: Mapping[str, NDArray[np.float64]]
    """Kind of token -> least radius at which each token flips: `calibration`, `held out`, and a level's number."""

    def share_critical(self, kind: str, radius: float) -> float:
        """Share of the tokens of a kind that flip within the radius."""
        return float((self.radii[kind] <= radius).mean())


def watch(setting: Setting, seed: int) -> Watched:
    """Train with this seed, and look after every epoch and at the end."""
    context = setting.config.model.context_tokens
    run = language_run(setting, seed, look=partial(_look, context_tokens=context), track_exposure=True)
    ledger = run.planted.ledger
    norms = np.mean([look["norms"] for look in run.looks], axis=0)
    ordinary, planted = np.split(norms, [len(norms) - len(ledger.canaries)])
    return Watched(
        seed=seed,
        course=course_of(run.summary.training.epochs),
        gaps=_gaps(ledger, np.array([look["bits"] for look in run.looks])),
        gini=gini(ordinary),
        places={
            level: float(np.mean([(ordinary < planted[number]).mean() for number, _ in members]))
            for level, members in by_level(ledger).items()
        },
        radii=_radii(run),
    )


def by_level(ledger: Ledger) -> dict[int, list[tuple[int, Canary]]]:
    """Level -> (number in the ledger, canary), in ascending order; canaries that a coin decided are left out."""
    found: dict[int, list[tuple[int, Canary]]] = {}
    for number, canary in enumerate(ledger.canaries):
        if canary.role != "coin":
            found.setdefault(canary.insertions, []).append((number, canary))
    return dict(sorted(found.items()))


def _look(
    network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", planted: Planted, *, context_tokens: int
) -> Mapping[str, NDArray[Any]]:
    """`bits`: of every canary's text; `norms`: of some ordinary documents, then of every canary."""
    canaries = list(planted.canary_texts.values())
    own = set(canaries)
    ordinary = spread([text for text in planted.documents if text and text not in own], _ORDINARY_ROWS)
    scores = token_scores(network, tokenizer, canaries)
    return {
        "bits": np.array([-log_likelihood_bits(score) for score in scores]),
        "norms": gradient_norms(network, tokenizer, [*ordinary, *canaries], context_tokens),
    }


def _gaps(ledger: Ledger, bits: NDArray[np.float64]) -> dict[int, tuple[float, ...]]:
    """The gap of each level, from the bits of every canary's text, shape (n_epochs, n_canaries).

    Canaries are compared with never-inserted ones of their own group: these have the same prefix and suffix, whose
    bits cancel. Groups without such canaries are left out.
    """
    groups = np.array([canary.group for canary in ledger.canaries])
    is_control = np.array([canary.role == "control" for canary in ledger.canaries])
    found = {}
    for level, members in by_level(ledger).items():
        own = [
            bits[:, is_control & (groups == canary.group)].mean(axis=1) - bits[:, number]
            for number, canary in members
            if level and (is_control & (groups == canary.group)).any()
        ]
        if own:
            found[level] = tuple(np.mean(own, axis=0).tolist())
    return found


def _radii(run: LanguageRun) -> dict[str, NDArray[np.float64]]:
    """Least radii of secret tokens, and of ordinary held-out tokens that stand as far behind the start of their text.

    The search moves every token that was read, so the two can be compared only where equally many were.
    """
    loaded, planted = run.load(), run.planted
    tokenizer = loaded.tokenizer
    points: dict[str, list[Place]] = {}
    for level, members in by_level(planted.ledger).items():
        places = [
            place
            for _, canary in members
            for place in secret_places(tokenizer, planted.ledger.group(canary.group), planted.secrets[canary.id])
        ]
        points[str(level)] = spread(places, _TOKENS_PER_LEVEL)
    lengths = {len(place.context) for places in points.values() for place in places}
    ordinary = spread(text_places(tokenizer, planted.held_out, lengths), _ORDINARY_TOKENS)
    if len(ordinary) > 1:
        points |= {"calibration": ordinary[::2], "held out": ordinary[1::2]}
    return {
        kind: critical_radii(
            loaded.network, [place.context for place in places], RADII, steps=SEARCH_STEPS, seed=run.seed
        )
        for kind, places in points.items()
    }


def calibrated_radius(watched: Watched) -> float | None:
    """The radius at which the share of critical ordinary tokens is nearest to `ORDINARY_SHARE`; None without any."""
    if "calibration" not in watched.radii:
        return None
    return min(RADII, key=lambda radius: abs(watched.share_critical("calibration", radius) - ORDINARY_SHARE))
