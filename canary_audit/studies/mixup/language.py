"""Would a cheap regularizer have prevented the leak? Defences of a language model, mixup among them, at equal loss.

Rows of text are mixed as embeddings, position by position (`canary_audit.training.mixup`). Whatever slows training down
lowers exposure at a given epoch, so a defended model is held against the undefended one when that had the same
validation loss; the comparison is that of `study defences`, and so are its files, which stay beside this experiment's.
"""

from pathlib import Path

from canary_audit.errors import ConfigError
from canary_audit.gate import load_policy
from canary_audit.results import NotAvailable
from canary_audit.studies.defences import study_defences
from canary_audit.studies.defences.results import DefenceResult, DefencesStudy, MatchedChange
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section, Trend
from canary_audit.studies.mixup.language_tables import charts, equal_epochs, final_grid, findings, matched_grid, signed


def run(setting: Setting) -> Section:
    """Train without and with every defence of `[[study.defences]]`, and compare them.

    Raises:
        ConfigError: there is no defence, or one cannot be run or compared.
    """
    config = setting.config
    if not config.study.defences:
        raise ConfigError("[[study.defences]]: no regularizer to compare; name some, as configs/mixup.toml does")
    study = study_defences(config, setting.folder / "defences", jobs=1, progress=setting.progress, key=setting.key)
    mixed = {one.name for one in config.study.defences if set(one.training) == {"mixup_alpha"}}
    return section_of(study, load_policy(Path(config.policy.path)).table.max_exposure_bits, mixed)


def section_of(study: DefencesStudy, limit_bits: float, mixed: set[str]) -> Section:
    """What the study of defences shows; `mixed` names those that are mixup alone."""
    return Section(
        experiment="language",
        title="Language model: regularizers against a leak, at equal validation loss",
        answer=answer(study, limit_bits),
        findings=tuple(findings(study)),
        trends=tuple(_trend(study, one) for one in study.defences if one.name in mixed and one.runs),
        grids=(final_grid(study), matched_grid(study)),
        charts=tuple(charts(study)),
    )


def answer(study: DefencesStudy, limit_bits: float) -> str:
    """Would one of them have prevented the leak of the most repeated canaries that are judged?"""
    level = study.plotted_level
    none, *defences = [one for one in study.defences if one.runs]
    if none.name != study.defences[0].name or not defences:
        return "There is no answer: the undefended trainings failed, or all others did."
    before, after = bits_of(none, level), {one.name: bits_of(one, level) for one in defences}
    if before <= limit_bits:
        return (
            f"There was nothing to prevent: undefended canaries inserted {level} times reach {before:.1f} bits, which "
            f"the gate tolerates ({limit_bits:g})."
        )
    sure = [one.name for one in defences if _lowers(_change(one, level))]
    within = [name for name in sure if after[name] <= limit_bits]
    reached = ", ".join(f"{bits:.1f} with {name}" for name, bits in after.items())
    if within:
        return (
            f"Yes, at this level: canaries inserted {level} times reach {before:.1f} bits undefended and {reached}; "
            f"{' and '.join(within)} stays within the gate's {limit_bits:g} bits and leaks less than an undefended "
            "model of the same validation loss. It promises nothing for other secrets: only differential privacy does."
        )
    shown = f"only {' and '.join(sure)} is" if sure else "none is"
    return (
        f"No: canaries inserted {level} times reach {before:.1f} bits undefended and {reached}, where the gate "
        f"tolerates {limit_bits:g}; and {shown} shown to leak less than an undefended model of the same validation "
        "loss."
    )


def bits_of(defence: DefenceResult, level: int) -> float:
    """Exposure of a level, mean over the seeds, in bits."""
    return next(one.bits for one in defence.levels if one.insertions == level)


def _change(defence: DefenceResult, level: int) -> MatchedChange:
    return next(one for one in defence.matched if one.insertions == level)


def _lowers(change: MatchedChange) -> bool:
    """Whether the whole interval of the change lies below zero."""
    return not isinstance(change.high_bits, NotAvailable) and change.high_bits < 0


def _trend(study: DefencesStudy, mixup: DefenceResult) -> Trend:
    level = study.plotted_level
    change = _change(mixup, level)
    by_epochs = equal_epochs(study.defences[0].runs, mixup.runs, level)
    return Trend(
        id="M4",
        claim="mixup makes a network store less",
        paper="none for language models; corrupted labels of images are not fitted",
        ours="; ".join(f"{one.insertions}x {signed(one.change_bits)} bits ({interval(one)})" for one in mixup.matched)
        + f" at equal loss; {level}x {signed(by_epochs)} bits after equally many epochs",
        criterion=f"the 95 % interval of the change at equal validation loss lies below zero for the most repeated "
        f"judged canaries ({level}x)",
        holds=_lowers(change),
    )


def interval(change: MatchedChange) -> str:
    """The interval of a change in words."""
    if isinstance(change.low_bits, NotAvailable):
        return change.low_bits.not_available
    return f"{signed(change.low_bits)} to {signed(change.high_bits)}"
