"""Membership inference on one audit: its coins, rows of its data, and the reference model that calibrates scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from canary_audit.audit import Measurements
from canary_audit.canaries import Ledger, canary_text
from canary_audit.config import REFERENCE_SCORES, AuditConfig
from canary_audit.data.members import Members
from canary_audit.epsilon import join_scores
from canary_audit.errors import ConfigError
from canary_audit.membership.measure import MembershipScores, measure_membership, membership_results, require_primary
from canary_audit.models.load import LoadedModel, load_model
from canary_audit.models.resolve import ModelFiles, resolve_files
from canary_audit.models.scoring import context_tokens
from canary_audit.models.token_scores import text_tokens
from canary_audit.results import CoinCanary, MembershipResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Documents to compare, each as far as one training row holds it."""

    members: Members
    context_tokens: int
    """Most tokens of a row."""


def asks_membership(ledger: Ledger, settings: AuditConfig) -> bool:
    """Whether there is anything whose membership could be scored."""
    return settings.membership_rows > 0 or any(canary.role == "coin" for canary in ledger.canaries)


def add_membership(
    measured: Measurements,
    target: LoadedModel,
    ledger: Ledger,
    secrets: Mapping[str, bytes],
    *,
    settings: AuditConfig,
    reference: ModelFiles | None,
    rows: Rows | None,
    device: str,
) -> Measurements:
    """Score coins and rows; the coins then carry the primary score, instead of the likelihood of their secrets alone.

    The likelihood of a whole planted row, end token included, tells the coins' sides apart at least as well as that of
    the secret (AUC 0.928 against 0.917, one copy each of nine digits), and is what the other scores start from. An
    encoder-decoder has no likelihood of a whole row: its coins stay as they are.

    Args:
        reference: see `reference_files`.

    Raises:
        ConfigError: the primary score cannot be taken.
        ModelError: the reference cannot be loaded, a text is longer than a model reads, or numbers are impossible.
    """
    if not asks_membership(ledger, settings):
        return measured
    primary = settings.membership_score
    if target.network.config.is_encoder_decoder:
        if primary != "loss":
            raise ConfigError(f"[audit] membership_score: an encoder-decoder has no '{primary}'; choose 'loss'")
        return measured
    scorer = _Scorer(target=target, reference=_loaded(reference, settings, device), primary=primary)
    coins, results = scorer.coins(ledger, secrets)
    if rows is not None:
        results += scorer.rows(rows)
    return measured.model_copy(update={"coins": coins, "membership": results})


def reference_files(settings: AuditConfig, start: str = "", revision: str | None = None) -> ModelFiles | None:
    """The reference model: the configured one, else the pretrained one that training started from, else none.

    Args:
        start: path or name of the latter; empty for a model trained from scratch.

    Raises:
        ConfigError: there is none, and the primary score needs one.
        ModelError: see `resolve_files`.
    """
    if settings.reference_model:
        return resolve_files(settings.reference_model)
    if start:
        return resolve_files(start, revision=revision)
    if settings.membership_score in REFERENCE_SCORES:
        raise ConfigError(
            f"[audit] membership_score: '{settings.membership_score}' needs a model that has not seen the canaries; "
            "name one as [audit] reference_model, or choose another score"
        )
    return None


def shortened(text: str, tokenizer: "PreTrainedTokenizerFast", most_tokens: int) -> str:
    """The text, or its longest beginning before a token that has at most `most_tokens`."""
    while len(text_tokens(tokenizer, [text])[0]) > most_tokens:
        encoded = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        text = text[: encoded["offset_mapping"][most_tokens][0]]
    return text


def _loaded(files: ModelFiles | None, settings: AuditConfig, device: str) -> LoadedModel | None:
    """The reference, in the precision of the audited model, so that both round alike."""
    if files is None:
        return None
    return load_model(files.folder, adapter=files.adapter, device=device, dtype=settings.dtype, batch_rows=1)


@dataclass(frozen=True, kw_only=True)
class _Scorer:
    target: LoadedModel
    reference: LoadedModel | None
    primary: str

    def coins(
        self, ledger: Ledger, secrets: Mapping[str, bytes]
    ) -> tuple[tuple[CoinCanary, ...], tuple[MembershipResult, ...]]:
        coins = [canary for canary in ledger.canaries if canary.role == "coin"]
        if not coins:
            return (), ()
        texts = {coin.id: canary_text(ledger.group(coin.group), secrets[coin.id]) for coin in coins}
        scores = self._measure(texts, per_token=False)
        require_primary(scores, self.primary)
        inserted = {coin.id: coin.insertions > 0 for coin in coins}
        results = membership_results(scores, inserted, sample="canaries", primary=self.primary)
        return join_scores(coins, scores.by_name[self.primary].items()), results

    def rows(self, rows: Rows) -> tuple[MembershipResult, ...]:
        texts = {id: self._fitted(text, rows.context_tokens) for id, text in rows.members.texts.items()}
        inserted = {id: id in rows.members.trained for id in texts}
        scores = self._measure(texts, per_token=True)
        return membership_results(scores, inserted, sample="rows", primary=self.primary)

    def _fitted(self, text: str, row_tokens: int) -> str:
        """As much of a text as a training row holds and the reference can read: one token of either is the frame's."""
        limit = context_tokens(self.reference.network) if self.reference else None
        if self.reference and limit is not None:
            text = shortened(text, self.reference.tokenizer, limit - 1)
        return shortened(text, self.target.tokenizer, row_tokens - 1)

    def _measure(self, texts: Mapping[str, str], *, per_token: bool) -> MembershipScores:
        target, other = self.target, self.reference
        return measure_membership(
            target.network,
            target.tokenizer,
            texts,
            reference=(other.network, other.tokenizer) if other else None,
            per_token=per_token,
        )
