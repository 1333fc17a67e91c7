"""Audit a model that was trained elsewhere, on data planted here."""

from collections.abc import Iterator
from pathlib import Path

from canary_audit.audit import OnProgress, measure_canaries
from canary_audit.canaries import canary_text, derive_secrets, load_ledger
from canary_audit.config import AuditConfig, DataConfig, TrainingConfig
from canary_audit.data.members import draw_members
from canary_audit.data.sources import read_documents
from canary_audit.errors import ConfigError
from canary_audit.gate import Policy
from canary_audit.judgement import Evidence, conclude
from canary_audit.membership.audit import Rows, add_membership, asks_membership, reference_files
from canary_audit.models.determinism import reproducible
from canary_audit.models.resolve import origin, resolve_files
from canary_audit.results import AuditResult, DataResult, LanguageCheck, NotAvailable, PositiveControl
from canary_audit.rundir import canonical_json, digest, sha256_file
from canary_audit.subject import ControlPlan, Subject, load_subject, run_positive_control
from canary_audit.training.evaluate import HeldOut, language_check
from canary_audit.training.presence import check_representable
from canary_audit.training.stream import pack_documents

_ENCODER_DECODER = "not made for encoder-decoders, which learn pairs of texts"
_LONGEST_CONTEXT = 256
"""Tokens of a row when a model's own context is longer: enough for a canary, cheap for a check."""


def audit_model(
    ledger_path: Path,
    model: str | Path,
    policy: Policy | None,
    *,
    key: bytes,
    adapter: str | Path | None = None,
    revision: str | None = None,
    data: Path | None = None,
    validation: Path | None = None,
    settings: AuditConfig | None = None,
    recipe: TrainingConfig | None = None,
    seed: int = 1,
    on_progress: OnProgress | None = None,
) -> AuditResult:
    """Measure and judge a model against a ledger.

    Args:
        model: a local folder, a `.gguf` file or a name on the Hugging Face Hub; see `resolve_files`.
        policy: None to measure only; see `conclude`.
        key: what the ledger's secrets derive from.
        adapter: folder or name of a PEFT adapter to merge into the model.
        revision: commit, tag or branch of the model on the hub.
        data: planted training data, mixed into the positive control; without it that control cannot be run.
        validation: text the model was not trained on, to see that it has learned its language; without it no PASS.
        recipe: learning rate and clipping of the positive control.
        on_progress: see `measure_canaries`.

    Raises:
        ConfigError: the membership scores that `settings` asks for need a reference model, or data, not given.
        LedgerError: the key and the ledger do not belong together.
        ModelError: the model cannot be loaded safely and whole, or gives impossible numbers.
        DataError: a canary does not survive the model's tokenizer, or the data cannot be read.
    """
    settings, recipe = settings or AuditConfig(), recipe or TrainingConfig()
    files = resolve_files(model, adapter=adapter, revision=revision)
    ledger = load_ledger(ledger_path)
    secrets = derive_secrets(ledger, key)
    texts = {one.id: canary_text(ledger.group(one.group), secrets[one.id]) for one in ledger.canaries}
    with reproducible(recipe.threads, recipe.device):
        subject = load_subject(files, settings, device=recipe.device)
        check_representable(subject.loaded.tokenizer, texts)
        measured = measure_canaries(
            subject.scored, ledger, secrets, settings=settings, seed=seed, on_progress=on_progress
        )
        measured = add_membership(
            measured,
            subject.loaded,
            ledger,
            secrets,
            settings=settings,
            reference=reference_files(settings) if asks_membership(ledger, settings) else None,
            rows=_membership_rows(subject, settings, data, validation, excluded=frozenset(texts.values()), seed=seed),
            device=recipe.device,
        )
        evidence = Evidence(
            name=origin(files.adapter or files.folder),
            seed=seed,
            config_sha256=digest(canonical_json(settings.model_dump(mode="json", exclude={"reference_model"}))),
            ledger_sha256=ledger.sha256,
            model=subject.result,
            data=_data_result(data),
            training=NotAvailable(not_available="the model was trained elsewhere"),
            language=_language(subject, data, validation),
            measured=measured,
            accounting=NotAvailable(not_available="the model was trained elsewhere"),
            score=settings.membership_score,
            guesses=settings.guesses,
        )

        def control() -> PositiveControl:
            if _is_encoder_decoder(subject):
                return _no_control(_ENCODER_DECODER)
            if data is None or policy is None:
                return _no_control("it needs text to teach from: give the training data (--data)")
            return run_positive_control(
                subject,
                ControlPlan.draw(ledger, key),
                _documents(data),
                canary_texts=frozenset(texts.values()),
                context_tokens=_context(subject),
                recipe=recipe,
                settings=settings,
                needed_p=policy.table.positive_control_p,
                seed=seed,
            )

        return conclude(evidence, policy, control)


def _membership_rows(
    subject: Subject,
    settings: AuditConfig,
    data: Path | None,
    validation: Path | None,
    *,
    excluded: frozenset[str],
    seed: int,
) -> Rows | None:
    """Documents to compare. Where `validation` was not held out by a draw, it may differ from the data in more than
    training."""
    n_rows = settings.membership_rows
    if not n_rows:
        return None
    if data is None or validation is None:
        raise ConfigError("[audit] membership_rows: give the training data and held-out text (--data, --validation)")
    members = draw_members(
        lambda: _documents(data), lambda: _documents(validation), excluded=excluded, n=n_rows, seed=seed
    )
    return Rows(members=members, context_tokens=_context(subject))


def _documents(path: Path) -> Iterator[str]:
    return read_documents(path, DataConfig(source=path.name))


def _context(subject: Subject) -> int:
    return min(int(subject.loaded.tokenizer.model_max_length), _LONGEST_CONTEXT)


def _language(subject: Subject, data: Path | None, validation: Path | None) -> LanguageCheck:
    """Held-out loss against token frequencies: those of the training data, or else of the held-out text itself."""
    if _is_encoder_decoder(subject):
        return _no_language(_ENCODER_DECODER)
    if validation is None:
        return _no_language("no held-out text was given (--validation)")
    tokenizer, context = subject.loaded.tokenizer, _context(subject)
    held_out = HeldOut.of(_documents(validation), tokenizer, context)
    frequencies = held_out.rows if data is None else pack_documents(_documents(data), tokenizer, context)
    return held_out.check(subject.loaded.network, frequencies, len(tokenizer))


def _is_encoder_decoder(subject: Subject) -> bool:
    return bool(subject.loaded.network.config.is_encoder_decoder)


def _no_language(why: str) -> LanguageCheck:
    unknown = NotAvailable(not_available=why)
    return language_check(unknown, unknown)


def _data_result(data: Path | None) -> DataResult | NotAvailable:
    """What is known of planted data from its file alone."""
    if data is None:
        return NotAvailable(not_available="the training data was not given (--data)")
    sizes = [len(text.encode()) for text in _documents(data)]
    planted_sha256 = sha256_file(data)
    return DataResult(
        source=data.name,
        sha256=planted_sha256,
        planted_sha256=planted_sha256,
        n_documents=len(sizes),
        n_bytes=sum(sizes),
        details={"note": "the planted file itself was given, so both hashes are its own"},
    )


def _no_control(why: str) -> PositiveControl:
    return PositiveControl(
        status="not-run",
        reason=why,
        p_value=NotAvailable(not_available="not run"),
        n_canaries=0,
        insertions=0,
    )
