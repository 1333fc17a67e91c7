"""One run of a study, in a run directory of its own: train and measure, or round what another run trained and measure.

A finished run is not done again: its stages say so by their hashes.
"""

import traceback
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from canary_audit import __version__
from canary_audit.audit import Measurements, exposure_by_level, measure_canaries
from canary_audit.canaries import derive_secrets, draw_ledger
from canary_audit.config import Config
from canary_audit.data.sources import read_documents
from canary_audit.errors import CanaryAuditError, RunError
from canary_audit.fingerprint import fingerprint_model
from canary_audit.models.determinism import reproducible
from canary_audit.models.quantize import quantize
from canary_audit.models.resolve import ModelFiles
from canary_audit.pipeline import AuditRun, PlantedSummary
from canary_audit.results import NotAvailable
from canary_audit.rundir import RunDirectory, canonical_json, digest, write_atomic
from canary_audit.studies.defences.results import FailedRun, StudyRun
from canary_audit.subject import load_subject
from canary_audit.training.evaluate import HeldOut, validation_bits_per_char
from canary_audit.training.stage import TrainingSummary
from canary_audit.wordlists import load_word_lists


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Round the weights of a model that another run trained."""

    bits: int
    undefended: Path
    """Run directory of the undefended run of the same seed."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to run, and where."""

    defence: str
    config: Config
    key: bytes
    folder: Path
    rounding: Rounding | None = None
    """Instead of training."""


def run_task(task: Task) -> StudyRun | FailedRun:
    """Do what is not done yet; whatever goes wrong is an answer, because the other runs go on."""
    try:
        with RunDirectory(task.folder) as directory:
            return _rounded(task, task.rounding, directory) if task.rounding else _trained(task, directory)
    except CanaryAuditError as error:
        return FailedRun(seed=task.config.seed, reason=str(error))
    except Exception as error:
        # The message of an unexpected error may hold anything, so only its kind and place are told.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return FailedRun(seed=task.config.seed, reason=f"a defect of canary-audit: {type(error).__name__} at {where}")


def _trained(task: Task, directory: RunDirectory) -> StudyRun:
    run = AuditRun(task.config, directory, key=task.key)
    measured, summary = run.measure(), run.train()
    last = summary.training.epochs[-1]
    return StudyRun(
        seed=task.config.seed,
        validation_bits_per_char=_measured_loss(last.validation_bits_per_char),
        levels=measured.levels,
        exposure_by_level=last.exposure_by_level,
        epochs=summary.training.epochs,
        accounting=summary.accounting,
    )


def _rounded(task: Task, rounding: Rounding, directory: RunDirectory) -> StudyRun:
    model = ModelFiles(folder=rounding.undefended / "model")
    inputs = {
        "model": fingerprint_model(model.folder).digest,
        "config": digest(canonical_json(task.config.audit.model_dump(mode="json")), str(rounding.bits)),
        "version": digest(__version__),
    }
    path = directory.path("rounded.json")
    if not directory.is_done("rounded", inputs):
        with reproducible(task.config.training.threads, task.config.training.device):
            found = _measure_rounded(task, rounding, model)
        write_atomic(path, found.model_dump_json().encode())
        directory.record("rounded", inputs, [path])
    try:
        return StudyRun.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise RunError(f"{path}: damaged; remove it and run again") from None


def _measure_rounded(task: Task, rounding: Rounding, model: ModelFiles) -> StudyRun:
    """What `_trained` measures, on the rounded model."""
    config, undefended = task.config, rounding.undefended
    summary = TrainingSummary.model_validate_json((undefended / "training.json").read_bytes())
    planted = PlantedSummary.model_validate_json((undefended / "data" / "summary.json").read_bytes())
    settings = config.audit.model_copy(update={"batch_rows": summary.batch_rows})
    subject = load_subject(model, settings, device=config.training.device)
    quantize(subject.loaded.network, rounding.bits)
    ledger = draw_ledger(config.canaries, task.key, load_word_lists(config.word_lists))
    secrets = derive_secrets(ledger, task.key)
    measured: Measurements = measure_canaries(subject.scored, ledger, secrets, settings=settings, seed=config.seed)
    held_out = HeldOut.of(
        read_documents(undefended / "data" / str(planted.validation), config.data),
        subject.loaded.tokenizer,
        config.model.context_tokens,
    )
    return StudyRun(
        seed=config.seed,
        validation_bits_per_char=validation_bits_per_char(subject.loaded.network, held_out.rows, held_out.n_chars),
        levels=measured.levels,
        exposure_by_level=exposure_by_level(subject.scored, ledger, secrets, settings=settings, seed=config.seed),
        epochs=(),
        accounting=NotAvailable(not_available="trained without differential privacy"),
    )


def _measured_loss(value: float | NotAvailable) -> float:
    if isinstance(value, NotAvailable):
        raise RunError(f"validation loss is not available: {value.not_available}")
    return value
