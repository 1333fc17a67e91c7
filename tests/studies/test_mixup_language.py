"""Whether a regularizer of a language model would have prevented a leak."""

import pytest
from study_factory import defence_of, epochs_of, run_of, study_of
from study_setting import setting

from canary_audit.config import UNDEFENDED
from canary_audit.errors import ConfigError
from canary_audit.studies.mixup import language
from canary_audit.studies.mixup.language_tables import equal_epochs


def study(*points, name="mixup", last=8.0):
    """Undefended to `last` bits more than the seed, and one defence with the given course for every seed."""
    undefended = [run_of(seed, epochs_of((3.0, 2.0), (2.5, 6.0), (2.0, last + seed))) for seed in (1, 2, 3)]
    defended = [run_of(seed, epochs_of(*points)) for seed in (1, 2, 3)]
    defences = (defence_of(UNDEFENDED, undefended, undefended), defence_of(name, defended, undefended))
    return study_of().model_copy(update={"defences": defences})


def test_slower_is_no_defence():
    section = language.section_of(study((2.9, 2.8), (2.75, 4.0)), 5.0, {"mixup"})
    assert section.answer.startswith("No: canaries inserted 8 times reach 10.0 bits undefended and 4.0 with mixup")
    assert "none is shown to leak less" in section.answer
    (trend,) = section.trends
    assert trend.id == "M4"
    assert not trend.holds


def test_less_at_equal_loss_and_within_the_limit_is_one():
    section = language.section_of(study((3.0, 0.5), (2.5, 1.0)), 9.0, {"mixup"})
    assert section.answer.startswith("Yes, at this level")
    assert "promises nothing" in section.answer
    assert section.trends[0].holds


def test_less_but_above_the_limit_is_none():
    section = language.section_of(study((3.0, 2.0), (2.5, 4.0)), 3.0, {"mixup"})
    assert section.answer.startswith("No")
    assert "only mixup is shown to leak less" in section.answer


def test_nothing_to_prevent():
    assert language.answer(study((3.0, 1.0)), 20.0).startswith("There was nothing to prevent")


def test_other_defences_are_compared_without_the_trend():
    section = language.section_of(study_of(), 10.0, set())
    assert section.trends == ()
    assert {row[0] for row in section.grids[0].rows} == {UNDEFENDED, "dropout", "private", "broken"}
    assert any("failed: killed" in text for text in section.findings)


def test_failed_trainings_have_no_answer():
    whole = study_of()
    broken = whole.defences[-1]
    none = broken.model_copy(update={"name": UNDEFENDED})
    assert "no answer" in language.answer(whole.model_copy(update={"defences": (none, *whole.defences[1:])}), 10.0)
    assert "no answer" in language.answer(whole.model_copy(update={"defences": (whole.defences[0], broken)}), 10.0)


def test_equal_epochs_pairs_seeds_of_equal_length():
    before = [run_of(seed, epochs_of((3.0, 2.0), (2.0, 10.0))) for seed in (1, 2)]
    after = [run_of(1, epochs_of((3.0, 2.0), (2.5, 7.0))), run_of(2, epochs_of((3.0, 1.0)))]
    assert equal_epochs(before, after, 8) == pytest.approx(-3.0)


def test_a_configuration_without_defences_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\[\[study.defences\]\]: no regularizer"):
        language.run(setting(tmp_path, config="noise"))


@pytest.mark.nightly
def test_mixup_is_compared_at_equal_loss(tmp_path):
    section = language.run(setting(tmp_path, config="mixup"))
    (trend,) = section.trends
    assert trend.id == "M4"
    assert "bits" in trend.ours
    assert section.answer.startswith("No")
    assert [row[0] for row in section.grids[0].rows] == [UNDEFENDED, "mixup", "dropout", "mixup-and-dropout"]
    assert "random number is" not in section.model_dump_json()
