"""Audit a model that is served elsewhere, through whatever its endpoint lets be seen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canary_audit.audit import Measurements, OnProgress, measure_canaries
from canary_audit.canaries import Ledger, canary_text, derive_secrets, load_ledger
from canary_audit.config import EndpointConfig, MeasuringConfig
from canary_audit.endpoints.address import parse_address, read_api_key
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.dialect import Api, Dialect, Request
from canary_audit.endpoints.journal import Journal
from canary_audit.endpoints.offers import offers_of
from canary_audit.endpoints.probe import Proof, confirm, prove
from canary_audit.endpoints.served import ServedModel, TopTokensModel, affordable_prefixes
from canary_audit.errors import BudgetSpentError, ConfigError
from canary_audit.fingerprint import fingerprint_files
from canary_audit.gate import Policy
from canary_audit.group_audit import ScoredModel
from canary_audit.judgement import Evidence, conclude
from canary_audit.models.load import load_tokenizer_alone
from canary_audit.models.resolve import resolve_tokenizer
from canary_audit.models.tokenizer import document_start
from canary_audit.results import AuditResult, EndpointResult, ModelResult, NotAvailable, PositiveControl, Tier
from canary_audit.rundir import canonical_json, digest, sha256_file
from canary_audit.served_language import served_language
from canary_audit.text_audit import COIN_SCORE, measure_writing
from canary_audit.training.presence import check_representable
from canary_audit.vocabulary import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NO_COPY = "a served model cannot be copied and taught: name control_levels in the policy"
_ELSEWHERE = NotAvailable(not_available="the model was trained elsewhere")


@dataclass(frozen=True, kw_only=True)
class Served:
    """Which model, and where it is served."""

    url: str
    api: Api
    model: str
    """The name it is served under."""
    api_key: str | None = None
    """`env:NAME` or `file:PATH`."""
    tier: Tier | None = None
    """What the endpoint must give; None for the best that it can be shown to give."""
    tokenizer: str | Path | None = None
    """Folder, `.gguf` file or hub name of the model's tokenizer; None for a model that only writes text."""


def audit_served_model(
    ledger_path: Path,
    served: Served,
    policy: Policy | None,
    *,
    key: bytes,
    validation: Path | None = None,
    settings: MeasuringConfig | None = None,
    journal: Path | None = None,
    seed: int = 1,
    on_progress: OnProgress | None = None,
) -> AuditResult:
    """Prove what the endpoint gives, then measure and judge through it.

    Args:
        policy: None to measure only; the verdict is then INCONCLUSIVE, and `gate` judges with a policy of its own.
        key: what the ledger's secrets derive from.
        validation: text the model was not trained on, to see that it has learned its language.
        journal: SQLite file that keeps every answer, so that an interrupted audit goes on without paying twice.
        on_progress: told (prefixes the model was asked about, prefixes expected in all).

    Raises:
        ConfigError: an address, key or setting that cannot be used.
        LedgerError: the key and the ledger do not belong together.
        EndpointError: the endpoint fails, or does not keep its tier's promise.
        BudgetSpentError: the budget is too small to score the canaries at all.
        DataError: a canary does not survive the model's tokenizer.
    """
    settings = settings or MeasuringConfig()
    if settings.audit.membership_score != "loss" or settings.audit.membership_rows:
        raise ConfigError("[audit] membership_score and membership_rows need the weights; a served model has its loss")
    ledger = load_ledger(ledger_path)
    secrets = derive_secrets(ledger, key)
    reading = _Reading.of(served, ledger, secrets)
    offers = offers_of(
        served.api, model=served.model, vocabulary=reading.vocabulary, config=settings.endpoint, tier=served.tier
    )
    budget = Budget(settings.endpoint.max_calls, settings.endpoint.max_tokens)
    with _connected(served, settings.endpoint, journal, key, ledger, budget) as client:
        try:
            proof = prove(client, offers, reading.vocabulary, lead=reading.lead)
            with _set_aside(budget, proof.last_look):
                language = served_language(
                    client, proof.offer, reading.tokenizer, validation, n_rows=settings.endpoint.held_out_rows
                )
                measured = _measure(client, proof, reading, ledger, secrets, settings, seed, on_progress)
        except BudgetSpentError as error:
            raise BudgetSpentError(
                f"the budget does not even cover the probe and one look at each canary ({client.calls} requests were "
                "answered): raise --max-calls or --max-tokens"
            ) from error
        confirm(client, proof, reading.vocabulary, reading.lead)
        evidence = Evidence(
            name=Path(served.model).name,
            seed=seed,
            config_sha256=digest(canonical_json(settings.model_dump(mode="json"))),
            ledger_sha256=ledger.sha256,
            model=_model_result(served, proof, reading),
            data=NotAvailable(not_available="a served model's training data is not at hand"),
            training=_ELSEWHERE,
            language=language,
            measured=measured,
            accounting=_ELSEWHERE,
            score=COIN_SCORE if proof.tier == "text-only" else settings.audit.membership_score,
            guesses=settings.audit.guesses,
            endpoint=_endpoint_result(served, settings.endpoint, client, proof),
            calls=client.calls,
        )
    return conclude(evidence, policy, _no_control)


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How the model reads text, as far as it is known here."""

    tokenizer: "PreTrainedTokenizerFast | None"
    vocabulary: Vocabulary | None
    lead: tuple[int, ...]
    """Tokens before a document."""
    files: Mapping[str, str]

    @classmethod
    def of(cls, served: Served, ledger: Ledger, secrets: Mapping[str, bytes]) -> "_Reading":
        """Load the tokenizer, and make sure that it keeps every canary."""
        if served.tokenizer is None or served.tier == "text-only":
            return cls(tokenizer=None, vocabulary=None, lead=(), files={})
        folder = resolve_tokenizer(served.tokenizer)
        tokenizer = load_tokenizer_alone(folder)
        texts = {one.id: canary_text(ledger.group(one.group), secrets[one.id]) for one in ledger.canaries}
        check_representable(tokenizer, texts)
        start = document_start(tokenizer)
        return cls(
            tokenizer=tokenizer,
            vocabulary=vocabulary_of(tokenizer),
            lead=() if start is None else (start,),
            files={"tokenizer.json": sha256_file(folder / "tokenizer.json")},
        )


@contextmanager
def _connected(
    served: Served, config: EndpointConfig, journal: Path | None, key: bytes, ledger: Ledger, budget: Budget
) -> Iterator[Client]:
    """A client of the endpoint; its answers are kept in the journal, under the ledger's key."""
    address = parse_address(served.url)
    owner = digest(str(address), served.api, served.model, ledger.sha256)
    with (
        Journal(journal, key, owner) as kept,
        Client(address, read_api_key(served.api_key), config, kept, budget) as client,
    ):
        yield client


