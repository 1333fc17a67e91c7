"""The verbs that measure: `run` from a configuration, `audit` of a model that is there already."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from canary_audit.console import progress_bars, say, stdout
from canary_audit.options import (
    ConfigArgument,
    KeyOption,
    OfflineOption,
    OutOption,
    QuietOption,
    SeedOption,
    SetOption,
    given_key,
    load_settings,
    run_folder,
)
from canary_audit.served_verbs import (
    ApiKeyOption,
    ApiOption,
    EndpointOption,
    MaxCallsOption,
    MaxTokensOption,
    TierOption,
    TokenizerOption,
    find_tokenizer,
    journal_in,
    named_api,
    served_settings,
)

if TYPE_CHECKING:
    from canary_audit.config import Config
    from canary_audit.gate import Policy
    from canary_audit.results import AuditResult


_LONGEST_FOLDER_NAME = 100
"""Characters; a server may use names that no folder could have."""


class _Common(TypedDict):
    """What the audits of weights and of served models are told alike."""

    key: bytes
    validation: Path | None
    seed: int
    on_progress: Callable[[int, int], None]


def run(
    config: ConfigArgument,
    out: OutOption = None,
    override: SetOption = None,
    seed: SeedOption = None,
    key: KeyOption = None,
    offline: OfflineOption = False,
    quiet: QuietOption = False,
) -> None:
    """Plan, plant, train, measure and judge. Resumes what was interrupted."""
    settings = load_settings(config, override, seed)
    follow_if_started_beside(settings)
    folder, policy, own_key = run_folder(settings, out), policy_of(settings), given_key(key)
    from canary_audit.pipeline import run_audit  # takes seconds: mistakes are told before

    with progress_bars(quiet) as progress:
        result = run_audit(settings, policy, folder, key=own_key, progress=progress)
    _print_result(result, folder / "report.html")


def audit(
    config: Annotated[Path | None, typer.Argument(help="Configuration file, or:", show_default=False)] = None,
    ledger: Annotated[Path | None, typer.Option(help="ledger.json of planted data.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model trained on it: a folder, a .gguf file, or a name on the Hugging Face Hub; with --endpoint, the "
            "name it is served under."
        ),
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter on that model: a folder or a name.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
    endpoint: EndpointOption = None,
    api: ApiOption = None,
    tier: TierOption = None,
    tokenizer: TokenizerOption = None,
    api_key: ApiKeyOption = None,
    max_calls: MaxCallsOption = None,
    max_tokens: MaxTokensOption = None,
    data: Annotated[Path | None, typer.Option(help="Planted data; data/train.* beside the ledger if there.")] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Held-out text; data/validation.* beside the ledger if there.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file (with --ledger); an endpoint may be measured without.")
    ] = None,
    out: OutOption = None,
    override: SetOption = None,
    seed: SeedOption = None,
    key: KeyOption = None,
    offline: OfflineOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure exposure and extraction; writes result.json and report.html."""
    weights, window = (adapter, revision, data), (api, tier, tokenizer, api_key, max_calls, max_tokens)
    if config is not None:
        alone = "a configuration file says all there is to say; leave --ledger and its like out"
        _refuse((ledger, model, validation, policy, endpoint, *weights, *window), alone)
        run(config, out=out, override=override, seed=seed, key=key, quiet=quiet)
        return
    if ledger is None or model is None or (endpoint is None and policy is None):
        raise typer.BadParameter(
            "give a configuration file; or --ledger, --model and --policy; or --ledger, --model, --endpoint and --api"
        )
    if endpoint is None:
        _refuse(window, "--api, --tier, --tokenizer, --api-key, --max-calls and --max-tokens are for --endpoint")
    else:
        _refuse(weights, "a served model takes no --adapter, --revision or --data")
        named_api(api)
    from canary_audit.canaries import load_ledger
    from canary_audit.gate import load_policy
    from canary_audit.report import render
    from canary_audit.rundir import RunDirectory, write_atomic

    folder = out or Path("reports") / Path(model).resolve().name[:_LONGEST_FOLDER_NAME]
    files = [folder / "result.json", folder / "report.html"]
    judged = None if policy is None else load_policy(policy)
    load_ledger(ledger)  # before its key is looked for beside it
    with RunDirectory(folder) as directory, progress_bars(quiet) as progress:
        progress("measuring", 0, 1)
        common: _Common = {
            "key": given_key(key) or key_beside(ledger),
            "validation": validation or _beside(ledger, "validation"),
            "seed": 1 if seed is None else seed,
            "on_progress": lambda done, total: progress("measuring", done, total),
        }
        if endpoint is not None:
            from canary_audit.served_model import Served, audit_served_model

            served = Served(
                url=endpoint,
                api=named_api(api),
                model=model,
                api_key=api_key,
                tier=tier,
                tokenizer=find_tokenizer(tokenizer, model, ledger, api=api, tier=tier),
            )
            settings = served_settings(override, max_calls, max_tokens)
            journal = journal_in(folder)
            result = audit_served_model(ledger, served, judged, settings=settings, journal=journal, **common)
        else:
            from canary_audit.config import measuring_config
            from canary_audit.existing_model import audit_model

            tables = measuring_config(tuple(override or ()))
            result = audit_model(
                ledger,
                model,
                judged,
                adapter=adapter,
                revision=revision,
                data=data or _beside(ledger, "train"),
                settings=tables.audit,
                recipe=tables.training,
                **common,
            )
        write_atomic(files[0], result.to_json().encode())
        write_atomic(files[1], render(result, "html").encode())
        directory.record("result", {"ledger": result.ledger_sha256, "model": result.model.fingerprint}, files)
    _print_result(result, files[1])


def _refuse(options: Sequence[object], why: str) -> None:
    if any(option is not None for option in options):
        raise typer.BadParameter(why)


def follow_if_started_beside(settings: "Config") -> None:
    """Of several processes that torchrun started, all but the first only help to train."""
    if os.environ.get("RANK", "0") == "0":
        return
    from canary_audit.training.loop import follow

    follow(settings.training.device)
    raise typer.Exit


def policy_of(settings: "Config") -> "Policy":
    from canary_audit.gate import load_policy

    return load_policy(Path(settings.policy.path))


def key_beside(ledger: Path) -> bytes:
    from canary_audit.canaries import load_key

    return load_key(ledger.parent / "secrets" / "key")


def _beside(ledger: Path, name: str) -> Path | None:
    """`data/NAME.*` in the ledger's folder, if it is there."""
    return next(iter(sorted((ledger.parent / "data").glob(f"{name}.*"))), None)


def _print_result(result: "AuditResult", page: Path) -> None:
    from canary_audit.report.sanitize import sanitize
    from canary_audit.report.terminal import summary

    stdout.print(summary(result))
    say(f"report  {sanitize(str(page))}")
