"""Numbers that no canary and no level can have, each in words."""

from collections.abc import Callable

from canary_audit.results import CanaryResult, Exposure, LevelResult, Maybe, NotAvailable, SampledExtraction

_ROUNDING = 1e-6


def not_a_probability(value: Maybe) -> bool:
    """True for a number outside [0, 1]; a missing one is no wrong one."""
    return not isinstance(value, NotAvailable) and not 0 <= value <= 1


def _of_exposure(holds: Callable[[Exposure, float], bool]) -> Callable[[CanaryResult], bool]:
    """The flaw of an exposure in a space of so many bits, as one of its canary; where there is none it has no flaw."""
    return lambda c: not isinstance(c.exposure, NotAvailable) and holds(c.exposure, c.space_bits)


def _of_samples(holds: Callable[[SampledExtraction, bool], bool]) -> Callable[[CanaryResult], bool]:
    """The flaw of sampled texts, told whether the secret came out, as one of their canary."""
    return lambda c: (
        not isinstance(c.extraction.samples, NotAvailable) and holds(c.extraction.samples, c.extraction.found)
    )


def _known(value: Maybe, otherwise: float) -> float:
    return otherwise if isinstance(value, NotAvailable) else value


def _outside_its_interval(exposure: Exposure, space_bits: float) -> bool:
    del space_bits
    bits = _known(exposure.bits, exposure.low)
    return not exposure.low - _ROUNDING <= bits <= exposure.high + _ROUNDING


def _half_known(exposure: Exposure, space_bits: float) -> bool:
    del space_bits
    return isinstance(exposure.bits, NotAvailable) != isinstance(exposure.rank, NotAvailable)


def _wrong_place(canary: CanaryResult) -> bool:
    place = canary.extraction.rank
    if isinstance(place, NotAvailable):
        return canary.extraction.found and isinstance(canary.extraction.samples, NotAvailable)
    return place < 1 or not canary.extraction.found


def _outside(low: float, value: float, high: float) -> bool:
    """Whether a share lies outside its interval, or that interval outside [0, 1]."""
    return not (low >= 0 and low - _ROUNDING <= value <= high + _ROUNDING and high <= 1)


def _outside_its_rate(samples: SampledExtraction) -> bool:
    share = samples.hits / samples.n_samples if samples.n_samples else samples.rate_low
    return _outside(samples.rate_low, share, samples.rate_high)


def _outside_its_share(level: LevelResult) -> bool:
    share = level.n_extracted / level.n_canaries if level.n_canaries else level.extracted_low
    return _outside(level.extracted_low, share, level.extracted_high)


IMPOSSIBLE_CANARIES: tuple[tuple[str, Callable[[CanaryResult], bool]], ...] = (
    ("a negative cost", lambda c: _known(c.nll_bits, 0.0) < -_ROUNDING),
    ("a negative exposure", _of_exposure(lambda e, _: e.low < -_ROUNDING)),
    ("an exposure above log2|R|", _of_exposure(lambda e, space: max(e.low, _known(e.bits, 0.0)) > space + _ROUNDING)),
    ("an exposure outside its own interval", _of_exposure(_outside_its_interval)),
    ("an exposure without a rank, or a rank without an exposure", _of_exposure(_half_known)),
    ("a counted rank that is not known", _of_exposure(lambda e, _: e.exact and isinstance(e.rank, NotAvailable))),
    ("a rank below 1", _of_exposure(lambda e, _: _known(e.rank, 1.0) < 1)),
    ("a rank above its upper limit", _of_exposure(lambda e, _: _known(e.rank, 1.0) > e.rank_high * (1 + _ROUNDING))),
    ("a p-value outside [0, 1]", lambda c: not_a_probability(c.p_value)),
    ("an extraction whose place does not fit", _wrong_place),
    ("an extraction with fewer than no edits", lambda c: c.extraction.edits < 0),
    ("no continuations until it comes out", lambda c: _known(c.samples_needed, 1.0) <= 0),
    ("more hits than texts written", _of_samples(lambda s, _: not 0 <= s.hits <= s.n_samples)),
    ("a rate of extraction outside its own interval", _of_samples(lambda s, _: _outside_its_rate(s))),
    (
        "a secret that was written but did not come out",
        _of_samples(lambda s, found: s.hits + s.greedy > 0 and not found),
    ),
)

IMPOSSIBLE_LEVELS: tuple[tuple[str, Callable[[LevelResult], bool]], ...] = (
    ("a share of extracted secrets outside its own interval", _outside_its_share),
)
