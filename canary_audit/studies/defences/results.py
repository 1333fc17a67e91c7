"""What a study found: frozen types, and their JSON form in `study.json`.

Losses are in bits per character of held-out text, exposures in bits. What could not be compared is a `NotAvailable`
with its reason.
"""

import json
from typing import Final, Literal

from canary_audit.results import Accounting, EpochResult, Frozen, LevelResult, Maybe, NotAvailable

STUDY_SCHEMA_VERSION: Final = 1


class StudyRun(Frozen):
    """One defence, one seed."""

    seed: int
    validation_bits_per_char: float
    levels: tuple[LevelResult, ...]
    exposure_by_level: dict[str, float]
    """Insertions -> median exposure of the final model, by the quicker measurement that training tracks: this is what
    is compared at equal loss, because the undefended model was tracked the same way."""
    epochs: tuple[EpochResult, ...]
    """Empty where nothing was trained."""
    accounting: Accounting | NotAvailable


class FailedRun(Frozen):
    """A run that did not end, and why."""

    seed: int
    reason: str


class LevelSummary(Frozen):
    """One level of a group of canaries, over the seeds."""

    group: str
    insertions: int
    bits: float
    """Mean over seeds of the level's median exposure."""
    low_bits: float
    high_bits: float
    """Least and greatest of the seeds."""
    n_extracted: int
    n_canaries: int
    """Canaries of all seeds together."""


class MatchedChange(Frozen):
    """Exposure against that of the undefended model of the same seed when it had the same validation loss."""

    insertions: int
    change_bits: Maybe
    """Mean over the seeds that could be compared; negative if the defence leaks less."""
    low_bits: Maybe
    high_bits: Maybe
    """95 % interval of the mean (Student's t over seeds)."""
    n_seeds: int
    """Seeds that could be compared."""
    remarks: tuple[str, ...]
    """Why the others could not, and which were compared elsewhere than at their end."""


class DefenceResult(Frozen):
    """One defence, over the seeds."""

    name: str
    about: str
    runs: tuple[StudyRun, ...]
    failures: tuple[FailedRun, ...]
    validation_bits_per_char: Maybe
    """Mean over seeds, of the final model."""
    levels: tuple[LevelSummary, ...]
    matched: tuple[MatchedChange, ...]
    epsilon: Maybe
    """What was promised for one unit; the largest of the seeds."""
    on_front: bool
    """No other defence has both a lower loss and a lower exposure at `plotted_level`."""


class PaperRow(Frozen):
    """One line of a paper's own table."""

    defence: str
    epsilon: str
    test_loss: str
    exposure_bits: str
    extracted: str


class PaperTable(Frozen):
    """A paper's own table, for comparison."""

    source: str
    caution: str
    rows: tuple[PaperRow, ...]
    remarks: tuple[str, ...]
    """What it says of defences without a number."""
    differences: tuple[str, ...]
    """Why its numbers and ours are not the same."""


class DefencesStudy(Frozen):
    """A study of defences, whole: the content of `study.json`."""

    schema_version: Literal[1] = STUDY_SCHEMA_VERSION
    study: Literal["defences"] = "defences"
    tool_version: str
    name: str
    seeds: tuple[int, ...]
    source: str
    space_bits: float
    """Exposure can reach no more than this: log2 of the largest secret space."""
    plotted_level: int
    """Insertions of the most repeated level that the policy judges."""
    defences: tuple[DefenceResult, ...]
    """The undefended runs come first."""
    paper: PaperTable

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, two-space indent, one trailing newline."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2, allow_nan=False) + "\n"
