"""The part of a plan that is about epsilon: what training promises, and what the coin flips could show."""

from collections.abc import Iterator
from dataclasses import dataclass

from canary_audit.config import Config, PrivacyConfig
from canary_audit.epsilon import CONFIDENCE
from canary_audit.errors import ConfigError
from canary_audit.results import Assumption, Maybe, NotAvailable, PolicyTable
from canary_audit.statistics.gaussian_dp import f_dp_refuted_by
from canary_audit.statistics.guesses import best_ceiling
from canary_audit.statistics.power import canaries_for_epsilon, epsilon_ceiling, typical_bounds

_SIZES = [round(10 ** (place / 5)) for place in range(2, 21)]
"""Numbers of coin flips that are proposed for the bound that assumes DP-SGD: five a decade, up to 10,000."""


@dataclass(frozen=True, kw_only=True)
class EpsilonPlan:
    """Promise and power; see `results.Epsilon` for the words."""

    n_coin_flips: int
    ceiling: Maybe
    """Largest lower bound that the coin flips could give, had every guess been right."""
    limit_ceiling: Maybe
    """The same for the bound that the policy's `max_epsilon` is held against; another one if that assumes more."""
    power: tuple[tuple[float, float], ...]
    """Pairs of a true epsilon and what half of the runs would show of it, at best; see `typical_bounds`."""
    promise: str | NotAvailable
    """What training is asked to promise, with delta and unit."""
    false_alarm_rate: float
    """How often a model whose epsilon is within promise and limit is failed for its epsilon, at most."""
    cannot_see: tuple[str, ...]


def plan_epsilon(config: Config, policy: PolicyTable) -> EpsilonPlan:
    """Work out what the coin flips can show.

    Raises:
        ConfigError: the policy limits epsilon, and no outcome of this design could exceed the limit; or it assumes
            DP-SGD, and training is not private.
    """
    _refuse_unfounded_assumption(config.privacy, policy)
    n_coin_flips = sum(group.coin_flips for group in config.canaries)
    design = _Design(config=config, assumption="none")
    limiting = _Design(config=config, assumption=policy.epsilon_assumption)
    if policy.max_epsilon is not None:
        _refuse_low_ceiling(limiting, n_coin_flips, policy.max_epsilon)
    ceiling = design.ceiling(n_coin_flips)
    return EpsilonPlan(
        n_coin_flips=n_coin_flips,
        ceiling=ceiling,
        limit_ceiling=limiting.ceiling(n_coin_flips),
        power=design.power(n_coin_flips),
        promise=_promise(config),
        false_alarm_rate=_false_alarm_rate(config.privacy, policy, n_coin_flips),
        cannot_see=tuple(_blind_spots(design, policy, n_coin_flips, ceiling)),
    )


def promises_privacy(privacy: PrivacyConfig | None) -> bool:
    """Whether training will have a finite epsilon: without noise it only clips."""
    return privacy is not None and privacy.noise_multiplier != 0


def _refuse_unfounded_assumption(privacy: PrivacyConfig | None, policy: PolicyTable) -> None:
    if policy.epsilon_assumption == "gaussian" and not promises_privacy(privacy):
        raise ConfigError(
            "[policy] epsilon_assumption: 'gaussian' holds for training by DP-SGD only, and the configuration has no "
            "[privacy] with noise; say 'none', or train privately"
        )


