"""Hand-made runs and a hand-made study of defences."""

from canary_audit.config import UNDEFENDED
from canary_audit.results import EpochResult, LevelResult, NotAvailable
from canary_audit.studies.defences.matched import matched_change
from canary_audit.studies.defences.paper import CARLINI_2019
from canary_audit.studies.defences.results import DefenceResult, DefencesStudy, FailedRun, LevelSummary, StudyRun

NOT_PRIVATE = NotAvailable(not_available="trained without differential privacy")


def epochs_of(*points, level=8):
    """Epochs from (validation loss, exposure) pairs."""
    return tuple(
        EpochResult(
            epoch=number,
            training_bits_per_token=5.0,
            validation_bits_per_char=loss,
            exposure_by_level={str(level): bits},
        )
        for number, (loss, bits) in enumerate(points, start=1)
    )


def run_of(seed, epochs, level=8):
    """A run that ended as its last epoch says."""
    last = epochs[-1]
    bits = last.exposure_by_level[str(level)]
    return StudyRun(
        seed=seed,
        validation_bits_per_char=last.validation_bits_per_char,
        levels=(
            LevelResult(
                group="number",
                insertions=level,
                n_canaries=4,
                n_extracted=0,
                median_bits=bits,
                low_bits=bits,
                high_bits=bits,
                p_value=0.5,
            ),
        ),
        exposure_by_level=last.exposure_by_level,
        epochs=epochs,
        accounting=NOT_PRIVATE,
    )


def defence_of(name, runs, undefended, failures=(), about="", on_front=False):
    bits = [run.levels[0].median_bits for run in runs]
    levels = (
        LevelSummary(
            group="number",
            insertions=8,
            bits=sum(bits) / len(bits),
            low_bits=min(bits),
            high_bits=max(bits),
            n_extracted=0,
            n_canaries=4 * len(bits),
        ),
    )
    return DefenceResult(
        name=name,
        about=about,
        runs=tuple(runs),
        failures=tuple(failures),
        validation_bits_per_char=sum(run.validation_bits_per_char for run in runs) / len(runs),
        levels=levels,
        matched=(matched_change(runs, undefended, 8),),
        epsilon=NOT_PRIVATE,
        on_front=on_front,
    )


def study_of(name="mine", source="builtin:prose", about="dropout 0.3", reason="killed"):
    """Undefended, dropout with a seed that failed, and one that ends where nothing can be compared."""
    undefended = [run_of(seed, epochs_of((3.0, 2.0), (2.5, 6.0 + seed), (2.0, 10.0 + seed))) for seed in (1, 2, 3)]
    dropout = [run_of(seed, epochs_of((2.9, 1.0), (2.3, 5.0))) for seed in (1, 2)]
    private = [run_of(seed, epochs_of((3.6, 1.0))) for seed in (1, 2, 3)]
    nothing = DefenceResult(
        name="broken",
        about="",
        runs=(),
        failures=tuple(FailedRun(seed=seed, reason=reason) for seed in (1, 2, 3)),
        validation_bits_per_char=NotAvailable(not_available="no run ended"),
        levels=(),
        matched=(),
        epsilon=NotAvailable(not_available="no run ended"),
        on_front=False,
    )
    return DefencesStudy(
        tool_version="0.0.0",
        name=name,
        seeds=(1, 2, 3),
        source=source,
        space_bits=19.9,
        plotted_level=8,
        defences=(
            defence_of(UNDEFENDED, undefended, undefended, on_front=True),
            defence_of("dropout", dropout, undefended, [FailedRun(seed=3, reason=reason)], about=about),
            defence_of("private", private, undefended, on_front=True),
            nothing,
        ),
        paper=CARLINI_2019,
    )
