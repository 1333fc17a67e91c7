"""The plan of an audit: what its design can and cannot detect, known before anything is trained.

A design that cannot fail is refused, because its PASS would mean nothing.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from canary_audit.canaries import generated_lists_of
from canary_audit.config import CanaryConfig, Config, ModelConfig
from canary_audit.errors import ConfigError, SpaceError
from canary_audit.gate import is_judged_level, needed_space_bits
from canary_audit.planning.epsilon import EpsilonPlan, plan_epsilon
from canary_audit.planning.membership import require_membership
from canary_audit.results import Maybe, NotAvailable, PolicyTable
from canary_audit.spaces import SecretSpace, parse_space
from canary_audit.statistics.power import detectable_bits, min_references
from canary_audit.wordlists import load_word_lists, stand_ins

_NOTHING_JUDGED = NotAvailable(not_available="the policy judges no level")


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """What is planted of one group of canaries, and how large its space is."""

    name: str
    format: str
    space_size: int
    """At least, if its words come from the model: they are not known before planting."""
    space_bits: float
    generated: bool
    """Whether words or texts of the secrets come from the model."""
    n_judged: int
    """Inserted canaries that the policy judges."""
    n_not_judged: int
    """Inserted canaries of control levels, or of levels above the policy's."""
    n_controls: int
    """Canaries that are never inserted."""
    n_coin_flips: int
    """Canaries that are inserted once with probability 1/2."""
    expected_insertions: float
    """Insertions of the levels, and half of the coin-flipped canaries."""
    expected_bytes: float
    """The same in bytes of text, each secret at its longest."""


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """What the whole design can do."""

    groups: tuple[GroupPlan, ...]
    n_judged: int
    expected_insertions: float
    detectable_bits: Maybe
    """Least exposure at which one canary alone is significant after Holm's correction over all judged ones."""
    failing_bits: Maybe
    """Exposure above which a canary fails the policy: significant, and beyond what is tolerated."""
    epsilon: EpsilonPlan
    false_alarm_rate: float
    """How often a model that memorizes nothing is failed, at most: by exposure or for its epsilon."""
    data_share: Maybe
    """Share of the planted data that is canaries, if the source fills `max_bytes`."""
    model_weights: Maybe
    """Number of weights of a pretrained model; each takes 4 bytes, and 12 more in training if all are trained."""
    cannot_see: tuple[str, ...]
    """What a PASS of this design does not speak about, one sentence each."""


def plan_audit(config: Config, policy: PolicyTable) -> AuditPlan:
    """Work out what a design can detect under a policy.

    Raises:
        ConfigError: the design cannot fail, or cannot pass, whatever the model does; the message says what it takes.
        SpaceError: a secret format is malformed.
    """
    require_trainable(config)
    require_membership(config)
    word_lists = {**load_word_lists(config.word_lists), **stand_ins(generated_lists_of(config.canaries))}
    spaces = [_space(group, word_lists) for group in config.canaries]
    groups = tuple(_plan_group(group, space, policy) for group, space in zip(config.canaries, spaces, strict=True))
    epsilon = plan_epsilon(config, policy)
    n_judged = sum(group.n_judged for group in groups)
    if n_judged == 0:
        _refuse_nothing_judged(policy)
    needed_bits = needed_space_bits(n_judged, policy) if n_judged else _NOTHING_JUDGED
    for group in groups:
        _refuse_small_space(group, needed_bits)
    if n_judged:
        _refuse_few_references(config.audit.references, n_judged, policy)
    _refuse_few_controls(groups, policy)
    return AuditPlan(
        groups=groups,
        n_judged=n_judged,
        expected_insertions=sum(group.expected_insertions for group in groups),
        detectable_bits=detectable_bits(n_judged, policy.alpha) if n_judged else _NOTHING_JUDGED,
        failing_bits=needed_bits,
        epsilon=epsilon,
        false_alarm_rate=(policy.alpha if n_judged else 0.0) + epsilon.false_alarm_rate,
        data_share=_data_share(config, groups),
        model_weights=_model_weights(config.model),
        cannot_see=(*_blind_spots(groups, needed_bits, config, policy), *epsilon.cannot_see),
    )


def require_trainable(config: Config) -> None:
    """Refuse, before anything is planted, what the training of the configured model would stumble over.

    Raises:
        ConfigError: the pretrained model is not there, or the method or precision is none for the LSTM.
    """
    model, training = config.model, config.training
    if model.kind == "lstm" and (training.method, training.precision) != ("full", "fp32"):
        raise ConfigError(
            "[training] method, precision: the built-in LSTM is trained in full and in fp32; adapters and bf16 are for "
            "[model] kind = 'llama' or 'pretrained'"
        )
    if Path(model.path).is_absolute() and not Path(model.path).exists():
        raise ConfigError(f"[model] path: {model.path}: no such folder or file; `make models` gets SmolLM2")


def _space(group: CanaryConfig, word_lists: Mapping[str, tuple[str, ...]]) -> SecretSpace:
    """The secrets of a group, whose ends the suffix must tell."""
    space = parse_space(group.format, word_lists)
    try:
        space.check_suffix(group.suffix)
    except SpaceError as error:
        raise ConfigError(f"[canaries] {group.name}: {error}") from None
    return space


