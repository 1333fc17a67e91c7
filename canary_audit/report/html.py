"""The report as one self-contained HTML page: no script, no network, light and dark, readable on paper."""

import functools
from collections.abc import Mapping

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from canary_audit.report import access, extracted, facts, known, membership, numbers, plots, privacy, roc
from canary_audit.report.sanitize import sanitize
from canary_audit.results import AuditResult, GroupResult, NotAvailable


def render_html(result: AuditResult, secrets: Mapping[str, str] | None = None) -> str:
    """The page. Secrets are shown only if `secrets` (canary id -> secret) is given."""
    planted = facts.inserted(result)
    ranked = facts.ranked_groups(result)
    return _template().render(
        result=result,
        secrets=secrets,
        facts=facts,
        known=known,
        extracted=extracted,
        access=access,
        planted=planted,
        ranked=ranked,
        found=[canary for canary in planted if canary.extraction.found],
        hidden=[canary for canary in planted if not canary.extraction.found],
        controls=[canary for canary in result.canaries if canary.role == "control"],
        estimated=[canary for canary in planted if canary.paper_estimates],
        level_names=_level_names(result),
        exposure_plots={
            group.name: _exposure_plot(result, group, place) for place, group in enumerate(ranked, start=1)
        },
        training_plot=_training_plot(result),
        privacy=privacy,
        group_rows=privacy.group_rows(result),
        memberships=membership,
        membership=(scored := membership.tables(result)),
        roc_plots=[_roc_plot(sample, place) for place, sample in enumerate(scored, start=1)],
    )


def _exposure_plot(result: AuditResult, group: GroupResult, place: int) -> Markup | None:
    """The plot, or nothing where no canary has an exposure."""
    if not known.measured(result, group.name):
        return None
    return Markup(plots.exposure_plot(result, group, f"exposure-{place}"))  # noqa: S704  our own SVG


def _roc_plot(sample: membership.SampleTable, place: int) -> Markup:
    return Markup(roc.roc_plot(sample.members, sample.title, f"roc-{place}"))  # noqa: S704  our own SVG


def _training_plot(result: AuditResult) -> Markup | None:
    """The plot, or nothing where exposure was not tracked."""
    if isinstance(result.training, NotAvailable) or not plots.level_names(result.training.epochs):
        return None
    return Markup(plots.training_plot(result.training, "training"))  # noqa: S704  our own SVG


def _level_names(result: AuditResult) -> list[str]:
    return [] if isinstance(result.training, NotAvailable) else plots.level_names(result.training.epochs)


@functools.cache
def _template() -> Template:
    return environment("canary_audit.report").get_template("report.html.j2")


def environment(*packages: str) -> Environment:
    """Templates in the folders `templates` of these packages; whatever they show is made inert."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_inert,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        bits=numbers.bits,
        bits_or_dash=numbers.bits_or_dash,
        needed=numbers.needed,
        loss=numbers.loss,
        p=numbers.probability,
        count=numbers.count,
        span=lambda level: numbers.span(level.low_bits, level.high_bits),
        scientific=numbers.scientific,
        plural=numbers.plural,
        savings=numbers.savings,
        score=numbers.score,
    )
    made.tests["missing"] = lambda value: isinstance(value, NotAvailable)
    made.tests["written"] = extracted.written
    return made


def _inert(value: object) -> object:
    """Every expression of the template comes through here: text is sanitized, a bare float or object is a mistake."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, NotAvailable):
        return sanitize(numbers.missing(value))
    if isinstance(value, str | int):
        return sanitize(str(value))
    raise TypeError(f"the report template shows a {type(value).__name__} without saying how to write it")
