"""A result in which every string is hostile, and what must never be seen of it."""

import itertools
import unicodedata
from typing import Any

import result_factory
from pydantic import BaseModel

from canary_audit.results import AuditResult, NotAvailable, PaperEstimate, parse_result

PAYLOADS = (
    "</script><img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "nul\x00byte",
    "::add-mask::x",
    "line\n::set-output name=a::b\r\n  ::stop-commands::t",
    "##[add-mask]x ##vso[task.setvariable variable=a]b",
    "[bold]x[/bold] [link=https://evil.example]y[/link]",
    "\u202eexe.txt\u2066\u2069\u200f\U000e0041\ufeff",
    '=HYPERLINK("https://evil.example")',
    "{{7*7}}{% raw %}{# x #}",
    "javascript:alert(1)",
    "[click](javascript:alert(1)) ![img](https://evil.example/x.png)",
    "a|b`c``d <b>e</b> @someone https://evil.example www.evil.example me@evil.example",
    "```\n# heading\n---\n| a | b |",
    "\" onmouseover=\"alert(1)\" ' style='color:red'",
    "]]><!-- &lt; $x^2$ \\ --> \x85\u2028\u2029\x9b31m",
    "-- -1+1 ~~x~~ <https://evil.example>",
)
"""What an attacker might put in a model name, a prefix or a path."""

_CLOSED_FIELDS = frozenset(
    {
        *("verdict", "role", "method", "status", "tier"),
        *("assumption", "epsilon_assumption", "sampling", "accountant", "sample"),
    }
)
"""Fields with a closed set of values."""


def hostile_result(first: int = 0) -> AuditResult:
    """A whole audit with all the parts there are, and payloads in every string; `first` rotates which goes where."""
    missing = NotAvailable(not_available="why")
    estimate = PaperEstimate(
        method="skew-normal", bits=3.0, low=2.0, high=4.0, n_references=9, goodness_of_fit_p=missing, capped=False
    )
    canaries = tuple(
        canary.model_copy(update={"paper_estimates": (estimate,)}) for canary in result_factory.leaking_canaries()
    )
    result = result_factory.make_result(
        canaries=canaries,
        epsilon=result_factory.make_private_epsilon(16, 4),
        membership=(
            result_factory.make_membership(),
            result_factory.make_membership("zlib", primary=False),
            result_factory.make_membership("ez-mia", sample="rows"),
        ),
    )
    return parse_result(_poison(result.model_dump(mode="json"), payloads(first)), "hostile")


def unavailable_result(first: int = 0) -> AuditResult:
    """As much as can be missing is missing, for hostile reasons."""
    missing = NotAvailable(not_available="why")
    result = result_factory.make_result(training=missing, data=missing, epsilon=missing)
    return parse_result(_poison(result.model_dump(mode="json"), payloads(first)), "hostile")


def served_results(first: int = 0) -> tuple[AuditResult, ...]:
    """Served models of hostile people, and one that no policy has judged."""
    missing = NotAvailable(not_available="why")
    made = (
        result_factory.make_served_result("top-k", policy=missing, policy_sha256=missing),
        result_factory.make_served_result("text-only"),
    )
    return tuple(parse_result(_poison(one.model_dump(mode="json"), payloads(first)), "hostile") for one in made)


def payloads(first: int) -> "itertools.cycle[str]":
    return itertools.cycle(PAYLOADS[first % len(PAYLOADS) :] + PAYLOADS[: first % len(PAYLOADS)])


def _poison(value: Any, source: "itertools.cycle[str]", field: str = "") -> Any:
    """Every free string replaced; group names alike everywhere, so that the parts still belong together."""
    if isinstance(value, dict):
        free_keys = field in {"details", "files", "exposure_by_level"}
        return {
            (f"{next(source)} {key}" if free_keys else key): _poison(item, source, key) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_poison(item, source, field) for item in value]
    if not isinstance(value, str) or field in _CLOSED_FIELDS or (field == "max_insertions"):
        return value
    return PAYLOADS[0] if field == "group" or value == result_factory.GROUP else next(source)


def assert_inert(text: str) -> None:
    """No control or invisible character but line feeds, and no line that a CI system would take for a command."""
    invisible = {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - {"\n"}
    assert invisible == set()
    for line in text.splitlines():
        assert not line.lstrip().startswith("::"), line
        assert "##[" not in line
        assert "##vso[" not in line


def strings(value: Any) -> list[str]:
    """All strings of a result, keys of free dictionaries included."""
    if isinstance(value, BaseModel):
        return strings(value.model_dump())
    if isinstance(value, dict):
        return [text for item in value.items() for text in strings(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []
