"""From the outcomes of all runs to the study: means over seeds, changes at equal loss, the Pareto front."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from canary_audit import __version__
from canary_audit.config import UNDEFENDED, Config, DefenceConfig
from canary_audit.gate import is_judged_level
from canary_audit.planning import plan_audit
from canary_audit.results import LevelResult, Maybe, NotAvailable, PolicyTable
from canary_audit.studies.defences.matched import matched_change
from canary_audit.studies.defences.paper import CARLINI_2019
from canary_audit.studies.defences.plots import point_of
from canary_audit.studies.defences.results import DefenceResult, DefencesStudy, FailedRun, LevelSummary, StudyRun

Outcome = StudyRun | FailedRun


def summarize(
    config: Config,
    policy: PolicyTable,
    defences: Sequence[DefenceConfig],
    outcomes: Mapping[str, Sequence[Outcome]],
) -> DefencesStudy:
    """The study, from the outcomes of each defence in the order of the seeds; `defences` begins with the undefended."""
    spaces = [group.space_bits for group in plan_audit(config, policy).groups]
    plotted = max(level for group in config.canaries for level in group.levels if is_judged_level(level, policy))
    undefended = [run for run in outcomes[UNDEFENDED] if isinstance(run, StudyRun)]
    results = [_defence(defence, outcomes[defence.name], undefended) for defence in defences]
    return DefencesStudy(
        tool_version=__version__,
        name=config.name,
        seeds=tuple(range(config.seed, config.seed + config.study.seeds)),
        source=config.data.source if ":" in config.data.source else Path(config.data.source).name,
        space_bits=max(bits for bits in spaces if not isinstance(bits, NotAvailable)),
        plotted_level=plotted,
        defences=tuple(
            result.model_copy(update={"on_front": _on_front(result, results, plotted)}) for result in results
        ),
        paper=CARLINI_2019,
    )


def _defence(defence: DefenceConfig, outcomes: Sequence[Outcome], undefended: Sequence[StudyRun]) -> DefenceResult:
    runs = [run for run in outcomes if isinstance(run, StudyRun)]
    levels = tuple(_levels(runs))
    loss: Maybe = NotAvailable(not_available="no run ended")
    if runs:
        loss = statistics.fmean(run.validation_bits_per_char for run in runs)
    return DefenceResult(
        name=defence.name,
        about=defence.about,
        runs=tuple(runs),
        failures=tuple(run for run in outcomes if isinstance(run, FailedRun)),
        validation_bits_per_char=loss,
        levels=levels,
        matched=tuple(matched_change(runs, undefended, level.insertions) for level in levels),
        epsilon=_epsilon(runs),
        on_front=False,
    )


def _levels(runs: Sequence[StudyRun]) -> Iterator[LevelSummary]:
    found: dict[tuple[str, int], list[LevelResult]] = {}
    for run in runs:
        for level in run.levels:
            found.setdefault((level.group, level.insertions), []).append(level)
    for (group, insertions), levels in sorted(found.items(), key=lambda entry: entry[0][1]):
        medians = [bits for level in levels if not isinstance(bits := level.median_bits, NotAvailable)]
        yield LevelSummary(
            group=group,
            insertions=insertions,
            bits=statistics.fmean(medians),
            low_bits=min(medians),
            high_bits=max(medians),
            n_extracted=sum(level.n_extracted for level in levels),
            n_canaries=sum(level.n_canaries for level in levels),
        )


def _epsilon(runs: Sequence[StudyRun]) -> Maybe:
    accountings = [run.accounting for run in runs]
    if not accountings:
        return NotAvailable(not_available="no run ended")
    promised: list[float] = []
    for accounting in accountings:
        if isinstance(accounting, NotAvailable):
            return accounting
        promised.append(accounting.epsilon)
    return max(promised)


def _on_front(result: DefenceResult, results: Sequence[DefenceResult], level: int) -> bool:
    mine = point_of(result, level)
    others = [point for other in results if other is not result and (point := point_of(other, level))]
    return mine is not None and not any(
        loss <= mine[0] and bits <= mine[1] and (loss, bits) != mine for loss, bits in others
    )
