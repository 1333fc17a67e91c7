"""What a study of a paper is made of: a few experiments that know nothing of each other."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from canary_audit.config import Config
from canary_audit.errors import ConfigError
from canary_audit.rundir import digest
from canary_audit.studies.findings import Section

Progress = Callable[[str, int, int], None]
"""Told (what is being done, steps done, steps in all)."""


def seed_key(key: bytes | None, seed: int) -> bytes:
    """What the secrets of one seed derive from: every seed has its own, with one key for the study or with none."""
    return bytes.fromhex(digest("study", key.hex() if key else "", str(seed)))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an experiment is given."""

    config: Config
    """The audit that language models are trained for, and the table `[study]`."""
    folder: Path
    """The experiment's own; what it keeps there lets an interrupted one go on."""
    key: bytes | None = None
    """What secrets derive from; the seeds alone if there is none, so that a study can be repeated."""
    progress: Progress = lambda what, done, total: None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The configuration's seed, the next, and so on."""
        return tuple(range(self.config.seed, self.config.seed + self.config.study.seeds))

    @property
    def device(self) -> str:
        """Where networks are trained, as in `[training] device`."""
        return self.config.training.device


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: a function of a setting, of our own module scope so that other processes find it."""

    name: str
    about: str
    """A few words for the list of experiments."""
    kind: Literal["classifiers", "language"]
    """What is trained; `--data` concerns the first, the tables `[data]` and `[model]` the second."""
    run: Callable[[Setting], Section]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One paper as a study."""

    name: str
    """The verb of the command line."""
    title: str
    source: str
    question: str
    experiments: tuple[Experiment, ...]

    def chosen(self, only: tuple[str, ...]) -> tuple[Experiment, ...]:
        """The experiments of these names, or all of them.

        Raises:
            ConfigError: there is none of that name.
        """
        names = [experiment.name for experiment in self.experiments]
        if unknown := sorted(set(only) - set(names)):
            raise ConfigError(f"--only {unknown[0]}: study {self.name} has the experiments {', '.join(names)}")
        return tuple(one for one in self.experiments if not only or one.name in only)
