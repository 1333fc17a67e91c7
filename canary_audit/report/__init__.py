"""Reports: one pure function per format, `AuditResult -> str`, and a summary for the terminal.

Every format renders from the result alone: the same result gives the same bytes.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from canary_audit.errors import ResultError
from canary_audit.report.html import render_html
from canary_audit.report.markdown import render_markdown
from canary_audit.report.sanitize import sanitize_json
from canary_audit.results import AuditResult

Format = Literal["html", "markdown", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)


def render(result: AuditResult, format: Format, secrets: Mapping[str, str] | None = None) -> str:
    """The report of `result` in one format.

    Args:
        result: a whole audit.
        format: `html`, `markdown` or `json`.
        secrets: canary id -> secret, to show them; without it no report holds one.

    Raises:
        ResultError: the format is unknown, or is JSON with secrets to show: `result.json` never holds one.
    """
    if format == "html":
        return render_html(result, secrets)
    if format == "markdown":
        return render_markdown(result, secrets)
    if format != "json":
        raise ResultError(f"report format {format!r} is unknown; choose one of {', '.join(FORMATS)}")
    if secrets is not None:
        raise ResultError("JSON is the contract and has no place for secrets; reveal them in html or markdown")
    return sanitize_json(result.to_json())