@contextmanager
def _set_aside(budget: Budget, requests: Sequence[Request[Any]]) -> Iterator[None]:
    """Leave what these requests will cost, however much the audit would like to ask.

    Raises:
        BudgetSpentError: the budget does not cover them.
    """
    kept: list[int] = []
    try:
        for request in requests:
            budget.reserve(request.n_tokens)
            kept.append(request.n_tokens)
        yield
    finally:
        for n_tokens in kept:
            budget.release(n_tokens)


def _measure(
    client: Client,
    proof: Proof,
    reading: _Reading,
    ledger: Ledger,
    secrets: Mapping[str, bytes],
    settings: MeasuringConfig,
    seed: int,
    on_progress: OnProgress | None,
) -> Measurements:
    """Through the window that was proved: the ordinary search, or what the model writes."""
    if proof.tier == "text-only" or reading.vocabulary is None:
        n_samples = settings.endpoint.samples
        writer = _Writer(client, proof.dialect)
        return measure_writing(writer, ledger, secrets, n_samples=n_samples, seed=seed, on_progress=on_progress)
    if proof.tier == "top-k":
        model: ServedModel | TopTokensModel = TopTokensModel(client, proof.dialect)
    else:
        model = ServedModel(client, proof.dialect, tier=proof.tier)
    cost_at_first = 2.0 if proof.tier == "prompt-logprobs" else 1.0
    scored = ScoredModel(
        language_model=model,
        vocabulary=reading.vocabulary,
        lead=reading.lead,
        whole_costs=model.whole_costs if isinstance(model, ServedModel) else None,
        own_whole=proof.tier == "prompt-logprobs",
        nodes_left=affordable_prefixes(client.calls_left, model, cost_at_first=cost_at_first),
        noise_floor_nats=proof.noise_floor_nats,
    )
    return measure_canaries(scored, ledger, secrets, settings=settings.audit, seed=seed, on_progress=on_progress)


class _Writer:
    """What a model that only writes is asked for."""

    def __init__(self, client: Client, dialect: Dialect) -> None:
        self._client, self._dialect = client, dialect

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> tuple[str, ...]:
        """See `text_audit.Writer`."""
        request = self._dialect.write(prefix, max_tokens=max_tokens, temperature=temperature, n=n, seed=seed)
        return self._client.ask([request])[0]


def _model_result(served: Served, proof: Proof, reading: _Reading) -> ModelResult:
    unknown = NotAvailable(not_available="a served model does not show it")
    endpoint = digest(str(parse_address(served.url)), served.api, served.model)
    identity = digest(*(finding.detail for finding in proof.findings if finding.name == "identity"))
    print_ = fingerprint_files({"endpoint": endpoint, "identity": identity, **reading.files})
    return ModelResult(
        fingerprint=print_.digest,
        kind=f"served through {served.api}",
        tier=proof.tier,
        files=dict(print_.files),
        n_parameters=unknown,
        dtype="unknown",
        batch_rows=unknown,
    )


def _endpoint_result(served: Served, config: EndpointConfig, client: Client, proof: Proof) -> EndpointResult:
    without = NotAvailable(not_available="no limit was set")
    return EndpointResult(
        url=str(parse_address(served.url)),
        api=served.api,
        probe=proof.findings,
        noise_floor_nats=proof.noise_floor_nats,
        tokens=client.tokens,
        max_calls=without if config.max_calls is None else config.max_calls,
        max_tokens=without if config.max_tokens is None else config.max_tokens,
        budget_spent=client.budget_spent,
    )


def _no_control() -> PositiveControl:
    return PositiveControl(
        status="not-run",
        reason=_NO_COPY,
        p_value=NotAvailable(not_available="not run"),
        n_canaries=0,
        insertions=0,
    )
