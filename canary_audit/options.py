"""Options that several verbs share, and what they stand for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canary_audit.errors import LedgerError

if TYPE_CHECKING:
    from canary_audit.config import Config


def go_offline() -> None:
    """Tell the libraries that look on a hub, before any of them is imported."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")


ConfigArgument = Annotated[Path, typer.Argument(help="Configuration file (TOML).", show_default=False)]
ResultArgument = Annotated[Path, typer.Argument(help="A result.json.", show_default=False)]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run directory; reports/NAME if not given.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one value: table.key=value. May be repeated.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Override the configuration's seed.")]
KeyOption = Annotated[
    str | None, typer.Option("--key", help="Key that secrets derive from, as file:PATH; secrets/key if not given.")
]
OfflineOption = Annotated[
    bool,
    typer.Option("--offline", help="Never look on a network.", callback=lambda asked: go_offline() if asked else None),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")]


def load_settings(path: Path, override: list[str] | None, seed: int | None) -> "Config":
    """The configuration in a file, with what `--set` and `--seed` change.

    Raises:
        ConfigError: it cannot be read, or holds what is not allowed.
    """
    from canary_audit.config import load_config

    given = list(override or [])
    if seed is not None:
        given.append(f"seed={seed}")
    return load_config(path, tuple(given))


def run_folder(settings: "Config", out: Path | None) -> Path:
    """Where a run leaves what it makes."""
    return out or Path("reports") / settings.name


def given_key(reference: str | None) -> bytes | None:
    """The key that `--key file:PATH` names.

    Raises:
        LedgerError: it names none.
    """
    if reference is None:
        return None
    from canary_audit.canaries import load_key

    kind, _, place = reference.partition(":")
    if kind != "file" or not place:
        raise LedgerError("--key: write it as file:PATH; a key on the command line would be seen by others")
    return load_key(Path(place))
