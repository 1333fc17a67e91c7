"""Do the answers of an endpoint agree with each other, and with what it writes?

Three checks that need no knowledge of the model: next tokens against the same tokens scored in a whole text, the
likeliest token against the greedy one (another tokenizer, or another model, would differ), and the claimed
probabilities against how often the endpoint writes what (log-probabilities that were scaled would differ).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from canary_audit.endpoints.control import Control
from canary_audit.endpoints.dialect import Dialect, Window
from canary_audit.endpoints.failures import ContradictionError, UnreachableError
from canary_audit.endpoints.served import Asker
from canary_audit.errors import EndpointError
from canary_audit.models.interface import FloatArray
from canary_audit.results import ProbeFinding
from canary_audit.vocabulary import Vocabulary

AGREEMENT_NATS = 0.5
"""Two ways of asking differ by less in half precision; a shifted, scaled or invented answer by more."""

_ROUNDING_NATS = 0.02
_LEAST_PAIRS, _LEAST_SLOPE, _EXPLAINED = 6, 0.1, 0.9
_NEAR_TIE_NATS = 0.05
_N_SAMPLES = 384
_SAMPLES_OF_A_REQUEST = 32
_DISAGREES_P = 1e-6
_LEAST_EXPECTED = 5.0


@dataclass
class Notes:
    """Findings as they are made."""

    found: list[ProbeFinding] = field(default_factory=list)

    def add(self, name: str, detail: str, *, holds: bool = True) -> None:
        """Write one down."""
        self.found.append(ProbeFinding(name=name, holds=holds, detail=detail))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the endpoint was looked at: after a part of the control text."""

    text: str
    window: Window


def top_windows(asker: Asker, dialect: Dialect, control: Control) -> dict[int, Window]:
    """Place in the control text -> the likeliest next tokens there."""
    places = range(control.start, len(control.tokens))
    requests = [dialect.window(control.tokens[:place], (), tier="top-k") for place in places]
    return dict(zip(places, asker.ask(requests), strict=True))


def compare_ways(asker: Asker, dialect: Dialect, control: Control, windows: Mapping[int, Window], notes: Notes) -> None:
    """Make sure that next tokens, and the same tokens scored in the whole text, have the same log-probabilities.

    Raises:
        ContradictionError: they do not agree.
    """
    if "prompt-logprobs" not in dialect.tiers:
        return
    try:
        (scores,) = asker.ask([dialect.score(control.tokens, control.start)])
    except EndpointError as error:
        if isinstance(error, UnreachableError):
            raise
        notes.add("two ways agree", "the endpoint does not score whole texts, so there is nothing to compare")
        return
    tops = {place: _likeliest(window) for place, window in windows.items()}
    known = [place for place in windows if control.tokens[place] in tops[place]]
    whole = np.array([scores[place - control.start] for place in known])
    following = np.array([tops[place][control.tokens[place]] for place in known])
    excess = [
        scores[place - control.start] - min(tops[place].values(), default=0.0)
        for place in windows
        if place not in known
    ]
    worst = float(np.max([*np.abs(whole - following), *excess], initial=0.0))
    if worst > AGREEMENT_NATS or _is_scaled(whole, following):
        raise ContradictionError(
            f"the endpoint contradicts itself: a token's log-probability differs by {worst:.2g} nats between a whole "
            "text and the next token of its beginning; is one of them scaled by a temperature?"
        )
    shown = f"{len(known)} of {len(windows)} tokens of the whole text are named as next tokens too"
    notes.add("two ways agree", f"{shown}: within {worst:.2g} nats" if known else "none are named twice to be compared")


def _likeliest(window: Window) -> dict[int, float]:
    """The likeliest tokens, likeliest first; no token outside is likelier than the last.

    The token that was drawn may stand beside them. It is left out, for it differs from one request to the next, and a
    request that is sent again after an interruption must lead to the same findings.
    """
    ordered = sorted(window.log_probs.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[: window.n_top])


def _is_scaled(whole: FloatArray, following: FloatArray) -> bool:
    """Whether the difference grows with the log-probability itself: rounding does not, a temperature does."""
    difference = following - whole
    if len(whole) < _LEAST_PAIRS or np.ptp(whole) < 1.0 or np.abs(difference).max() < _ROUNDING_NATS:
        return False
    fitted = stats.linregress(whole, difference)
    return bool(abs(fitted.slope) > _LEAST_SLOPE and fitted.rvalue**2 > _EXPLAINED)


