"""Conduct the study of one paper: run its experiments, two at a time, and leave one page.

Each experiment has a folder of its own. One that is done is not done again, and one that fails takes no other with it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from canary_audit import __version__
from canary_audit.config import Config
from canary_audit.errors import CanaryAuditError, ConfigError, RunError
from canary_audit.models.determinism import reproducible
from canary_audit.rundir import RunDirectory, canonical_json, digest, sha256_file, write_atomic
from canary_audit.stamps import Stamps
from canary_audit.studies.classifiers.datasets import load_dataset
from canary_audit.studies.experiment import Experiment, Paper, Setting
from canary_audit.studies.findings import PaperStudy, Section
from canary_audit.studies.page import render_html, render_markdown
from canary_audit.studies.papers import PAPERS
from canary_audit.studies.processes import Lost, work

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One experiment, as it is sent to the process that runs it."""

    paper: str
    experiment: str
    config: Config
    folder: Path
    key: bytes | None


@dataclass(frozen=True, kw_only=True)
class _Failure:
    reason: str


def conduct(
    paper: Paper,
    config: Config,
    folder: Path,
    *,
    jobs: int,
    only: tuple[str, ...] = (),
    key: bytes | None = None,
    progress: Progress = lambda what, done, total: None,
) -> PaperStudy:
    """Run the experiments of `paper`; writes `study.json`, `study.html` and `study.md` into `folder`.

    Args:
        jobs: experiments at a time, each in a process of its own; with 1, all in this one.
        only: names of experiments; all of them if empty.
        key: what secrets derive from; from the seeds alone if there is none.
        progress: told (what, experiments done, experiments in all).

    Raises:
        ConfigError, DataError: there is no such experiment, or the data cannot be used; nothing has been run.
        RunError: experiments failed; the others are done and will not be done again.
    """
    chosen = paper.chosen(only)
    if config.seed < 0:
        raise ConfigError(f"seed {config.seed}: a study draws from its seeds; choose one of 0 or more")
    dataset = load_dataset(config.study) if any(one.kind == "classifiers" for one in chosen) else None
    with RunDirectory(folder) as directory:
        tasks = [
            _Task(paper=paper.name, experiment=one.name, config=config, folder=directory.path(one.name), key=key)
            for one in chosen
        ]
        sections = _sections(tasks, jobs, progress)
        study = PaperStudy(
            study=paper.name,
            tool_version=__version__,
            title=paper.title,
            source=paper.source,
            question=paper.question,
            dataset=dataset.name if dataset else "",
            seeds=tuple(range(config.seed, config.seed + config.study.seeds)),
            sections=tuple(sections),
        )
        write_atomic(directory.path("study.json"), study.to_json().encode())
        write_atomic(directory.path("study.html"), render_html(study).encode())
        write_atomic(directory.path("study.md"), render_markdown(study).encode())
    return study


def _sections(tasks: Sequence[_Task], jobs: int, progress: Progress) -> list[Section]:
    """What the experiments found, in the order of the tasks."""
    found: dict[int, Section] = {}
    failed: list[str] = []
    progress("experiments", 0, len(tasks))
    with closing(work(_run, tasks, min(jobs, len(tasks)))) as answers:
        for done, (place, answer) in enumerate(answers, start=1):
            progress("experiments", done, len(tasks))
            if isinstance(answer, Section):
                found[place] = answer
            else:
                failed.append(f"{tasks[place].experiment}: {_reason(answer)}")
    if failed:
        raise RunError("; ".join(failed) + "; what the other experiments found is kept, run the same command again")
    return [found[place] for place in range(len(tasks))]


def _reason(answer: Lost | _Failure) -> str:
    if isinstance(answer, Lost):
        return f"its process ended without an answer (exit code {answer.exit_code})"
    return answer.reason


def _run(task: _Task) -> Section | _Failure:
    """Run one experiment, or read what it found before."""
    experiment = next(one for one in PAPERS[task.paper].experiments if one.name == task.experiment)
    try:
        with RunDirectory(task.folder) as directory:
            inputs = _inputs(task, experiment, directory)
            path = directory.path("section.json")
            if not directory.is_done("section", inputs):
                setting = Setting(config=task.config, folder=directory.root, key=task.key)
                threads = task.config.training.threads
                with threadpool_limits(threads), reproducible(threads, task.config.training.device):
                    section = experiment.run(setting)
                write_atomic(path, section.model_dump_json().encode())
                directory.record("section", inputs, [path])
            return Section.model_validate_json(path.read_bytes())
    except CanaryAuditError as error:
        return _Failure(reason=str(error))
    except (OSError, ValidationError):
        return _Failure(reason=f"{task.folder}: damaged; remove it and run again")


def _inputs(task: _Task, experiment: Experiment, directory: RunDirectory) -> dict[str, str]:
    """What a section depends on."""
    stamps = Stamps(task.config, directory)
    study = task.config.study
    inputs = {
        "config": stamps.config(),
        "study": digest(canonical_json(study.model_dump(mode="json", exclude={"data_folder"}))),
        "seed": digest(str(task.config.seed)),
        "key": digest(task.key.hex() if task.key else ""),
        "version": digest(__version__),
        **dict(_data_hashes(task, experiment)),
    }
    if experiment.kind == "language":
        inputs |= {"source": stamps.source(), **stamps.pretrained()}
    return inputs


def _data_hashes(task: _Task, experiment: Experiment) -> Iterator[tuple[str, str]]:
    study = task.config.study
    if experiment.kind == "classifiers":
        yield from (("data", sha256_file(path)) for path in [Path(study.data)] if path.is_file())
