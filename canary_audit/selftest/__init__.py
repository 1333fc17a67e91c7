"""Does this installation measure what it says? The calibration tests in short, on worlds whose truth is known.

Seeds are pinned, and limits leave so much room for chance that a correct program passes whatever the generator draws.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table

from canary_audit.selftest import epsilon, exposure
from canary_audit.selftest.checks import Check

_CHECKS: tuple[Callable[[], Iterable[Check]], ...] = (
    exposure.exact_ranks,
    exposure.estimated_ranks,
    exposure.null_p_values,
    exposure.holm_errors,
    exposure.binomial_coverage,
    exposure.certified_extraction,
    exposure.memorized_is_found,
    exposure.null_is_not_found,
    epsilon.fixed_guesses,
    epsilon.grid_of_guesses,
)


def run_selftest(progress: Callable[[str, int, int], None]) -> tuple[Check, ...]:
    """Run all checks; `progress` is told what is being done, how much of it is, and out of how much.

    Raises:
        CanaryAuditError: the program refused a world that it should measure.
    """
    checks: list[Check] = []
    for place, run in enumerate(_CHECKS):
        progress("self-test", place, len(_CHECKS))
        checks.extend(run())
    progress("self-test", len(_CHECKS), len(_CHECKS))
    return tuple(checks)


def selftest_table(checks: Iterable[Check]) -> Table:
    """The checks as a table for the terminal."""
    table = Table("check", "measured", "required", "")
    for check in checks:
        table.add_row(check.name, check.measured, check.required, "holds" if check.holds else "[bold red]FAILS[/]")
    return table


def selftest_json(checks: Iterable[Check]) -> str:
    """One JSON object: the numbers of all checks, nested by their dotted names, and under `checks` what each says."""
    content: dict[str, Any] = {"checks": []}
    for check in checks:
        said = {"name": check.name, "measured": check.measured, "required": check.required, "holds": bool(check.holds)}
        content["checks"].append(said)
        for dotted, number in check.numbers.items():
            *tables, name = dotted.split(".")
            place = content
            for table in tables:
                place = place.setdefault(table, {})
            place[name] = number
    content["holds"] = all(said["holds"] for said in content["checks"])
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
