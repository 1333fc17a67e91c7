"""`canary-audit study`: one verb for the comparison of defences, and one for each paper."""

import os
from pathlib import Path
from typing import Annotated

import typer

from canary_audit.console import progress_bars, say, stdout, write
from canary_audit.options import (
    OfflineOption,
    OutOption,
    QuietOption,
    SeedOption,
    SetOption,
    given_key,
    load_settings,
    run_folder,
)

PAPER_VERBS = {
    "noise": "When does the model stop learning and start storing? (Arpit et al. 2017)",
    "neighbours": "Does this token come from this row alone? (Cohen et al. 2018)",
    "mixup": "Would a cheap regularizer have prevented it? (Zhang et al. 2018)",
    "learning-order": "Is a leak a property of the data, or an accident of this run? (Hacohen et al. 2020)",
}
"""Verb -> help; named here too, because the experiments take seconds to import."""

study = typer.Typer(help="Train several times over: compare defences, or ask what a paper asks.", no_args_is_help=True)

JobsOption = Annotated[int | None, typer.Option(min=1, help="Runs at a time; two if there are two processors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the whole study as JSON.")]
StudyKeyOption = Annotated[
    str | None, typer.Option("--key", help="Key that secrets derive from, as file:PATH; the seeds if not given.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="digits|mnist|mnist1d|FILE", help="What classifiers learn, in place of the configured data."
    ),
]
OnlyOption = Annotated[list[str] | None, typer.Option("--only", help="Run this experiment only. May be repeated.")]


@study.command("defences")
def study_defences(
    config: Annotated[Path, typer.Argument(help="Configuration file (TOML) with a [study] table.")] = Path(
        "configs/defences.toml"
    ),
    out: OutOption = None,
    override: SetOption = None,
    seed: SeedOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
    key: StudyKeyOption = None,
    offline: OfflineOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare defences at equal validation loss: exposure, extraction, epsilon. Resumes what was interrupted."""
    settings = load_settings(config, override, seed)
    folder = run_folder(settings, out)
    from canary_audit.errors import RunError
    from canary_audit.report.sanitize import sanitize_json
    from canary_audit.studies.defences import study_defences as compare
    from canary_audit.studies.defences.report import summary_table

    with progress_bars(quiet) as progress:
        found = compare(settings, folder, jobs=_jobs(jobs), progress=progress, key=given_key(key))
    if as_json:
        write(sanitize_json(found.to_json()))
    else:
        stdout.print(summary_table(found))
        say(f"report  {folder / 'study.html'}")
    if failed := sum(len(defence.failures) for defence in found.defences):
        raise RunError(f"{folder}: {failed} runs failed; study.md says why; the same command tries them again")


def _add_paper(name: str, about: str) -> None:
    """The verb of one paper."""

    @study.command(name, help=f"{about} Resumes what was interrupted.")
    def verb(
        config: Annotated[Path, typer.Argument(help="Configuration file (TOML).")] = Path(f"configs/{name}.toml"),
        out: OutOption = None,
        data: DataOption = None,
        only: OnlyOption = None,
        override: SetOption = None,
        seed: SeedOption = None,
        jobs: JobsOption = None,
        as_json: JsonOption = False,
        key: StudyKeyOption = None,
        offline: OfflineOption = False,
        quiet: QuietOption = False,
    ) -> None:
        settings = load_settings(config, override, seed)
        if data is not None:
            settings = settings.model_copy(update={"study": settings.study.model_copy(update={"data": data})})
        folder = run_folder(settings, out)
        # The rest takes seconds to import, and mistakes in a configuration are told before.
        from canary_audit.report.sanitize import sanitize_json
        from canary_audit.studies.conduct import conduct
        from canary_audit.studies.page import answers, summary_table
        from canary_audit.studies.papers import PAPERS

        with progress_bars(quiet) as progress:
            found = conduct(
                PAPERS[name],
                settings,
                folder,
                jobs=_jobs(jobs),
                only=tuple(only or ()),
                key=given_key(key),
                progress=progress,
            )
        if as_json:
            write(sanitize_json(found.to_json()))
            return
        stdout.print(summary_table(found))
        for answer in answers(found):
            say(answer)
        say(f"report  {folder / 'study.html'}")


def _jobs(asked: int | None) -> int:
    return asked or min(2, os.cpu_count() or 1)


for _name, _about in PAPER_VERBS.items():
    _add_paper(_name, _about)
