"""What came out of the model, by search or by letting it write."""

from collections.abc import Iterable
from dataclasses import dataclass

from canary_audit.report import numbers
from canary_audit.results import AuditResult, CanaryResult, Extraction, LevelResult, NotAvailable, SampledExtraction

WRITTEN = (
    "The model was given each prefix and nothing else, and went on from it. A hit holds the secret letter for letter; "
    "a secret that came out with edits differs from what was written in so many places."
)


@dataclass(frozen=True, kw_only=True)
class WrittenRow:
    """What a model wrote after one prefix, held against its secret."""

    came_out: str
    hits: str
    rate: str
    greedy: str


def written(canary: CanaryResult) -> bool:
    """Whether the model was asked to write after its prefix."""
    return isinstance(canary.extraction.samples, SampledExtraction)


def written_row(extraction: Extraction) -> WrittenRow:
    """One row; a canary whose model was not asked to write has dashes."""
    samples = extraction.samples
    if isinstance(samples, NotAvailable):
        nothing = numbers.DASH
        return WrittenRow(came_out=_came_out(extraction), hits=nothing, rate=nothing, greedy=nothing)
    return WrittenRow(
        came_out=_came_out(extraction),
        hits=f"{samples.hits:,} of {samples.n_samples:,}",
        rate=share_interval(samples.rate_low, samples.rate_high),
        greedy="yes" if samples.greedy else "no",
    )


def _came_out(extraction: Extraction) -> str:
    if not extraction.found:
        return "no"
    return f"with {numbers.plural(extraction.edits, 'edit')}" if extraction.edits else "verbatim"


def share_interval(low: float, high: float) -> str:
    """The interval of a share."""
    return f"{numbers.share(low)} to {numbers.share(high)}"


def of_level(level: LevelResult) -> str:
    """How many secrets of a level came out, with the interval of their share."""
    return f"{level.n_extracted} of {level.n_canaries} ({share_interval(level.extracted_low, level.extracted_high)})"


def totals(result: AuditResult) -> str:
    """One line on what came out of the extraction, over all groups."""
    sought = sum(group.extraction_sought for group in result.groups)
    found = sum(group.extraction_found for group in result.groups)
    calls = numbers.plural(sum(group.extraction_calls for group in result.groups), "model call")
    came_out = f"{found:,} of {numbers.plural(sought, 'planted secret')} came out"
    if samples := _most_samples(result.canaries):
        return f"{came_out}, in {numbers.plural(samples, 'continuation')} of each prefix and the likeliest one, {calls}"
    certified = sum(group.extraction_certified for group in result.groups)
    nodes = numbers.plural(sum(group.extraction_nodes for group in result.groups), "node")
    return f"{came_out}, {certified:,} certified, at {nodes} in {calls}"


def _most_samples(canaries: Iterable[CanaryResult]) -> int:
    samples = (canary.extraction.samples for canary in canaries)
    return max((one.n_samples for one in samples if isinstance(one, SampledExtraction)), default=0)
