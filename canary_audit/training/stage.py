"""Train a model on planted data, with exposure tracked beside validation loss."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from canary_audit.audit import exposure_by_level
from canary_audit.canaries import Ledger, canary_text
from canary_audit.config import Config
from canary_audit.data.blacklist import matcher
from canary_audit.group_audit import ScoredModel
from canary_audit.models.back_end import language_model
from canary_audit.models.load import save_model
from canary_audit.models.memory import rows_for_memory
from canary_audit.results import Accounting, EpochResult, Frozen, LanguageCheck, Maybe, NotAvailable, TrainingResult
from canary_audit.training.evaluate import HeldOut, language_check, validation_bits_per_char
from canary_audit.training.loop import OnStep, Recipe, train_together
from canary_audit.training.presence import check_presence, check_representable
from canary_audit.training.start import Start, fresh, pretrained
from canary_audit.training.stream import pack_documents, pack_users, start_token
from canary_audit.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_NO_HELD_OUT_TEXT = NotAvailable(not_available="no text was held out: [data] validation_fraction is 0")


Observe = Callable[[int, "PreTrainedModel", "PreTrainedTokenizerFast"], None]
"""Sees (epoch from 1, network in evaluation mode, its tokenizer) after an epoch, before its checkpoint is saved."""


class TrainingSummary(Frozen):
    """What is known of a model after its training."""

    training: TrainingResult
    accounting: Accounting | NotAvailable
    language: LanguageCheck
    batch_rows: int
    """Rows of one forward pass, at most, when the model is scored: of the configuration, or chosen from the memory that
    was free."""


def train_model(
    config: Config,
    ledger: Ledger,
    secrets: Mapping[str, bytes],
    *,
    key: bytes,
    unplanted: Iterable[str],
    planted: Iterable[tuple[str, str | None]],
    held_out: Iterable[str] | None,
    model_dir: Path,
    checkpoint_dir: Path | None = None,
    on_step: OnStep | None = None,
    observe: Observe | None = None,
) -> TrainingSummary:
    """Train the model of `config.model`, from the start or further, and save it whole in `model_dir`.

    Args:
        key: the audit's key; a private training draws its rows and its noise from it.
        unplanted: documents without canaries; a built-in model's tokenizer is trained on them.
        planted: documents the network is trained on, each with its user's name where users are told apart.
        held_out: validation documents.
        checkpoint_dir: where progress is kept, so that a killed training goes on.
        observe: sees the model after each epoch.

    Raises:
        ConfigError: the configuration asks for what the model, the machine or its packages do not have.
        DataError: a canary does not survive the tokenizer, or does not reach the loss as planned.
        ModelError: a pretrained model cannot be loaded, or training diverged.
    """
    start = pretrained(config) if config.model.kind == "pretrained" else fresh(config, unplanted)
    network, tokenizer, context = start.network, start.tokenizer, config.model.context_tokens
    texts = {one.id: canary_text(ledger.group(one.group), secrets[one.id]) for one in ledger.canaries}
    check_representable(tokenizer, texts)
    if config.privacy and config.privacy.unit == "user":
        rows, unit = pack_users(planted, tokenizer, context), f"a user, of whom up to {context} tokens are kept"
    else:
        documents = (text for text, _ in planted)
        rows = pack_documents(documents, tokenizer, context, alone=frozenset(texts.values()))
        unit = f"a row of up to {context} tokens"
    is_listed = matcher(config.data.blacklist)
    presence = check_presence(
        rows,
        tokenizer,
        texts=texts,
        planned={one.id: 0 if is_listed(texts[one.id]) else one.insertions for one in ledger.canaries},
        deduplicated=config.data.deduplicate,
    )
    batch_rows = config.audit.batch_rows or rows_for_memory(network, context)
    validation = None if held_out is None else HeldOut.of(held_out, tokenizer, context)
    trained = train_together(
        network,
        rows,
        Recipe(training=config.training, seed=config.seed, privacy=config.privacy, key=key, unit=unit),
        checkpoint_dir=checkpoint_dir,
        on_epoch=_epoch_recorder(config, start, validation, ledger, secrets, batch_rows, observe),
        on_step=on_step,
    )
    save_model(network, tokenizer, model_dir)
    return TrainingSummary(
        training=TrainingResult(
            epochs=trained.epochs,
            steps=trained.steps,
            tokens=trained.tokens,
            presence=presence,
            best_epoch=_best_epoch(trained.epochs),
        ),
        accounting=trained.accounting,
        language=(
            validation.check(network, rows, len(tokenizer))
            if validation
            else language_check(_NO_HELD_OUT_TEXT, _NO_HELD_OUT_TEXT)
        ),
        batch_rows=batch_rows,
    )


def _epoch_recorder(
    config: Config,
    start: Start,
    validation: HeldOut | None,
    ledger: Ledger,
    secrets: Mapping[str, bytes],
    batch_rows: int,
    observe: Observe | None,
) -> Callable[[int, float], EpochResult]:
    """What is measured after each epoch, on the network as it is then."""
    network = start.network
    scored = ScoredModel(
        language_model=language_model(network, batch_rows=batch_rows),
        vocabulary=vocabulary_of(start.tokenizer),
        lead=(start_token(start.tokenizer),),
    )

    def record(epoch: int, training_bits_per_token: float) -> EpochResult:
        bits: Maybe = _NO_HELD_OUT_TEXT
        if validation:
            bits = validation_bits_per_char(network, validation.rows, validation.n_chars)
        exposure = {}
        if config.training.track_exposure:
            exposure = exposure_by_level(scored, ledger, secrets, settings=config.audit, seed=config.seed)
        if observe:
            observe(epoch, network, start.tokenizer)
        return EpochResult(
            epoch=epoch,
            training_bits_per_token=training_bits_per_token,
            validation_bits_per_char=bits,
            exposure_by_level=exposure,
        )

    return record


def _best_epoch(epochs: Sequence[EpochResult]) -> int | NotAvailable:
    """Epoch of least validation loss."""
    measured = [
        (epoch.validation_bits_per_char, epoch.epoch)
        for epoch in epochs
        if not isinstance(epoch.validation_bits_per_char, NotAvailable)
    ]
    if not measured:
        return NotAvailable(not_available="validation loss was not measured")
    return min(measured)[1]
