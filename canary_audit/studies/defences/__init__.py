"""`study defences`: does a defence lower exposure, or only training?

Every defence is trained with several seeds. A seed has one key, so fresh secrets, and all defences of a seed share
them, the data and its split: they are compared in pairs, and the seeds are independent of each other.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from canary_audit.config import UNDEFENDED, Config, DefenceConfig, validate_table
from canary_audit.errors import ConfigError
from canary_audit.gate import is_judged_level, load_policy
from canary_audit.planning import plan_audit
from canary_audit.results import NotAvailable, PolicyTable
from canary_audit.rundir import RunDirectory, write_atomic
from canary_audit.studies.defences.report import render_html, render_markdown
from canary_audit.studies.defences.results import DefencesStudy, FailedRun, StudyRun
from canary_audit.studies.defences.run import Rounding, Task, run_task
from canary_audit.studies.defences.summary import summarize
from canary_audit.studies.experiment import seed_key
from canary_audit.studies.processes import Lost, work

Progress = Callable[[str, int, int], None]
Outcome = StudyRun | FailedRun

_NOTHING = DefenceConfig.model_construct(name=UNDEFENDED, about="the configuration as it is")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One defence with one seed."""

    defence: DefenceConfig
    seed: int


def study_defences(
    config: Config, folder: Path, *, jobs: int, progress: Progress, key: bytes | None = None
) -> DefencesStudy:
    """Train and measure every defence of `config.study` and the undefended model, and compare them.

    Writes `study.json`, `study.html` and `study.md` into `folder`, and every run into `folder/runs`. Runs that are done
    are not done again. A run that fails is reported and does not end the others.

    Args:
        jobs: runs at a time, each in a process of its own; with 1, all in this one.
        progress: told (what, runs done, runs in all).
        key: what the secrets of all seeds derive from. Without one they derive from the seeds alone, so that the study
            can be repeated; so does the noise of DP-SGD, and then no model of the study is one to release.

    Raises:
        ConfigError: the configuration, or that of a defence, cannot be run or compared.
    """
    policy = load_policy(Path(config.policy.path)).table
    _check(config, policy)
    defences = (_NOTHING, *config.study.defences)
    configs = {defence.name: _defended(config, defence) for defence in defences}
    with RunDirectory(folder) as directory:
        outcomes: dict[tuple[str, int], Outcome] = {}
        waves = _waves(defences, _seeds(config))
        n_runs = sum(map(len, waves))
        for wave in waves:
            for job, outcome in _run(wave, configs, outcomes, directory.root, jobs, key):
                outcomes[job.defence.name, job.seed] = outcome
                progress("runs", len(outcomes), n_runs)
        by_name = {one.name: [outcomes[one.name, seed] for seed in _seeds(config)] for one in defences}
        study = summarize(config, policy, defences, by_name)
        write_atomic(directory.path("study.json"), study.to_json().encode())
        write_atomic(directory.path("study.html"), render_html(study).encode())
        write_atomic(directory.path("study.md"), render_markdown(study).encode())
    return study


def _seeds(config: Config) -> tuple[int, ...]:
    return tuple(range(config.seed, config.seed + config.study.seeds))


def _waves(defences: Sequence[DefenceConfig], seeds: Sequence[int]) -> list[list[_Job]]:
    """Undefended runs first, because others need what they trained or when they were best."""
    first = [_Job(defence=_NOTHING, seed=seed) for seed in seeds]
    rest = [_Job(defence=defence, seed=seed) for defence in defences[1:] for seed in seeds]
    return [first, rest]


def _run(
    wave: Sequence[_Job],
    configs: dict[str, Config],
    outcomes: dict[tuple[str, int], Outcome],
    root: Path,
    jobs: int,
    key: bytes | None,
) -> Iterator[tuple[_Job, Outcome]]:
    """Outcomes of one wave, in the order in which they come."""
    ready: list[tuple[_Job, Task]] = []
    for job in wave:
        undefended = outcomes.get((UNDEFENDED, job.seed))
        if isinstance(undefended, FailedRun) and _needs_undefended(job.defence):
            yield job, FailedRun(seed=job.seed, reason="it starts from the undefended run of its seed, which failed")
        else:
            ready.append((job, _task(job, configs[job.defence.name], undefended, root, key)))
    with closing(work(run_task, [task for _, task in ready], jobs)) as answers:
        for place, answer in answers:
            job = ready[place][0]
            yield job, _lost(job.seed, answer) if isinstance(answer, Lost) else answer


def _needs_undefended(defence: DefenceConfig) -> bool:
    return defence.quantize_bits is not None or defence.stop_at is not None


def _task(job: _Job, config: Config, undefended: Outcome | None, root: Path, key: bytes | None) -> Task:
    defence, seed = job.defence, job.seed
    config = config.model_copy(update={"seed": seed})
    if defence.stop_at is not None and isinstance(undefended, StudyRun):
        config = _stopped(config, undefended, defence.stop_at)
    return Task(
        defence=defence.name,
        config=config,
        key=seed_key(key, seed),
        folder=_run_folder(root, defence.name, seed),
        rounding=(
            Rounding(bits=defence.quantize_bits, undefended=_run_folder(root, UNDEFENDED, seed))
            if defence.quantize_bits
            else None
        ),
    )


def _run_folder(root: Path, defence: str, seed: int) -> Path:
    return root / "runs" / defence / f"seed-{seed}"


def _stopped(config: Config, undefended: StudyRun, stop_at: float) -> Config:
    losses = [epoch.validation_bits_per_char for epoch in undefended.epochs]
    best = 1 + losses.index(min(loss for loss in losses if not isinstance(loss, NotAvailable)))
    training = config.training.model_copy(update={"epochs": max(1, round(stop_at * best))})
    return config.model_copy(update={"training": training})


def _lost(seed: int, lost: Lost) -> FailedRun:
    return FailedRun(seed=seed, reason=f"its process ended without an answer (exit code {lost.exit_code})")


def _defended(config: Config, defence: DefenceConfig) -> Config:
    """The configuration of a defence's runs."""
    raw = config.model_dump(exclude={"study"})
    raw["training"] |= {"track_exposure": True}
    for table in ("data", "training", "privacy"):
        if changes := getattr(defence, table):
            raw[table] = {**(raw[table] or {}), **changes}
    return validate_table(Config, raw, f"[study] defence {defence.name}")


def _check(config: Config, policy: PolicyTable) -> None:
    """Refuse, before anything is trained, what could not be compared in the end."""
    plan_audit(config, policy)
    if not config.study.defences:
        raise ConfigError("[study] defences: there is nothing to compare; name some, as configs/defences.toml does")
    if config.data.validation_fraction == 0:
        raise ConfigError("[data] validation_fraction: defences are compared at equal validation loss; hold some out")
    if config.training.epochs == 0:
        raise ConfigError("[training] epochs: 0 epochs train nothing that a defence could change")
    levels = [level for group in config.canaries for level in group.levels]
    if not any(is_judged_level(level, policy) for level in levels):
        raise ConfigError(
            "[[canaries]] levels: defences are compared at the levels that the policy judges; it judges none"
        )
    if len(set(levels)) < len(levels):
        raise ConfigError(
            "[[canaries]] levels: two groups have a level of the same number of insertions. Exposure is tracked by "
            "that number, so in a study every group needs levels of its own, such as [1, 4, 8] and [10]"
        )
