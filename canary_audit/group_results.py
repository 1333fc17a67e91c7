"""What was measured of one group, as the types of a result."""

from canary_audit.canaries import Canary, Group
from canary_audit.exposure.estimates import RankEstimate, RankReport
from canary_audit.exposure.reported import certificate_of, cost_of, exposure_of, samples_for
from canary_audit.extraction import ExtractionReport
from canary_audit.results import CanaryResult, Extraction, GroupResult, NotAvailable, PaperEstimate
from canary_audit.spaces import SecretSpace


def canary_result(
    canary: Canary,
    rank: RankEstimate,
    space: SecretSpace,
    *,
    p_value: float,
    extraction: Extraction,
    estimates: tuple[PaperEstimate, ...],
) -> CanaryResult:
    """One canary, its p-value not yet corrected."""
    return CanaryResult(
        id=canary.id,
        group=canary.group,
        role="control" if canary.role == "control" else "level",
        insertions=canary.insertions,
        space_bits=space.bits,
        nll_bits=cost_of(rank),
        exposure=exposure_of(rank, space.bits),
        certificate_bits=certificate_of(rank, space.bits),
        samples_needed=samples_for(rank),
        p_value=p_value,
        adjusted_p_value=NotAvailable(not_available="controls are not judged"),
        extraction=extraction,
        paper_estimates=estimates,
    )


def group_result(
    group: Group,
    space: SecretSpace,
    notice: str | None,
    canaries: tuple[CanaryResult, ...],
    ranks: RankReport,
    extracted: ExtractionReport,
    n_inserted: int,
) -> GroupResult:
    """A group, what its searches cost, and how many of its `n_inserted` planted secrets came out."""
    planted = [canary.extraction for canary in canaries if canary.insertions > 0]
    return GroupResult(
        name=group.name,
        format=group.format,
        prefix=group.prefix,
        suffix=group.suffix,
        space_size=str(space.size),
        space_bits=space.bits,
        notice=notice,
        noise_floor_nats=ranks.noise_floor_nats,
        extraction_sought=n_inserted,
        extraction_found=sum(extraction.found for extraction in planted),
        extraction_certified=sum(extraction.certified for extraction in planted),
        extraction_nodes=extracted.nodes,
        extraction_calls=extracted.calls,
        search_nodes=ranks.nodes,
        search_calls=ranks.calls,
    )


def extraction_result(place: int | None, extracted: ExtractionReport) -> Extraction:
    """Whether one canary is among what came out; `place` counts from 1."""
    if place is None:
        why = f"not among the {len(extracted.secrets)} likeliest secrets found"
        return Extraction(
            found=False,
            rank=NotAvailable(not_available=why),
            certified=False,
            nodes=extracted.nodes,
            calls=extracted.calls,
        )
    item = extracted.secrets[place - 1]
    return Extraction(found=True, rank=place, certified=item.certified, nodes=item.nodes, calls=item.calls)
