"""What is seen of each training: which tokens of its documents and canaries it predicts after every epoch."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.errors import DataError
from canary_audit.report.known import exposure_bits
from canary_audit.results import NotAvailable
from canary_audit.studies.experiment import Setting
from canary_audit.studies.language.correctness import correct_tokens
from canary_audit.studies.language.courses import Course, course_of
from canary_audit.studies.language.places import secret_places, spread
from canary_audit.studies.language.runs import LanguageRun, Planted, language_run
from canary_audit.studies.learning_order.early_rows import Row, zlib_bits_per_char

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_MOST_DOCUMENTS: Final = 2_000
_MOST_HELD_OUT: Final = 500
_FEWEST_DOCUMENTS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Followed:
    """One training. Accessibility (Hacohen et al. 2020) is the share of epochs in which something was predicted."""

    seed: int
    course: Course
    text: NDArray[np.float64]
    """Accessibility of every token of the distinct ordinary documents, the same for all seeds: shape (n_tokens,)."""
    held_out: NDArray[np.float64]
    """The same of held-out documents."""
    rows: tuple[Row, ...]
    """Distinct training documents, ordinary ones first, with their accessibility in this training."""
    secrets: Mapping[int, tuple[float, ...]]
    """Insertions -> accessibility of each canary's secret tokens; 0 insertions are the controls."""
    exposures: Mapping[int, tuple[float, ...]]
    """Insertions -> exposure of each canary under the final model, in bits."""


def follow(setting: Setting, seed: int) -> Followed:
    """Train with this seed, and look after every epoch.

    Raises:
        DataError: there are too few training documents.
    """
    context = setting.config.model.context_tokens
    look = partial(_look, context_tokens=context)
    run = language_run(setting, seed, look=look, measure=True, track_exposure=True)
    mean = {name: np.mean([one[name] for one in run.looks], axis=0) for name in run.looks[0]}
    return Followed(
        seed=seed,
        course=course_of(run.summary.training.epochs),
        text=mean["text"],
        held_out=mean["held_out"],
        rows=_rows(run.planted, mean),
        secrets=_by_level(run, mean["secrets"].tolist()),
        exposures=_by_level(run, _exposures(run)),
    )


def _look(
    network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", planted: Planted, *, context_tokens: int
) -> Mapping[str, NDArray[Any]]:
    """Tokens predicted of ordinary and of held-out documents, and shares of these for documents and canaries."""
    texts = [planted.documents[place] for place in _ordinary(planted)]
    held_out = spread([text for text in planted.held_out if text], _MOST_HELD_OUT)
    ordinary = correct_tokens(network, tokenizer, texts, context_tokens)
    others = correct_tokens(network, tokenizer, held_out, context_tokens)
    canaries = correct_tokens(network, tokenizer, list(planted.canary_texts.values()), context_tokens)
    secrets = []
    for canary, correct in zip(planted.ledger.canaries, canaries, strict=True):
        places = secret_places(tokenizer, planted.ledger.group(canary.group), planted.secrets[canary.id])
        secrets.append(np.mean([correct[len(place.context) - 1] for place in places]))
    return {
        "text": np.concatenate(ordinary),
        "held_out": np.concatenate(others),
        "documents": np.array([correct.mean() for correct in ordinary]),
        "canaries": np.array([correct.mean() for correct in canaries]),
        "secrets": np.array(secrets),
    }


def _ordinary(planted: Planted) -> list[int]:
    """First places of the distinct documents that are no canaries: the same for all seeds, as only secrets differ."""
    own = set(planted.canary_texts.values())
    first: dict[str, int] = {}
    for place, text in enumerate(planted.documents):
        if text and text not in own:
            first.setdefault(text, place)
    if len(first) < _FEWEST_DOCUMENTS:
        raise DataError(
            f"[data] source: {len(first)} distinct training documents are too few to tell early from late; give it more"
        )
    return spread(list(first.values()), _MOST_DOCUMENTS)


def _rows(planted: Planted, mean: Mapping[str, NDArray[np.float64]]) -> tuple[Row, ...]:
    counts = Counter(planted.documents)
    found = [
        _row(planted.documents[place], place, "", counts, float(share))
        for place, share in zip(_ordinary(planted), mean["documents"], strict=True)
    ]
    for (id, text), share in zip(planted.canary_texts.items(), mean["canaries"], strict=True):
        if counts[text]:
            found.append(_row(text, planted.documents.index(text), id, counts, float(share)))
    return tuple(found)


def _row(text: str, place: int, canary: str, counts: Counter[str], accessibility: float) -> Row:
    return Row(
        number=place + 1,
        canary=canary,
        occurrences=counts[text],
        n_chars=len(text),
        hardness=zlib_bits_per_char(text),
        accessibility=accessibility,
    )


def _exposures(run: LanguageRun) -> list[float]:
    """Of every canary of the ledger in its order; coins have none."""
    measured = {canary.id: exposure_bits(canary) for canary in run.measured.canaries} if run.measured else {}
    bits = [measured.get(canary.id, 0.0) for canary in run.planted.ledger.canaries]
    return [0.0 if isinstance(value, NotAvailable) else value for value in bits]


def _by_level(run: LanguageRun, values: list[float]) -> dict[int, tuple[float, ...]]:
    """Values of canaries, in the order of the ledger, by insertions; canaries that a coin decided are left out."""
    found: dict[int, list[float]] = {}
    for canary, value in zip(run.planted.ledger.canaries, values, strict=True):
        if canary.role != "coin":
            found.setdefault(canary.insertions, []).append(value)
    return {level: tuple(own) for level, own in sorted(found.items())}
