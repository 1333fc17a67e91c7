"""One language model of a study: what it was trained on, what was planted, and what was seen while it learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from canary_audit.audit import Measurements
from canary_audit.canaries import Ledger, canary_text, derive_secrets
from canary_audit.config import Config
from canary_audit.data.sources import read_documents, training_documents
from canary_audit.errors import ConfigError, RunError
from canary_audit.models.load import LoadedModel, load_model
from canary_audit.pipeline import AuditRun
from canary_audit.rundir import RunDirectory
from canary_audit.studies.experiment import Setting, seed_key
from canary_audit.training.stage import TrainingSummary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Look = Callable[["PreTrainedModel", "PreTrainedTokenizerFast", "Planted"], Mapping[str, NDArray[Any]]]
"""Sees a network in evaluation mode after an epoch; gives arrays by name, the same names each time."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What a model is trained on. Documents hold secrets: they are not for reports."""

    ledger: Ledger
    secrets: Mapping[str, bytes]
    """Canary id -> secret; fresh for every seed."""
    documents: tuple[str, ...]
    """Training documents in order; a canary's text is a document of its own, once for each insertion."""
    held_out: tuple[str, ...]

    @property
    def canary_texts(self) -> dict[str, str]:
        """Canary id -> its whole text: prefix, secret, suffix."""
        return {
            canary.id: canary_text(self.ledger.group(canary.group), self.secrets[canary.id])
            for canary in self.ledger.canaries
        }


@dataclass(frozen=True, kw_only=True)
class LanguageRun:
    """One trained model."""

    seed: int
    config: Config
    planted: Planted
    summary: TrainingSummary
    """Losses, and exposures by level if `[training] track_exposure` is on, epoch by epoch."""
    model_dir: Path
    looks: tuple[Mapping[str, NDArray[Any]], ...]
    """What was seen after each epoch."""
    measured: Measurements | None
    """Exposure of every canary under the final model, if it was asked for."""

    def load(self) -> LoadedModel:
        """The final network with its tokenizer, on the configured device."""
        return load_model(self.model_dir, device=self.config.training.device)


def language_run(
    setting: Setting, seed: int, *, look: Look | None = None, measure: bool = False, **training: Any
) -> LanguageRun:
    """Plant and train with fresh secrets of this seed, or read what an earlier call has done.

    Text, held-out documents and the places of canaries are the same for all seeds; initialization, order and secrets
    are not.

    Args:
        look: sees the model after every epoch.
        measure: whether to measure the final model, canary by canary.
        training: changes to the table `[training]`; a run is kept for each set of changes.

    Raises:
        CanaryAuditError: the configuration cannot be run.
    """
    config = _with_seed(setting.config, seed, training)
    key = seed_key(setting.key, seed)
    name = "-".join([f"seed-{seed}", *(f"{key}-{value}" for key, value in sorted(training.items()))])
    with RunDirectory(setting.folder / "runs" / name) as directory:
        run = AuditRun(config, directory, key=key, progress=setting.progress)
        summary = run.plant()
        held_out = summary.validation
        planted = Planted(
            ledger=run.ledger,
            secrets=derive_secrets(run.ledger, key),
            documents=tuple(training_documents(directory.path("data", summary.train), config.data)),
            held_out=tuple(read_documents(directory.path("data", held_out), config.data)) if held_out else (),
        )
        looks = directory.path("looks")
        trained = run.train(_recorder(look, planted, looks) if look else None)
        return LanguageRun(
            seed=seed,
            config=config,
            planted=planted,
            summary=trained,
            model_dir=directory.path("model"),
            looks=tuple(_read_looks(looks, config.training.epochs)) if look else (),
            measured=run.measure() if measure else None,
        )


def _with_seed(config: Config, seed: int, changes: Mapping[str, Any]) -> Config:
    training = config.training.model_copy(update=dict(changes))
    if training.epochs == 0 or config.data.validation_fraction == 0:
        raise ConfigError("[training] epochs and [data] validation_fraction: a study of learning needs both above 0")
    data = config.data.model_copy(update={"seed": config.seed if config.data.seed is None else config.data.seed})
    return config.model_copy(update={"seed": seed, "data": data, "training": training})


def _recorder(
    look: Look, planted: Planted, folder: Path
) -> "Callable[[int, PreTrainedModel, PreTrainedTokenizerFast], None]":
    def record(epoch: int, network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast") -> None:
        folder.mkdir(exist_ok=True)
        arrays: dict[str, Any] = dict(look(network, tokenizer, planted))
        np.savez(folder / f"{epoch:04d}.npz", **arrays)

    return record


def _read_looks(folder: Path, epochs: int) -> list[Mapping[str, NDArray[Any]]]:
    found: list[Mapping[str, NDArray[Any]]] = []
    for epoch in range(1, epochs + 1):
        try:
            with np.load(folder / f"{epoch:04d}.npz", allow_pickle=False) as archive:
                found.append(dict(archive))
        except (OSError, ValueError):
            raise RunError(f"{folder}: what was seen in epoch {epoch} is gone; remove {folder.parent}") from None
    return found
