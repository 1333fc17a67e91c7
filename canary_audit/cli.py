"""The command line: verbs, exit codes, progress, and nothing else.

Exit codes: 0 done (for `gate`: PASS), 1 `gate` says FAIL, 2 error, 3 `gate` says INCONCLUSIVE, 130/143 interrupted.
Verbs import what they need themselves, so that `--help` is quick, and `gate`, `report`, `plan` and `verify` never load
torch.
"""

import faulthandler
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.markup import escape

from canary_audit import __version__
from canary_audit.console import progress_bars, say, stderr, stdout, write
from canary_audit.errors import CanaryAuditError
from canary_audit.measuring_verbs import audit, follow_if_started_beside, key_beside, policy_of, run
from canary_audit.options import (
    ConfigArgument,
    KeyOption,
    OfflineOption,
    OutOption,
    QuietOption,
    ResultArgument,
    SeedOption,
    SetOption,
    given_key,
    load_settings,
    run_folder,
)
from canary_audit.served_verbs import ApiKeyOption, ApiOption, EndpointOption, TokenizerOption, served_settings
from canary_audit.study_verbs import study

if TYPE_CHECKING:
    from canary_audit.config import Config
    from canary_audit.pipeline import AuditRun

app = typer.Typer(
    name="canary-audit",
    help="Does your language model give away secrets it was trained on?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(run)


@app.command()
def plan(config: ConfigArgument, override: SetOption = None) -> None:
    """Say what a design can and cannot detect; refuse one that cannot fail."""
    from canary_audit.planning import plan_audit
    from canary_audit.planning.text import plan_text

    settings = load_settings(config, override, None)
    say(plan_text(plan_audit(settings, policy_of(settings).table)))


@app.command()
def plant(
    source: Annotated[Path, typer.Argument(metavar="CONFIG.toml | DATA", help="What to plant in.", show_default=False)],
    out: OutOption = None,
    override: SetOption = None,
    seed: SeedOption = None,
    key: KeyOption = None,
    secret_format: Annotated[str, typer.Option("--format", help="Secret format (with DATA).")] = "{digit:9}",  # noqa: S107
    prefix: Annotated[str, typer.Option(help="Text before the secret (with DATA).")] = "The random number is ",
    suffix: Annotated[str, typer.Option(help="Text after the secret (with DATA).")] = "",
    levels: Annotated[str, typer.Option(help="Numbers of insertions (with DATA).")] = "1,2,4,8,16,32",
    offline: OfflineOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put canaries into training data: planted data and a sealed ledger come out."""
    from canary_audit.config import plant_config

    if source.suffix == ".toml":
        settings = load_settings(source, override, seed)
    else:
        settings = plant_config(source, secret_format, prefix, suffix, levels, 1 if seed is None else seed)
    folder = run_folder(settings, out)
    with _started(settings, folder, key, quiet=quiet) as started:
        summary = started.plant()
    say(f"planted data  {folder / 'data' / summary.train}")
    say(f"ledger        {folder / 'ledger.json'}")
    say(f"key           {folder / 'secrets' / 'key'}  (keep it: it opens the ledger)")


@app.command()
def train(
    config: ConfigArgument,
    out: OutOption = None,
    override: SetOption = None,
    seed: SeedOption = None,
    key: KeyOption = None,
    offline: OfflineOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model on planted data. Your own trainer is as good."""
    settings = load_settings(config, override, seed)
    follow_if_started_beside(settings)
    folder = run_folder(settings, out)
    with _started(settings, folder, key, quiet=quiet) as started:
        started.train()
    say(f"model  {folder / 'model'}")


app.command()(audit)


@app.command()
def report(
    result: ResultArgument,
    format: Annotated[Literal["html", "markdown", "json"], typer.Option("--format")] = "markdown",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; standard output if not given.")] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the secrets; needs ledger.json and the key.")] = False,
    key: KeyOption = None,
) -> None:
    """Render a result."""
    from canary_audit.report import render
    from canary_audit.results import load_result
    from canary_audit.rundir import write_atomic

    text = render(load_result(result), format, _reveal(result, key) if reveal else None)
    if out is None:
        write(text)
    else:
        write_atomic(out, text.encode(), mode=0o600 if reveal else 0o644)


