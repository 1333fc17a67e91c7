"""Membership inference: can scores tell the texts that were trained on from those that were not?

Two samples are asked. The canaries of the coins: random and planted once or not at all, so that the answer bounds
epsilon. And documents of the data against held-out ones: what the answer means for the user's own text. One primary
score is fixed in advance; of five, the best is chosen by chance too, so the others are for comparison.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from canary_audit.config import REFERENCE_SCORES
from canary_audit.errors import ConfigError, ModelError, ResultError
from canary_audit.membership.scores import (
    SCORES,
    calibrated_bits,
    error_zone_ratio,
    log_likelihood_bits,
    min_k_plus_plus,
    zlib_ratio,
)
from canary_audit.models.token_scores import TokenScores, token_scores
from canary_audit.results import MembershipResult
from canary_audit.statistics.roc import summary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    Network = tuple[PreTrainedModel, PreTrainedTokenizerFast]

_NO_REFERENCE = "there is no reference model"
_OTHER_TOKENS = "the reference model has another tokenizer, and this score compares token by token"
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class MembershipScores:
    """Scores of one set of texts, higher = more likely in."""

    by_name: Mapping[str, Mapping[str, float]]
    """Name of the score -> id of the text -> score."""
    left_out: Mapping[str, str]
    """Name of a score that could not be taken -> why."""


def measure_membership(
    network: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    texts: Mapping[str, str],
    *,
    reference: "Network | None" = None,
    per_token: bool = False,
) -> MembershipScores:
    """Every score of each text, by id, from one pass of the network and one of the reference.

    Args:
        reference: a network that has not seen the texts, and its tokenizer.
        per_token: divide `loss` and `reference` by the text's number of tokens. Right for documents of any length: as
            sums, length drowns what was learned (AUC 0.61 instead of 0.80 on prose). Wrong for secrets of one format,
            which hold the same information in however many tokens.

    Raises:
        ModelError: see `token_scores`; or a score is not finite.
    """
    values = list(texts.values())
    targets = token_scores(network, tokenizer, values)
    references = token_scores(*reference, values) if reference else [None] * len(values)
    left_out = _left_out(tokenizer, reference)
    scored = {
        id: _scores_of(text, target, other, left_out, per_token=per_token)
        for (id, text), target, other in zip(texts.items(), targets, references, strict=True)
    }
    return MembershipScores(
        by_name={name: {id: own[name] for id, own in scored.items()} for name in SCORES if name not in left_out},
        left_out=left_out,
    )


def membership_results(
    scores: MembershipScores,
    inserted: Mapping[str, bool],
    *,
    sample: Literal["canaries", "rows"],
    primary: str,
) -> tuple[MembershipResult, ...]:
    """What each score tells of who was in; nothing where all are on one side.

    Args:
        inserted: id -> whether it was trained on, for exactly the texts that were scored.
        primary: the score fixed in advance.

    Raises:
        ConfigError: the primary score was left out.
        ResultError: an id has no score, or a score no id, or a score is not finite.
    """
    require_primary(scores, primary)
    if len(set(inserted.values())) < 2:
        return ()
    results = []
    for name, by_id in scores.by_name.items():
        if by_id.keys() != inserted.keys():
            odd = sorted(by_id.keys() ^ inserted.keys())
            raise ResultError(f"membership score {name}: {len(odd)} ids lack score or text: {_listed(odd)}")
        sides = [[by_id[id] for id in inserted if inserted[id] is side] for side in (True, False)]
        results.append(summary(*sides, sample=sample, score=name, primary=name == primary))
    return tuple(results)


def require_primary(scores: MembershipScores, primary: str) -> None:
    """Make sure that the score fixed in advance was taken.

    Raises:
        ConfigError: it was not; says why.
    """
    if primary not in scores.by_name:
        raise ConfigError(
            f"[audit] membership_score: '{primary}' cannot be taken: {scores.left_out.get(primary, 'no such score')}"
        )


def _left_out(tokenizer: "PreTrainedTokenizerFast", reference: "Network | None") -> dict[str, str]:
    if reference is None:
        return dict.fromkeys(REFERENCE_SCORES, _NO_REFERENCE)
    return {} if reference[1].get_vocab() == tokenizer.get_vocab() else {"ez-mia": _OTHER_TOKENS}


def _scores_of(
    text: str, target: TokenScores, other: TokenScores | None, left_out: Mapping[str, str], *, per_token: bool
) -> dict[str, float]:
    share = 1 / len(target.tokens) if per_token else 1.0
    scores = {
        "loss": log_likelihood_bits(target) * share,
        "zlib": zlib_ratio(text, target),
        "min-k++": min_k_plus_plus(target),
    }
    if other is not None:
        scores["reference"] = calibrated_bits(target, other) * share
        if "ez-mia" not in left_out:
            scores["ez-mia"] = error_zone_ratio(target, other)
    for name, score in scores.items():
        if not math.isfinite(score):
            raise ModelError(f"membership score {name} of a text is not finite: the model's numbers overflow")
    return scores


def _listed(ids: list[str]) -> str:
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return ", ".join(ids[:_MOST_NAMED]) + more