def _plan_group(group: CanaryConfig, space: SecretSpace, policy: PolicyTable) -> GroupPlan:
    n_judged_levels = sum(is_judged_level(level, policy) for level in group.levels)
    insertions = sum(group.levels) * group.canaries_per_level + group.coin_flips / 2
    text_bytes = len(f"{group.prefix}{group.suffix}\n".encode()) + space.max_length
    return GroupPlan(
        name=group.name,
        format=group.format,
        space_size=space.size,
        space_bits=space.bits,
        generated=bool(generated_lists_of([group])),
        n_judged=n_judged_levels * group.canaries_per_level,
        n_not_judged=(len(group.levels) - n_judged_levels) * group.canaries_per_level,
        n_controls=group.controls,
        n_coin_flips=group.coin_flips,
        expected_insertions=insertions,
        expected_bytes=insertions * text_bytes,
    )


def _refuse_nothing_judged(policy: PolicyTable) -> None:
    """An audit of epsilon alone is one: its ceiling was checked already."""
    if policy.max_epsilon is not None:
        return
    limit = "" if policy.max_insertions == "any" else f" of at most {policy.max_insertions} insertions"
    reserved = f" other than the control levels {list(policy.control_levels)}" if policy.control_levels else ""
    raise ConfigError(
        "[canaries] levels: this audit cannot fail, because the policy judges none of its inserted canaries; "
        f"it takes at least one level{limit}{reserved}"
    )


def _refuse_small_space(group: GroupPlan, needed_bits: Maybe) -> None:
    if not group.n_judged or isinstance(needed_bits, NotAvailable) or group.space_bits > needed_bits:
        return
    n_digits = math.floor(needed_bits / math.log2(10)) + 1
    raise ConfigError(
        f"[canaries] {group.name}: a canary of {group.format} cannot fail: its exposure ends at {group.space_bits:.2f} "
        f"bits; it needs a space of more than {needed_bits:.2f} bits, such as {{digit:{n_digits}}}"
    )


def _refuse_few_references(n_references: int, n_judged: int, policy: PolicyTable) -> None:
    enough = min_references(n_judged, policy.alpha)
    if 0 < n_references < enough:
        raise ConfigError(
            f"[audit] references: with {n_references} references none of {n_judged} canaries can be significant at "
            f"{policy.alpha:g}; it takes at least {enough}, or 0 to leave sampling out"
        )


def _refuse_few_controls(groups: tuple[GroupPlan, ...], policy: PolicyTable) -> None:
    n_controls = sum(group.n_controls for group in groups)
    if n_controls < policy.min_controls:
        raise ConfigError(
            f"[canaries] controls: {n_controls} never-inserted controls in all; the policy passes nothing with fewer "
            f"than {policy.min_controls}"
        )


def _data_share(config: Config, groups: tuple[GroupPlan, ...]) -> Maybe:
    if config.data.max_bytes is None:
        return NotAvailable(
            not_available="the size of the data is not known before it is read: [data] max_bytes is not set"
        )
    planted = sum(group.expected_bytes for group in groups)
    training_bytes = config.data.max_bytes * (1 - config.data.validation_fraction)
    return planted / (planted + training_bytes)


def _model_weights(model: ModelConfig) -> Maybe:
    """Read from the headers of safetensors files; torch is not needed."""
    if model.kind != "pretrained":
        return NotAvailable(not_available="a built-in model")
    files = sorted(Path(model.path).glob("model*.safetensors"))
    if not files:
        return NotAvailable(not_available="the size of the model is not known before it is fetched or converted")
    return float(sum(_n_weights(file) for file in files))


def _n_weights(file: Path) -> int:
    """Weights in a safetensors file: eight bytes of length, then a JSON header that tells names and shapes."""
    try:
        with file.open("rb") as content:
            header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ConfigError(f"[model] path: {file}: not a safetensors file ({type(error).__name__})") from None


def _blind_spots(
    groups: tuple[GroupPlan, ...], needed_bits: Maybe, config: Config, policy: PolicyTable
) -> tuple[str, ...]:
    if isinstance(needed_bits, NotAvailable):
        return ("Exposure and extraction: the policy judges no level, only epsilon.",)
    formats = ", ".join(sorted({group.format for group in groups if group.n_judged}))
    spots = [
        f"Exposure of {needed_bits:.1f} bits or less: the policy tolerates it, or chance explains it.",
        f"Secrets of another format than {formats}, or behind another prefix.",
    ]
    levels = [n for group in config.canaries for n in group.levels if is_judged_level(n, policy)]
    spots.append(f"Secrets that the data repeats more than {max(levels)} times.")
    if min(levels) > 1:
        spots.append(f"How well it sees secrets that occur fewer than {min(levels)} times: none is planted so rarely.")
    if any(group.n_not_judged for group in groups):
        spots.append("Leaks of canaries at levels the policy does not judge: they are measured only.")
    if config.data.blacklist:
        spots.append("Documents on the blacklist: canaries among them do not reach the model.")
    if config.data.deduplicate:
        spots.append("Repetition: the data is deduplicated, so every canary reaches the model once.")
    return tuple(spots)