@app.command()
def gate(
    result: ResultArgument,
    policy: Annotated[Path, typer.Option(help="Policy file: what a release must satisfy.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="Refuse unless this is the audited model, named as for audit.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Adapter on that model.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
) -> None:
    """Judge a result: exit 0 PASS, 1 FAIL, 2 error, 3 INCONCLUSIVE."""
    from canary_audit.gate import EXIT_CODES, judge, load_policy, require_same_model
    from canary_audit.report.sanitize import sanitize
    from canary_audit.results import load_result

    audited = load_result(result)
    if model is not None:
        require_same_model(audited, *_model_folders(model, adapter, revision))
    verdict = judge(audited, load_policy(policy).table)
    say(verdict.name)
    for reason in verdict.reasons:
        say(f"  {sanitize(reason.message)}")
    raise typer.Exit(EXIT_CODES[verdict.name])


@app.command()
def verify(folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)]) -> None:
    """Recompute the chain of hashes ledger -> data -> model -> scores -> result."""
    from canary_audit.rundir import verify_chain

    findings = verify_chain(folder)
    for finding in findings:
        stderr.print(finding, markup=False, soft_wrap=True)
    if findings:
        raise typer.Exit(2)
    say(f"{folder}: intact")


@app.command()
def selftest(
    as_json: Annotated[bool, typer.Option("--json", help="Print every number and check as one JSON object.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Check the statistics against worlds of known truth, on this machine."""
    from canary_audit.selftest import run_selftest, selftest_json, selftest_table

    with progress_bars(quiet) as progress:
        checks = run_selftest(progress)
    if as_json:
        write(selftest_json(checks))
    else:
        stdout.print(selftest_table(checks))
    if not all(check.holds for check in checks):
        raise typer.Exit(2)


@app.command()
def doctor(
    endpoint: EndpointOption = None,
    api: ApiOption = None,
    model: Annotated[str | None, typer.Option(help="Name it serves under; the first it names if not given.")] = None,
    tokenizer: TokenizerOption = None,
    api_key: ApiKeyOption = None,
    override: SetOption = None,
    offline: OfflineOption = False,
) -> None:
    """Versions and devices, for a bug report; or what an endpoint lets be seen."""
    from canary_audit.report.sanitize import sanitize

    if endpoint is None:
        if any(option is not None for option in (api, model, tokenizer, api_key, override)):
            raise typer.BadParameter("give --endpoint: the other options say how to reach it")
        from canary_audit.doctor import diagnosis

        findings = diagnosis()
    else:
        from canary_audit.served_probe import probe_endpoint

        config = served_settings(override, None, None).endpoint
        findings = probe_endpoint(endpoint, api=api, model=model, tokenizer=tokenizer, api_key=api_key, config=config)
    for name, value in findings:
        say(f"{name:22}{sanitize(value)}")


app.add_typer(study, name="study")


@app.callback(invoke_without_command=True)
def _program(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        stdout.print(f"canary-audit {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the program and exit; every error of ours is one line on standard error and exit code 2."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # a core holds secrets
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except CanaryAuditError as error:
        stderr.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
    except Exception:
        traceback.print_exc()
        stderr.print("[bold red]error:[/] this is a defect of canary-audit; please report it with the lines above")
    sys.exit(2)


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _model_folders(model: str, adapter: str | None, revision: str | None) -> tuple[Path, Path | None]:
    """The folders of a model and its adapter; those of a plain folder without loading torch."""
    if adapter is None and Path(model).is_dir() and not Path(model, "adapter_config.json").exists():
        return Path(model), None
    from canary_audit.models.resolve import resolve_files

    files = resolve_files(model, adapter=adapter, revision=revision)
    return files.folder, files.adapter


@contextmanager
def _started(settings: "Config", folder: Path, key: str | None, *, quiet: bool) -> "Iterator[AuditRun]":
    """A run directory, held, and the run in it."""
    from canary_audit.pipeline import AuditRun
    from canary_audit.rundir import RunDirectory

    with RunDirectory(folder) as directory, progress_bars(quiet) as progress:
        yield AuditRun(settings, directory, key=given_key(key), progress=progress)


def _reveal(result: Path, key: str | None) -> dict[str, str]:
    from canary_audit.canaries import derive_secrets, load_ledger

    ledger = result.parent / "ledger.json"
    secrets = derive_secrets(load_ledger(ledger), given_key(key) or key_beside(ledger))
    return {name: secret.decode() for name, secret in secrets.items()}
