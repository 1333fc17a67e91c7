"""The model under audit: loaded, fingerprinted, scored, and copied for the positive control."""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from canary_audit.audit import Measurements, measure_canaries
from canary_audit.canaries import Ledger, canary_text, derive_secrets, draw_ledger
from canary_audit.config import AuditConfig, CanaryConfig, TrainingConfig
from canary_audit.fingerprint import Fingerprint, fingerprint_model
from canary_audit.group_audit import ScoredModel
from canary_audit.models.back_end import language_model
from canary_audit.models.load import LoadedModel, load_model
from canary_audit.models.memory import nodes_for_memory
from canary_audit.models.resolve import ModelFiles
from canary_audit.results import ModelResult, NotAvailable, PositiveControl
from canary_audit.statistics.pvalues import fisher_combined
from canary_audit.training.positive_control import OCCURRENCES, teach
from canary_audit.training.stream import pack_documents
from canary_audit.vocabulary import vocabulary_of

_CONTROL_CANARIES = 4


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model folder, ready to be audited."""

    loaded: LoadedModel
    scored: ScoredModel
    fingerprint: Fingerprint

    @property
    def result(self) -> ModelResult:
        """What a report says of the model; ask after measuring, when all notices are in."""
        loaded = self.loaded
        return ModelResult(
            fingerprint=self.fingerprint.digest,
            kind=loaded.kind,
            tier="full-logits",
            files=dict(self.fingerprint.files),
            n_parameters=loaded.n_parameters,
            dtype=loaded.dtype,
            batch_rows=loaded.language_model.batch_rows,
            notices=tuple(loaded.language_model.notices),
        )


def load_subject(files: ModelFiles, settings: AuditConfig, *, device: str) -> Subject:
    """Load and fingerprint a model, and the adapter merged into it.

    Raises:
        ModelError: it cannot be loaded safely and whole.
        SpaceError: its tokenizer rewrites text.
    """
    fingerprint = fingerprint_model(files.folder, files.adapter)
    loaded = load_model(
        files.folder,
        adapter=files.adapter,
        device=device,
        dtype=settings.dtype,
        batch_rows=settings.batch_rows,
        context=settings.context,
    )
    return Subject(
        loaded=loaded,
        scored=ScoredModel(
            language_model=loaded.language_model,
            vocabulary=vocabulary_of(loaded.tokenizer),
            lead=() if loaded.prompt_token is None else (loaded.prompt_token,),
            most_nodes=nodes_for_memory(loaded.network),
        ),
        fingerprint=fingerprint,
    )


@dataclass(frozen=True, kw_only=True)
class ControlPlan:
    """Fresh canaries for the positive control, of the same formats as those audited."""

    ledger: Ledger
    secrets: dict[str, bytes]

    @classmethod
    def draw(cls, audited: Ledger, key: bytes) -> "ControlPlan":
        """A few canaries behind each prefix, from the audit's own key but under other names, so other secrets.

        Groups of coin-flipped canaries alone are never ranked, so they need no control; it is drawn from them only if
        there are no others.
        """
        with_levels = {canary.group for canary in audited.canaries if canary.role == "level"}
        plans = [
            CanaryConfig(
                name=f"{group.name[:31]}-control",
                format=group.format,
                prefix=group.prefix,
                suffix=group.suffix,
                controls=_CONTROL_CANARIES,
            )
            for group in audited.groups
            if group.name in with_levels or not with_levels
        ]
        ledger = draw_ledger(plans, key, audited.word_lists)
        return cls(ledger=ledger, secrets=derive_secrets(ledger, key))


def run_positive_control(
    subject: Subject,
    plan: ControlPlan,
    documents: Iterable[str],
    *,
    canary_texts: Set[str],
    context_tokens: int,
    recipe: TrainingConfig,
    settings: AuditConfig,
    needed_p: float,
    seed: int,
) -> PositiveControl:
    """Teach a throwaway copy of the audited weights a few fresh secrets; does the ordinary measurement see them?

    Args:
        documents: ordinary training text, mixed in so that the copy keeps its language.
        canary_texts: the audited canaries, which have rows of their own among the ordinary ones, as in training.
        recipe: learning rate and clipping of the teaching.
        needed_p: the control counts as detected at or below this p-value.

    Raises:
        ModelError: teaching diverged.
    """
    tokenizer = subject.loaded.tokenizer
    texts = [canary_text(plan.ledger.group(canary.group), plan.secrets[canary.id]) for canary in plan.ledger.canaries]
    taught = teach(
        subject.loaded.network,
        pack_documents(documents, tokenizer, context_tokens, alone=canary_texts),
        texts=texts,
        tokenizer=tokenizer,
        config=recipe,
        seed=seed,
    )
    copy = ScoredModel(
        language_model=language_model(taught, batch_rows=settings.batch_rows),
        vocabulary=subject.scored.vocabulary,
        lead=subject.scored.lead,
    )
    measured = measure_canaries(
        copy, plan.ledger, plan.secrets, settings=settings.model_copy(update={"references": 0}), seed=seed
    )
    p_value = max(_combined_p_value(measured, group.name) for group in plan.ledger.groups)
    detected = p_value <= needed_p
    verb = "were found by" if detected else "stayed hidden from"
    return PositiveControl(
        status="detected" if detected else "missed",
        reason=f"{len(texts)} fresh secrets, taught to a throwaway copy of the model, {verb} the same measurement",
        p_value=p_value,
        n_canaries=len(texts),
        insertions=OCCURRENCES,
    )


def _combined_p_value(measured: Measurements, group: str) -> float:
    """Fisher's p-value of one format's control canaries."""
    p_values = [canary.p_value for canary in measured.canaries if canary.group == group]
    return fisher_combined([value for value in p_values if not isinstance(value, NotAvailable)])
