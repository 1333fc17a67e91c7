"""The audit, top to bottom: draw canaries, plant them, train, measure, judge.

Each stage is a function of the files it reads and of the configuration, and is recorded with their hashes. A killed run
goes on where it stopped and ends with the same bytes.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from canary_audit.audit import Measurements, measure_canaries
from canary_audit.canaries import (
    canary_text,
    derive_secrets,
    draw_ledger,
    generated_lists_of,
    load_key,
    load_ledger,
    new_key,
    save_key,
)
from canary_audit.config import AuditConfig, Config
from canary_audit.data.members import draw_members
from canary_audit.data.planting import Occurrence, plant
from canary_audit.data.sources import Source, open_source, read_documents, read_owned_documents, training_documents
from canary_audit.errors import RunError
from canary_audit.gate import Policy
from canary_audit.generated_lists import generate_lists
from canary_audit.judgement import Evidence, conclude
from canary_audit.membership.audit import Rows, add_membership, asks_membership, reference_files
from canary_audit.models.determinism import reproducible
from canary_audit.models.resolve import ModelFiles
from canary_audit.planning import plan_audit, require_trainable
from canary_audit.planning.membership import require_membership
from canary_audit.report import render
from canary_audit.results import AuditResult, DataResult, Frozen, PositiveControl
from canary_audit.rundir import RunDirectory, canonical_json, digest, write_atomic
from canary_audit.stamps import Stamps
from canary_audit.subject import ControlPlan, Subject, load_subject, run_positive_control
from canary_audit.training.loop import dismiss
from canary_audit.training.stage import Observe, TrainingSummary, train_model
from canary_audit.wordlists import load_word_lists

Progress = Callable[[str, int, int], None]
"""Told (what is being done, steps done, steps in all)."""

AnyFrozen = TypeVar("AnyFrozen", bound=Frozen)


class PlantedSummary(Frozen):
    """What planting wrote into `data/`."""

    data: DataResult
    train: str
    """File name of the planted training data."""
    validation: str | None
    """File name of the held-out documents."""


def run_audit(
    config: Config, policy: Policy, out: Path, *, key: bytes | None = None, progress: Progress | None = None
) -> AuditResult:
    """Plan, plant, train, measure and judge; everything is left in the run directory `out`.

    Args:
        key: what the secrets derive from; without one, the key in `out/secrets` is used, or a fresh one drawn there.

    Raises:
        CanaryAuditError: the audit cannot be done; what was finished stays, and is not done again.
    """
    plan_audit(config, policy.table)
    with RunDirectory(out) as directory:
        return AuditRun(config, directory, key=key, progress=progress).judge(policy)


class AuditRun:
    """The stages of one run; each makes sure that those before it are done.

    Args:
        directory: entered, so that no other process works in it.
        key: see `run_audit`.
    """

    def __init__(
        self, config: Config, directory: RunDirectory, *, key: bytes | None = None, progress: Progress | None = None
    ) -> None:
        self.config = config
        self._directory = directory
        self._progress = progress or _no_progress
        self._stamps = Stamps(config, directory)
        self._key = self._settle_key(key)
        self.ledger = draw_ledger(config.canaries, self._key, self._word_lists())
        self._secrets = derive_secrets(self.ledger, self._key)
        self._write_ledger()

    def plant(self) -> PlantedSummary:
        """Write the training data with the canaries in it, and the held-out data without."""
        inputs = {"ledger.json": self.ledger.sha256, "source": self._stamps.source(), **self._stamps.settings("data")}
        path = self._directory.path("data", "summary.json")
        if not self._directory.is_done("data", inputs):
            self._progress("planting", 0, 1)
            summary = self._plant()
            _write_json(path, summary)
            files = [self._data_file(name) for name in (summary.train, summary.validation) if name]
            self._directory.record("data", inputs, [*files, path])
            self._progress("planting", 1, 1)
        return _read_json(path, PlantedSummary)

    def train(self, observe: Observe | None = None) -> TrainingSummary:
        """Train the configured model on the planted data, with exposure tracked beside validation loss.

        Args:
            observe: sees the model after each epoch; not called for epochs that are already done.
        """
        require_trainable(self.config)
        require_membership(self.config)
        planted = self.plant()
        inputs = {
            "ledger.json": self.ledger.sha256,
            **self._directory.hashes(*self._data_files()),
            **self._stamps.settings(
                "data", "model", "training", "privacy", *(["audit"] if self.config.training.track_exposure else [])
            ),
            **self._stamps.pretrained(),
        }
        path, checkpoints = self._directory.path("training.json"), self._directory.path("checkpoints")
        if not self._directory.is_done("model", inputs):
            model_dir = self._directory.path("model")
            shutil.rmtree(model_dir, ignore_errors=True)
            _write_json(
                path, self._train(planted, model_dir, checkpoints / digest(canonical_json(inputs))[:16], observe)
            )
            self._directory.record("model", inputs, [model_dir, path])
        dismiss(self.config.training.device)
        shutil.rmtree(checkpoints, ignore_errors=True)  # also those that a kill after the record left behind
        return _read_json(path, TrainingSummary)

    def measure(self) -> Measurements:
        """Measure exposure and extraction of every canary on the trained model."""
        self.train()
        inputs = {
            "ledger.json": self.ledger.sha256,
            **self._stamps.model(),
            **self._stamps.settings("audit"),
            **self._stamps.reference(self._reference()),
            **(self._directory.hashes(*self._data_files()) if self.config.audit.membership_rows else {}),
        }
        path = self._directory.path("scores.json")
        if not self._directory.is_done("scores", inputs):
            self._progress("measuring", 0, 1)
            with reproducible(self.config.training.threads, self.config.training.device):
                subject = self._subject()
                measured = measure_canaries(
                    subject.scored,
                    self.ledger,
                    self._secrets,
                    settings=self._audit_settings(),
                    seed=self.config.seed,
                    on_progress=lambda done, total: self._progress("measuring", done, total),
                )
                measured = add_membership(
                    measured,
                    subject.loaded,
                    self.ledger,
                    self._secrets,
                    settings=self.config.audit,
                    reference=self._reference(),
                    rows=self._membership_rows(),
                    device=self.config.training.device,
                )
            _write_json(path, measured)
            self._directory.record("scores", inputs, [path])
            self._progress("measuring", 1, 1)
        return _read_json(path, Measurements)

    def judge(self, policy: Policy) -> AuditResult:
        """Judge what was measured under a policy; writes `result.json` and `report.html`."""
        measured = self.measure()
        names = ("scores.json", "training.json", "data/summary.json")
        inputs = {
            **self._directory.hashes(*names),
            **self._stamps.model(),
            "policy": policy.sha256,
            **self._stamps.settings("training", "audit"),
        }
        path, report = self._directory.path("result.json"), self._directory.path("report.html")
        if not self._directory.is_done("result", inputs):
            with reproducible(self.config.training.threads, self.config.training.device):
                result = self._conclude(measured, policy)
            write_atomic(path, result.to_json().encode())
            write_atomic(report, render(result, "html").encode())
            self._directory.record("result", inputs, [path, report])
        return _read_json(path, AuditResult)

    def _settle_key(self, given: bytes | None) -> bytes:
        """The key in `secrets/`: the one that is there, or the given or a fresh one, put there now."""
        folder = self._directory.path("secrets")
        if given is None:
            given = load_key(folder / "key") if (folder / "key").exists() else new_key()
        save_key(folder, given)
        return given

    def _word_lists(self) -> dict[str, tuple[str, ...]]:
        """The user's lists, and those that formats need from the model; once made, these are taken from the ledger."""
        lists = load_word_lists(self.config.word_lists)
        if needed := generated_lists_of(self.config.canaries):
            path = self._directory.path("ledger.json")
            if self._directory.is_done("ledger", self._stamps.ledger()):
                return {**lists, **load_ledger(path).word_lists}
            lists |= self._generated_lists(needed)
        return lists

    def _generated_lists(self, needed: dict[str, int]) -> dict[str, tuple[str, ...]]:
        self._progress("making word lists", 0, 1)
        made = generate_lists(
            self.config,
            needed,
            key=self._key,
            unplanted=(record.text for record in self._source().records()),
            on_texts=lambda done, total: self._progress("making word lists", done, total),
        )
        self._progress("making word lists", 1, 1)
        return made

    def _write_ledger(self) -> None:
        path, inputs = self._directory.path("ledger.json"), self._stamps.ledger()
        if not self._directory.is_done("ledger", inputs):
            write_atomic(path, self.ledger.to_json().encode())
            self._directory.record("ledger", inputs, [path])

    def _plant(self) -> PlantedSummary:
        source, texts = self._source(), self._canary_texts()
        occurrences = [
            Occurrence(canary_id=canary.id, text=texts[canary.id])
            for canary in self.ledger.canaries
            for _ in range(canary.insertions)
        ]
        planted = plant(
            source,
            occurrences,
            self._directory.path("data"),
            validation_fraction=self.config.data.validation_fraction,
            seed=self._data_seed(),
        )
        return PlantedSummary(
            data=DataResult(
                source=source.name,
                sha256=planted.source_sha256,
                planted_sha256=planted.planted_sha256,
                n_documents=planted.n_documents,
                n_bytes=planted.n_bytes,
                details=dict(planted.details),
            ),
            train=planted.train.name,
            validation=planted.validation.name if planted.validation else None,
        )

    def _canary_texts(self) -> dict[str, str]:
        """Canary id -> the text that is planted."""
        return {
            canary.id: canary_text(self.ledger.group(canary.group), self._secrets[canary.id])
            for canary in self.ledger.canaries
        }

    def _train(
        self, planted: PlantedSummary, model_dir: Path, checkpoint_dir: Path, observe: Observe | None
    ) -> TrainingSummary:
        config = self.config
        source = self._source()
        held_out = read_documents(self._data_file(planted.validation), config.data) if planted.validation else None
        return train_model(
            config,
            self.ledger,
            self._secrets,
            key=self._key,
            unplanted=(record.text for record in source.records()),
            planted=self._training_documents(planted),
            held_out=held_out,
            model_dir=model_dir,
            checkpoint_dir=checkpoint_dir,
            on_step=lambda step, n_steps: self._progress("training", step, n_steps),
            observe=observe,
        )

    def _training_documents(self, planted: PlantedSummary) -> Iterable[tuple[str, str | None]]:
        """What is trained on, each with its user where users are told apart."""
        path, config = self._data_file(planted.train), self.config
        if config.privacy and config.privacy.unit == "user":
            return read_owned_documents(path, config.data)
        return ((text, None) for text in training_documents(path, config.data))

    def _conclude(self, measured: Measurements, policy: Policy) -> AuditResult:
        summary = _read_json(self._directory.path("training.json"), TrainingSummary)
        planted = _read_json(self._directory.path("data", "summary.json"), PlantedSummary)
        subject = self._subject()
        evidence = Evidence(
            name=self.config.name,
            seed=self.config.seed,
            config_sha256=self._stamps.config(),
            ledger_sha256=self.ledger.sha256,
            model=subject.result,
            data=planted.data,
            training=summary.training,
            language=summary.language,
            measured=measured,
            accounting=summary.accounting,
            score=self.config.audit.membership_score,
            guesses=self.config.audit.guesses,
        )
        return conclude(evidence, policy, lambda: self._positive_control(subject, planted, policy))

    def _positive_control(self, subject: Subject, planted: PlantedSummary, policy: Policy) -> PositiveControl:
        self._progress("positive control", 0, 1)
        control = run_positive_control(
            subject,
            ControlPlan.draw(self.ledger, self._key),
            training_documents(self._data_file(planted.train), self.config.data),
            canary_texts=frozenset(self._canary_texts().values()),
            context_tokens=self.config.model.context_tokens,
            recipe=self.config.training,
            settings=self._audit_settings(),
            needed_p=policy.table.positive_control_p,
            seed=self.config.seed,
        )
        self._progress("positive control", 1, 1)
        return control

    def _reference(self) -> ModelFiles | None:
        """The model that calibrates membership scores, where there are any."""
        config = self.config
        if not asks_membership(self.ledger, config.audit):
            return None
        return reference_files(config.audit, config.model.path, config.model.revision)

    def _membership_rows(self) -> Rows | None:
        """Documents of the data to compare: they are read as planting wrote them, repeated ones included."""
        n_rows = self.config.audit.membership_rows
        if not n_rows:
            return None
        planted = self.plant()
        if planted.validation is None:
            return None
        trained, held_out = self._data_file(planted.train), self._data_file(planted.validation)
        as_written = self.config.data.model_copy(update={"deduplicate": False})
        members = draw_members(
            lambda: training_documents(trained, as_written),
            lambda: training_documents(held_out, as_written),
            excluded=frozenset(self._canary_texts().values()),
            n=n_rows,
            seed=self.config.seed,
        )
        return Rows(members=members, context_tokens=self.config.model.context_tokens)

    def _subject(self) -> Subject:
        files = ModelFiles(folder=self._directory.path("model"))
        return load_subject(files, self._audit_settings(), device=self.config.training.device)

    def _audit_settings(self) -> AuditConfig:
        """The configuration's, with the rows of a forward pass as they were chosen in training."""
        summary = _read_json(self._directory.path("training.json"), TrainingSummary)
        return self.config.audit.model_copy(update={"batch_rows": summary.batch_rows})

    def _source(self) -> Source:
        return open_source(self.config.data, self._data_seed())

    def _data_seed(self) -> int:
        return self.config.seed if self.config.data.seed is None else self.config.data.seed

    def _data_files(self) -> list[str]:
        """Names, in the run directory, of the planted data and of the held-out data, if any."""
        planted = self.plant()
        return [f"data/{name}" for name in (planted.train, planted.validation) if name]

    def _data_file(self, name: str) -> Path:
        return self._directory.path("data", name)


def _write_json(path: Path, content: Frozen) -> None:
    write_atomic(path, (canonical_json(content.model_dump(mode="json")) + "\n").encode())


def _read_json(path: Path, kind: type[AnyFrozen]) -> AnyFrozen:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{path}: damaged ({type(error).__name__}); remove it and run again") from None


def _no_progress(what: str, done: int, total: int) -> None:
    """Say nothing."""
