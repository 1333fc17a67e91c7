"""The section on a language model's tokens and their neighbours."""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.neighbours.datastore import MOST_STATES, N_VOTES, WINDOW
from canary_audit.studies.neighbours.support import CanarySupport, SeedSupport, Support

_NUMBERS = {
    "model right": "right",
    "P_SAME, own copies kept": "kept",
    "P_SAME, own text left out": "excluded",
    "right only with its own rows": "stored",
}


def language_section(seeds: Sequence[SeedSupport]) -> Section:
    """Tell what the models of all seeds showed."""
    groups = _groups(seeds)
    return Section(
        experiment="language",
        title="Neighbours of a language model's tokens",
        answer=_answer(seeds),
        findings=_findings(seeds),
        trends=(_trend(seeds),),
        grids=(_group_grid(groups), _canary_grid(seeds)),
        charts=(_chart(groups),),
    )


def _groups(seeds: Sequence[SeedSupport]) -> dict[str, list[Support]]:
    """Kind of token -> its numbers for each seed."""
    parts: dict[str, Callable[[SeedSupport], Support]] = {
        f"secrets inserted {level}x": _secrets_of(level) for level in sorted(seeds[0].secrets)
    }
    parts |= {"words before the secret": attrgetter("template"), "ordinary text": attrgetter("ordinary")}
    return {name: [part(seed) for seed in seeds] for name, part in parts.items()}


def _secrets_of(level: int) -> Callable[[SeedSupport], Support]:
    return lambda seed: seed.secrets[level]


def _mean(supports: Sequence[Support], number: str) -> float:
    """Over the seeds for which it is defined, or NaN."""
    defined = [value for one in supports if not math.isnan(value := getattr(one, number))]
    return sum(defined) / len(defined) if defined else math.nan


def _most(seeds: Sequence[SeedSupport]) -> tuple[int, list[Support]]:
    """The secrets inserted most often."""
    level = max(seeds[0].secrets)
    return level, [seed.secrets[level] for seed in seeds]


def _answer(seeds: Sequence[SeedSupport]) -> str:
    level, secrets = _most(seeds)
    canaries = [one for seed in seeds for one in seed.canaries]
    n_stored = sum(one.verdict == "only because of its row" for one in canaries)
    return (
        f"For {n_stored} of {len(canaries)} inserted secrets, yes: the model produces most of their tokens, and its "
        "neighbours in the rest of the corpus would not. "
        f"For secrets inserted {level} times, neighbours agree with the model on {_percent(_mean(secrets, 'kept'))} of "
        f"the tokens with the secret's own rows and on {_percent(_mean(secrets, 'excluded'))} without them."
    )


def _findings(seeds: Sequence[SeedSupport]) -> tuple[str, ...]:
    template, ordinary = ([attrgetter(part)(seed) for seed in seeds] for part in ("template", "ordinary"))
    return (
        "For every predicted token of the training rows, the hidden state before it was put in a store with the token "
        f"that came ({seeds[0].n_states:,} states with the first seed; beyond {MOST_STATES:,}, rows are sampled, but "
        "those of canaries all kept). "
        f"The model's likeliest token was compared with that of the {N_VOTES} nearest states by Euclidean distance: "
        "first among all of them, then without every copy of the token's own text and "
        f"without the {WINDOW} tokens to either side in its row. Other canaries of the same format stay.",
        "The words before a secret stand in other rows too: without their own text, neighbours agree with the model "
        f"on {_percent(_mean(template, 'excluded'))} of them. For ordinary text of the corpus it is "
        f"{_percent(_mean(ordinary, 'excluded'))}, after {_percent(_mean(ordinary, 'kept'))} with it.",
        "A token counts as stored if the model has it right and the neighbours without its own text vote for another. "
        "A digit comes out right by chance in one of ten cases, so a verdict rests on half of a secret's tokens. "
        "Copies are told by equal text: a secret quoted in a longer document is not left out with it. "
        "A secret that the model does not hold likeliest may still be exposed; exposure measures that.",
    )


def _trend(seeds: Sequence[SeedSupport]) -> Trend:
    level, secrets = _most(seeds)
    template = _mean([seed.template for seed in seeds], "excluded")
    kept, excluded = _mean(secrets, "kept"), _mean(secrets, "excluded")
    return Trend(
        id="C4",
        claim="neighbours without a token's own rows tell stored tokens from learned ones",
        paper="none: carried over to language models here",
        ours=f"P_SAME, words before the secret, own text left out: {template:.3f}; "
        f"secrets inserted {level}x: {kept:.3f} kept, {excluded:.3f} left out",
        criterion="words before the secret at least .95; secrets inserted most often fall by at least .5",
        holds=template >= 0.95 and kept - excluded >= 0.5,
    )


def _group_grid(groups: dict[str, list[Support]]) -> Grid:
    return Grid(
        caption="Shares of tokens, means over the seeds. P_SAME: the model's likeliest token is that of its neighbours",
        columns=("tokens", "number, all seeds", *_NUMBERS),
        rows=tuple(
            (
                name,
                f"{sum(one.n_tokens for one in own):,}",
                *(_shown(_mean(own, number)) for number in _NUMBERS.values()),
            )
            for name, own in groups.items()
        ),
    )


def _canary_grid(seeds: Sequence[SeedSupport]) -> Grid:
    def row(seed: SeedSupport, one: CanarySupport) -> tuple[str, ...]:
        numbers = (_shown(getattr(one.secret, number)) for number in _NUMBERS.values())
        return (one.canary, str(seed.seed), str(one.insertions), *numbers, one.verdict)

    return Grid(
        caption="Every inserted canary: shares of its secret's tokens, and whether the model produces them only "
        "because its row was in the data (at least half of the tokens are right, and only with the canary's own rows)",
        columns=("canary", "seed", "insertions", *_NUMBERS, "produced"),
        rows=tuple(row(seed, one) for seed in seeds for one in seed.canaries),
    )


def _chart(groups: dict[str, list[Support]]) -> Chart:
    def series(name: str, number: str) -> Series:
        return Series(
            name=name,
            x=tuple(range(len(groups))),
            y=tuple(_finite(_mean(own, number)) for own in groups.values()),
            low=tuple(min(_finite(getattr(one, number)) for one in own) for own in groups.values()),
            high=tuple(max(_finite(getattr(one, number)) for one in own) for own in groups.values()),
        )

    return Chart(
        kind="bars",
        caption="Tokens on which the model agrees with its neighbours, with and without the tokens' own text",
        x_label="tokens",
        y_label="P_SAME",
        series=(series("own copies kept", "kept"), series("own text left out", "excluded")),
        names=tuple(groups),
    )


def _finite(number: float) -> float:
    return 0.0 if math.isnan(number) else number


def _shown(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.2f}"


def _percent(share: float) -> str:
    return "none" if math.isnan(share) else f"{share:.0%}"