def same_tokenizer(
    asker: Asker,
    dialect: Dialect,
    vocabulary: Vocabulary,
    control: Control,
    windows: Mapping[int, Window],
    notes: Notes,
) -> Place | None:
    """Make sure that the endpoint reads tokens as this tokenizer means them: the likeliest next token after the tokens
    of a text must be what the endpoint writes after the text itself.

    Returns the place where the next token is least certain, None if there is none to compare with.

    Raises:
        ContradictionError: it writes something else.
    """
    texts = dict(_text_places(vocabulary, control))
    places = [place for place in windows if place in texts]
    written = [
        texts_written[0]
        for texts_written in asker.ask(
            [dialect.write(texts[place], max_tokens=1, temperature=0.0, n=1, seed=0) for place in places]
        )
    ]
    for with_lead in (True, False) if control.lead else (True,):
        seen = windows if with_lead else _windows_without_lead(asker, dialect, control, places)
        verdicts = [_agrees(seen[place], vocabulary, text) for place, text in zip(places, written, strict=True)]
        known = [verdict for verdict in verdicts if verdict is not None]
        if known and all(known):
            notes.add("same tokenizer", f"in {len(known)} places it writes the likeliest token of the tokens sent")
            place = max(places, key=lambda place: _entropy(seen[place]))
            return Place(text=texts[place], window=seen[place])
    if not known:
        notes.add("same tokenizer", "nothing to compare: every likeliest token is a near tie or no text", holds=False)
        return None
    raise ContradictionError(
        f"the endpoint does not write the likeliest token it names, in {len(known) - sum(known)} of {len(known)} "
        "places: --tokenizer is not the served model's, or another model answers; give the one it was trained with"
    )


def require_true_frequencies(
    asker: Asker, dialect: Dialect, vocabulary: Vocabulary, place: Place | None, notes: Notes
) -> None:
    """Make sure that the endpoint writes tokens as often as it claims, drawing at temperature 1.

    Raises:
        ContradictionError: it does not (chi-square test, one false alarm in a million).
    """
    if place is None:
        return
    n_requests = _N_SAMPLES // _SAMPLES_OF_A_REQUEST
    requests = [
        dialect.write(place.text, max_tokens=1, temperature=1.0, n=_SAMPLES_OF_A_REQUEST, seed=seed)
        for seed in range(1, n_requests + 1)
    ]
    counts = Counter(text for texts in asker.ask(requests) for text in texts)
    claimed = _claimed(place.window, vocabulary)
    if _frequencies_p_value(counts, claimed) < _DISAGREES_P:
        raise ContradictionError(
            "the endpoint does not write tokens as often as it says they are likely: its log-probabilities, or its "
            "texts, are scaled by a temperature or cut by top-p, top-k or penalties; serve the model without such "
            "defaults"
        )
    # The p-value is left out: a resumed audit must find the same, and not every server draws by a seed.
    notes.add("true frequencies", f"{counts.total()} tokens drawn at temperature 1, as often as claimed")


def _text_places(vocabulary: Vocabulary, control: Control) -> Iterator[tuple[int, str]]:
    """Places where the tokens so far are those of the text so far, so that both can be sent."""
    spelled = b""
    for place, token in enumerate(control.text_tokens):
        text = spelled.decode(errors="ignore").removeprefix(" ")  # some tokenizers put a space before a text
        if text and tuple(vocabulary.encode(text.encode())) == control.text_tokens[:place]:
            yield len(control.lead) + place, text
        spelled += vocabulary.spelled(token)


def _windows_without_lead(asker: Asker, dialect: Dialect, control: Control, places: Sequence[int]) -> dict[int, Window]:
    """The same windows for an endpoint that puts nothing before a text."""
    n_lead = len(control.lead)
    requests = [dialect.window(control.tokens[n_lead:place], (), tier="top-k") for place in places]
    return dict(zip(places, asker.ask(requests), strict=True))


def _agrees(window: Window, vocabulary: Vocabulary, written: str) -> bool | None:
    """Whether the text begins like the likeliest token; None where that says nothing."""
    ordered = sorted(window.log_probs.items(), key=lambda item: -item[1])
    if len(ordered) > 1 and ordered[0][1] - ordered[1][1] < _NEAR_TIE_NATS:
        return None
    text = _text_of(vocabulary, ordered[0][0])
    return None if text is None else text.strip() == written.strip()


def _text_of(vocabulary: Vocabulary, token: int) -> str | None:
    """Text of a token; None if it is special, or a part of a character."""
    try:
        return vocabulary.spelled(token).decode() or None
    except UnicodeDecodeError:
        return None


def _entropy(window: Window) -> float:
    """Of what the window shows, in nats."""
    return -sum(value * math.exp(value) for value in _likeliest(window).values())


def _claimed(window: Window, vocabulary: Vocabulary) -> dict[str, float]:
    """Text -> probability, of the tokens whose text is known and not shared."""
    claimed: dict[str, float] = {}
    for token, value in _likeliest(window).items():
        text = _text_of(vocabulary, token)
        if text is not None and text.strip():
            claimed[text.strip()] = claimed.get(text.strip(), 0.0) + math.exp(value)
    return claimed


def _frequencies_p_value(counts: Counter[str], claimed: Mapping[str, float]) -> float:
    """Chi-square test of the counts; what is expected too rarely is one class together with all that is not claimed."""
    total = counts.total()
    stripped: Counter[str] = Counter()
    for text, count in counts.items():
        stripped[text.strip()] += count
    frequent = [text for text, share in claimed.items() if share * total >= _LEAST_EXPECTED]
    expected = [claimed[text] * total for text in frequent]
    observed = [stripped[text] for text in frequent]
    rest = max(total - sum(expected), 0.0)
    if not frequent:
        return 1.0
    statistic = sum((seen - due) ** 2 / due for seen, due in zip(observed, expected, strict=True))
    left = total - sum(observed)
    statistic += (left - rest) ** 2 / max(rest, _LEAST_EXPECTED)
    return float(stats.chi2.sf(statistic, len(frequent)))
