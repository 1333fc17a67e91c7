"""Does an endpoint answer what its tier promises? Tried on a text whose tokens are known, before anything is measured.

Servers accept parameters they ignore, echo what they did not score, and scale log-probabilities by a temperature nobody
asked for. So each promise is also checked against another way of asking (`consistency.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from canary_audit.endpoints.consistency import (
    AGREEMENT_NATS,
    Notes,
    compare_ways,
    require_true_frequencies,
    same_tokenizer,
    top_windows,
)
from canary_audit.endpoints.control import CONTROL_TEXT, Control
from canary_audit.endpoints.dialect import Dialect, Request
from canary_audit.endpoints.failures import ContradictionError, UnreachableError
from canary_audit.endpoints.offers import Offer
from canary_audit.endpoints.served import Asker, ServedModel, T
from canary_audit.errors import EndpointError
from canary_audit.models.interface import Children
from canary_audit.results import ProbeFinding, Tier
from canary_audit.vocabulary import Vocabulary

_REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What an endpoint was shown to give."""

    offer: Offer
    findings: tuple[ProbeFinding, ...]
    noise_floor_nats: float
    """Spread of the control text, scored three times."""
    control_nll_nats: float | None
    """Of the first time; None from a model that only writes text."""
    last_look: tuple[Request[Any], ...] = ()
    """What `confirm` will ask once more, so that a budget can set it aside."""

    @property
    def tier(self) -> Tier:
        """The tier that was shown."""
        return self.offer.tier

    @property
    def dialect(self) -> Dialect:
        """The way to ask for it."""
        return self.offer.dialect


def prove(asker: Asker, offers: Sequence[Offer], vocabulary: Vocabulary | None, *, lead: Sequence[int] = ()) -> Proof:
    """Show that the endpoint gives what the first of the offers promises, or the first after it that holds.

    Args:
        offers: one or more, see `offers_of`.
        vocabulary: of the model's tokenizer; None if only text is asked for.
        lead: tokens before a document.

    Raises:
        EndpointError: no tier can be shown, or the endpoint cannot be reached.
        BudgetSpentError: the budget does not cover the probe.
    """
    notes = Notes()
    _identify(asker, offers[0].dialect, notes)
    for offer in offers:
        try:
            if offer.tier == "text-only" or vocabulary is None:
                _prove_writing(asker, offer.dialect, notes)
                return Proof(offer=offer, findings=tuple(notes.found), noise_floor_nats=0.0, control_nll_nats=None)
            return _prove_numbers(asker, offer, vocabulary, Control.of(vocabulary, lead), notes)
        except EndpointError as error:
            if offer is offers[-1] or isinstance(error, UnreachableError | ContradictionError):
                raise
            notes.add(offer.tier, str(error), holds=False)
    raise ValueError("nothing is offered")


def confirm(asker: Asker, proof: Proof, vocabulary: Vocabulary | None, lead: Sequence[int]) -> None:
    """Score the control text once more, after everything else: is the same model still serving?

    Raises:
        EndpointError: it scores differently by more than noise, or contradicts itself.
    """
    if vocabulary is None or proof.control_nll_nats is None:
        return
    control, again = Control.of(vocabulary, lead), _Repeated(asker, _REPEATS)
    now = _control_nll(again, proof.dialect, control, proof.tier)
    moved = abs(now - proof.control_nll_nats)
    if moved > AGREEMENT_NATS + 3.0 * proof.noise_floor_nats:
        raise EndpointError(
            f"the control text scores {moved:.2g} nats differently than before the audit: another model answers now, "
            "or the endpoint is not deterministic; audit a fixed version"
        )
    if proof.tier == "prompt-logprobs":  # next tokens were asked for as well
        compare_ways(again, proof.dialect, control, top_windows(again, proof.dialect, control), Notes())


def _identify(asker: Asker, dialect: Dialect, notes: Notes) -> None:
    for request in dialect.identity():
        try:
            (name,) = asker.ask([request])
        except EndpointError as error:
            if isinstance(error, UnreachableError):
                raise
            notes.add("identity", f"{request.path}: not answered", holds=False)
        else:
            notes.add("identity", f"{request.path}: {name}")


def _prove_numbers(asker: Asker, offer: Offer, vocabulary: Vocabulary, control: Control, notes: Notes) -> Proof:
    tier, dialect = offer.tier, offer.dialect
    looks = [_Repeated(asker, repeat) for repeat in range(_REPEATS)]
    found = [_control_nll(look, dialect, control, tier) for look in looks]
    noise = max(found) - min(found)
    notes.add(tier, f"{len(control.tokens) - control.start} tokens of a known text scored: {found[0]:.3f} nats")
    notes.add("determinism", f"scored {_REPEATS} times, it moves by {noise:.2g} nats")
    looks_on = _Repeated(asker, 0)
    windows = top_windows(looks_on, dialect, control)
    compare_ways(looks_on, dialect, control, windows, notes)
    place = same_tokenizer(asker, dialect, vocabulary, control, windows, notes)
    require_true_frequencies(asker, dialect, vocabulary, place, notes)
    return Proof(
        offer=offer,
        findings=tuple(notes.found),
        noise_floor_nats=noise,
        control_nll_nats=found[0],
        last_look=(*looks[0].asked, *(looks_on.asked if tier == "prompt-logprobs" else ())),
    )


def _prove_writing(asker: Asker, dialect: Dialect, notes: Notes) -> None:
    """A model that only writes must write something, and is asked three times for the same greedy text."""
    written = [
        asker.ask([dialect.write(CONTROL_TEXT, max_tokens=16, temperature=0.0, n=1, seed=0)], repeat=repeat)[0][0]
        for repeat in range(_REPEATS)
    ]
    if not any(written):
        raise EndpointError("the endpoint writes nothing after a text; is --model the name it serves under?")
    notes.add("text-only", f"goes on from a known text, with {max(map(len, written))} characters")
    same = len(set(written)) == 1
    notes.add(
        "determinism",
        "the greedy text repeats" if same else "the greedy text changes from one request to the next",
        holds=same,
    )


def _control_nll(asker: Asker, dialect: Dialect, control: Control, tier: Tier) -> float:
    """Negative log-likelihood in nats, the way the audit will ask: of the scored tokens, or, through a window that need
    not show them, of the likeliest token in each of their places."""
    if tier == "prompt-logprobs":
        (scores,) = asker.ask([dialect.score(control.tokens, control.start)])
        return -float(scores.sum())
    places = range(control.start, len(control.tokens))
    if tier == "top-k":
        windows = asker.ask([dialect.window(control.tokens[:place], (), tier=tier) for place in places])
        return -sum(max(window.log_probs.values()) for window in windows)
    model = ServedModel(asker, dialect, tier=tier)
    wanted = np.array(sorted(set(control.tokens[control.start :])))
    children = Children(rows=np.zeros(len(wanted), dtype=np.int64), tokens=wanted)
    total = 0.0
    for place in places:
        _, log_probs = model.root(control.tokens[:place], children)
        total -= float(log_probs[np.searchsorted(wanted, control.tokens[place])])
    return total


class _Repeated:
    """Asks anew what was asked before, and keeps what it asked."""

    def __init__(self, asker: Asker, repeat: int) -> None:
        self._asker, self._repeat = asker, repeat
        self.asked: list[Request[Any]] = []

    def ask(self, requests: Sequence[Request[T]], *, repeat: int = 0) -> list[T]:
        """See `Asker.ask`."""
        self.asked += requests
        return self._asker.ask(requests, repeat=self._repeat + repeat)
