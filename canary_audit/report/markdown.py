"""The report as compact Markdown, for a comment on a pull request."""

import re
from collections.abc import Iterable, Mapping

from canary_audit.report import access, extracted, facts, known, membership, numbers, privacy
from canary_audit.report.figures import Figure
from canary_audit.report.sanitize import sanitize
from canary_audit.results import AuditResult, CanaryResult, LevelResult, NotAvailable

_SYNTAX = re.compile(r"[\\`*_{}\[\]<>#|~&$!]|(?<=www)\.|:(?=//)|^[=+\-@]")
"""Markdown syntax anywhere, link-like text, and what a list or a spreadsheet formula starts with."""

_WORD_JOINER = "&#8288;"
"""Invisible; after an at sign it keeps a name from becoming a mention or a mail address."""


def render_markdown(result: AuditResult, secrets: Mapping[str, str] | None = None) -> str:
    """Verdict, reasons, levels, extraction and how to reproduce. Secrets are shown only if `secrets` is given."""
    blocks = [
        f"## Canary audit of {code(result.name)}: {result.verdict}",
        f"**{facts.headline(result)}**",
        _lines(f"- {escape(reason.message)}" for reason in result.reasons),
        _lines(f"- {_figure(figure)}" for figure in facts.key_figures(result)),
        "### Exposure by number of insertions",
        _levels(result.levels),
        escape(known.without_median(result.levels)),
        "### Extraction",
        f"{extracted.totals(result)}.",
        _extracted([canary for canary in facts.inserted(result) if canary.extraction.found], secrets),
        *_privacy(result),
        *_membership(result),
        *_access(result),
        "### What this audit could not have found",
        _lines(f"- {escape(limit)}" for limit in facts.limits(result)),
        "### Reproduce",
        _lines(["```sh", *facts.reproduce(result), "```"]),
        f"Model {code(result.model.fingerprint)}, policy {_digest(result.policy_sha256)}, "
        f"configuration {code(result.config_sha256)}, canary-audit {code(result.tool_version)}.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Untrusted prose, shown letter for letter on one line: no link, no mention, no HTML, no table cell ends in it."""
    literal = _SYNTAX.sub(lambda match: "\\" + match[0], sanitize(text).strip())
    return literal.replace("@", "@" + _WORD_JOINER)


def code(text: str) -> str:
    """Untrusted text as a code span, which holds no links or mentions; its fence is longer than any run inside."""
    visible = sanitize(text).replace("|", r"\|")
    longest = max((len(run) for run in re.findall("`+", visible)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or not visible.strip() else ""
    return f"{fence}{pad}{visible or ' '}{pad}{fence}"


def _digest(value: str | NotAvailable) -> str:
    return escape(numbers.missing(value)) if isinstance(value, NotAvailable) else code(value)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _figure(figure: Figure) -> str:
    value = f"{escape(figure.value)} {figure.unit}".strip()
    return f"{figure.label}: **{value}** ({escape(figure.note)})"


def _levels(levels: Iterable[LevelResult]) -> str:
    rows = [
        (
            code(level.group),
            numbers.count(level.insertions),
            numbers.count(level.n_canaries),
            numbers.bits_or_dash(level.median_bits),
            numbers.span(level.low_bits, level.high_bits),
            extracted.of_level(level),
            numbers.probability(level.p_value),
        )
        for level in levels
    ]
    columns = (
        *("Group", "Insertions", "Canaries", "Median (bits)", "Range (bits)"),
        *("Extracted (share, 95 %)", "p-value (Fisher)"),
    )
    return _table(columns, rows) if rows else "No canary was inserted."


def _privacy(result: AuditResult) -> list[str]:
    """Promise, audited bound and ceiling, every bound with its assumption, and group privacy."""
    title, epsilon = "### Differential privacy", result.epsilon
    if isinstance(epsilon, NotAvailable):
        return [title, escape(numbers.missing(epsilon))]
    promise = () if isinstance(epsilon.accounting, NotAvailable) else privacy.promise_facts(epsilon.accounting)
    facts_shown = [*promise, *(privacy.audit_facts(epsilon) if epsilon.canaries else ())]
    bounds = [(b.method, b.assumption, b.epsilon, b.ceiling, b.right) for b in privacy.bound_rows(epsilon)]
    groups = privacy.group_rows(result)
    levels = [
        (
            code(row.group),
            numbers.count(row.insertions),
            row.epsilon,
            row.delta,
            row.allowed,
            numbers.bits_or_dash(row.median_bits),
        )
        for row in groups
    ]
    return [
        title,
        _lines(f"- {_figure(figure)}" for figure in privacy.three_numbers(epsilon)),
        f"{privacy.MEANING} {privacy.WHICH_CANARIES}",
        _lines(f"- {term}: {escape(text)}" for term, text in facts_shown),
        _table(("Lower bound", "Assumption", "Epsilon at least", "Ceiling", "Guesses"), bounds) if bounds else "",
        privacy.GROUP_PRIVACY if levels else "",
        _table(("Group", "Insertions", "Epsilon", "Delta", "Allowed (bits)", "Median (bits)"), levels)
        if levels
        else "",
    ]


def _membership(result: AuditResult) -> list[str]:
    samples = membership.tables(result)
    blocks = ["### Membership inference", membership.MEANING] if samples else []
    for sample in samples:
        columns = ("Score", "In", "Out", "AUC (95 % interval)", *(f"Found at {fpr}" for fpr in sample.fprs))
        rows = [
            (
                f"{code(row.score)}{' (primary)' if row.primary else ''}",
                *(numbers.count(row.n_in), numbers.count(row.n_out), str(row.auc), *map(str, row.rates)),
            )
            for row in sample.rows
        ]
        blocks += [f"{sample.title}.", _table(columns, rows)]
    return blocks


def _access(result: AuditResult) -> list[str]:
    """How a served model was reached; nothing for one that ran here."""
    if isinstance(endpoint := result.endpoint, NotAvailable):
        return []
    findings = [(code(one.name), "yes" if one.holds else "no", escape(one.detail)) for one in endpoint.probe]
    return [
        "### How the model was reached",
        _lines(f"- {term}: {escape(text)}" for term, text in access.endpoint_facts(result, endpoint)),
        _table(("Tried", "Holds", "Found"), findings) if findings else "",
    ]


def _extracted(canaries: list[CanaryResult], secrets: Mapping[str, str] | None) -> str:
    """The secrets that came out, by id; their text beside it only when it is to be revealed."""
    if any(map(extracted.written, canaries)):
        return _written(canaries, secrets)
    rows = [
        (
            code(canary.id),
            numbers.count(canary.insertions),
            escape(numbers.count(canary.extraction.rank)),
            "yes" if canary.extraction.certified else "no",
            numbers.needed(canary.samples_needed),
            *(() if secrets is None else (code(secrets.get(canary.id, "not revealed")),)),
        )
        for canary in canaries
    ]
    columns = (
        *("Came out", "Insertions", "Place", "Certified", "Continuations needed"),
        *(() if secrets is None else ("Secret",)),
    )
    return _table(columns, rows) if rows else ""


def _written(canaries: Iterable[CanaryResult], secrets: Mapping[str, str] | None) -> str:
    """The same for a model that was asked to write."""
    rows = []
    for canary in canaries:
        row = extracted.written_row(canary.extraction)
        cells = (row.came_out, row.hits, row.rate, row.greedy, numbers.needed(canary.samples_needed))
        text = () if secrets is None else (code(secrets.get(canary.id, "not revealed")),)
        rows.append((code(canary.id), numbers.count(canary.insertions), *cells, *text))
    columns = (
        *("Came out", "Insertions", "How", "Continuations", "Rate (95 %)", "Greedy", "Continuations needed"),
        *(() if secrets is None else ("Secret",)),
    )
    return _table(columns, rows)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table whose first column is text and whose other columns are numbers."""
    rule = ("---", *("---:" for _ in columns[1:]))
    return _lines(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))