@dataclass(frozen=True, kw_only=True)
class _Design:
    """Coin flips under one configuration, with the bound of one assumption."""

    config: Config
    assumption: Assumption

    def ceiling(self, n_coin_flips: int) -> Maybe:
        """Largest bound that so many coin flips can give."""
        if n_coin_flips < 2:
            return NotAvailable(not_available=f"a bound takes at least two coin flips; {n_coin_flips} are planned")
        rule, delta = self.config.audit.guesses, self.delta
        if self.assumption == "none":
            return epsilon_ceiling(n_coin_flips, delta=delta, rule=rule, confidence=CONFIDENCE)
        return best_ceiling(
            n_coin_flips, rule=rule, confidence=CONFIDENCE, epsilon_of_counts=f_dp_refuted_by(n_coin_flips, delta)
        )

    def power(self, n_coin_flips: int) -> tuple[tuple[float, float], ...]:
        """What half of the runs would show of some epsilons; nothing where there is no bound."""
        if n_coin_flips < 2:
            return ()
        return typical_bounds(n_coin_flips, delta=self.delta, rule=self.config.audit.guesses, confidence=CONFIDENCE)

    def what_it_takes(self, epsilon: float) -> str:
        """The coin flips that can show more than `epsilon`, in words."""
        n_canaries = self._canaries_for(epsilon)
        if n_canaries is None:
            return f"no number of coin flips can at delta {self.delta:g}; take a smaller [privacy] delta"
        return f"it takes {n_canaries:,} coin flips"

    @property
    def delta(self) -> float:
        """What the bound allows for: the delta of the promise, or none."""
        privacy = self.config.privacy
        return privacy.delta if privacy is not None and promises_privacy(privacy) else 0.0

    def _canaries_for(self, epsilon: float) -> int | None:
        if self.assumption == "none":
            rule = self.config.audit.guesses
            return canaries_for_epsilon(epsilon, delta=self.delta, rule=rule, confidence=CONFIDENCE)
        return next((size for size in _SIZES if _exceeds(self.ceiling(size), epsilon)), None)


def _refuse_low_ceiling(design: _Design, n_coin_flips: int, limit: float) -> None:
    ceiling = design.ceiling(n_coin_flips)
    if _exceeds(ceiling, limit):
        return
    could = "" if isinstance(ceiling, NotAvailable) else f", which can show {ceiling:.2f} at most"
    raise ConfigError(
        f"[canaries] coin_flips: the policy limits epsilon to {limit:g}, and this audit cannot show more, whatever the "
        f"model keeps: it plans {n_coin_flips:,} coin flips{could}; {design.what_it_takes(limit)}"
    )


def _exceeds(ceiling: Maybe, epsilon: float) -> bool:
    return not isinstance(ceiling, NotAvailable) and ceiling > epsilon


def _promise(config: Config) -> str | NotAvailable:
    privacy = config.privacy
    if privacy is None:
        return NotAvailable(not_available="training is not private: there is no [privacy] table")
    if not promises_privacy(privacy):
        return NotAvailable(not_available="noise_multiplier is 0: training clips gradients and promises nothing")
    target = privacy.target_epsilon
    how = f"noise multiplier {privacy.noise_multiplier:g}" if target is None else f"epsilon {target:g}"
    unit = f"a row of up to {config.model.context_tokens} tokens" if privacy.unit == "row" else "all rows of a user"
    return f"{how}, delta {privacy.delta:g}, for {unit}"


def _false_alarm_rate(privacy: PrivacyConfig | None, policy: PolicyTable, n_coin_flips: int) -> float:
    """5 % for every bound that can fail a model: two are not the same if the limit's assumes more."""
    if n_coin_flips == 0:
        return 0.0
    tested = {"none"} if promises_privacy(privacy) else set()
    if policy.max_epsilon is not None:
        tested.add(policy.epsilon_assumption)
    return len(tested) * (1 - CONFIDENCE)


def _blind_spots(design: _Design, policy: PolicyTable, n_coin_flips: int, ceiling: Maybe) -> Iterator[str]:
    privacy = design.config.privacy
    target = privacy.target_epsilon if privacy else None
    if promises_privacy(privacy) and isinstance(ceiling, NotAvailable):
        yield f"Whether training keeps its promise of epsilon: {ceiling.not_available}."
    elif target is not None and not isinstance(ceiling, NotAvailable) and ceiling <= target:
        yield (
            f"Whether training keeps its promise of epsilon {target:g}: {n_coin_flips:,} coin flips can show "
            f"{ceiling:.2f} at most; {design.what_it_takes(target)}."
        )
    if policy.max_epsilon is not None:
        yield f"Epsilon of {policy.max_epsilon:g} or less: the policy allows it."
