"""When a language model stores its canaries."""

import numpy as np
import pytest
from study_setting import setting

from canary_audit.errors import ConfigError
from canary_audit.studies.language.courses import Course
from canary_audit.studies.noise import language
from canary_audit.studies.noise.language_looks import RADII, Watched, calibrated_radius


def watched(seed=1, losses=(3.0, 2.0, 1.5, 1.6), top=(8.0, 11.0, 18.0, 18.0), once=(1.0, 2.0, 3.0, 4.0), ordinary=True):
    """A hand-made training; half of the ordinary tokens flip at the fourth radius, the others never."""
    radii = {"1": np.full(4, RADII[2]), "16": np.full(4, np.inf), "0": np.full(4, RADII[5])}
    if ordinary:
        flips = np.array([RADII[3]] + [np.inf] * 9)
        radii |= {"calibration": flips, "held out": flips}
    return Watched(
        seed=seed,
        course=Course(losses=losses, exposures={1: once, 16: top}),
        gaps={1: (1.0,) * 4, 16: (9.0,) * 4},
        gini=0.25,
        places={0: 0.7, 1: 0.5, 16: 0.1},
        radii=radii,
    )


def test_early_storage_is_told_with_its_epochs():
    section = language.section_of([watched(1), watched(2, top=(11.0, 12.0, 18.0, 18.0))], 10.0)
    assert section.answer.startswith("Both at once: the validation loss was least after epoch 3 of 4")
    assert "in epoch 2 and epoch 1" in section.answer
    assert "no epoch is early enough" in section.answer
    (trend,) = section.trends
    assert trend.id == "S2"
    assert not trend.holds  # 11/18 and 12/18 before epoch 3


def test_when_to_stop_and_what_it_costs():
    section = language.section_of([watched()], 10.0)
    assert "stop after epoch 1, 1.500 bits a character above the least loss" in section.answer


def test_a_model_that_stores_nothing_may_go_on():
    section = language.section_of([watched(top=(1.0, 2.0, 1.0, 2.0))], 10.0)
    assert section.answer.startswith("Learning:")


def test_late_storage_is_no_reason_to_stop_before_the_least_loss():
    section = language.section_of([watched(top=(1.0, 2.0, 3.0, 12.0))], 10.0)
    assert section.answer.startswith("First learning, then storing")
    assert "Stopping at the least validation loss keeps every level within the limit" in section.answer


def test_a_loss_that_still_falls_is_said_to():
    section = language.section_of([watched(losses=(3.0, 2.0, 1.5, 1.4))], 10.0)
    assert "still fell" in section.answer
    assert any("true minimum may come later" in text for text in section.findings)


def test_the_radius_flips_a_tenth_of_ordinary_tokens():
    one = watched()
    assert calibrated_radius(one) == RADII[3]
    assert one.share_critical("1", RADII[3]) == 1.0
    assert one.share_critical("16", RADII[3]) == 0.0


def test_without_ordinary_tokens_nothing_is_compared():
    section = language.section_of([watched(ordinary=False)], 10.0)
    assert any("were not compared" in text for text in section.findings)


def test_a_configuration_without_canaries_is_refused(tmp_path):
    given = setting(tmp_path)
    groups = tuple(group.model_copy(update={"levels": ()}) for group in given.config.canaries)
    bare = type(given)(config=given.config.model_copy(update={"canaries": groups}), folder=tmp_path)
    with pytest.raises(ConfigError, match="no canary is inserted"):
        language.run(bare)


@pytest.mark.slow
def test_repeated_secrets_are_stored_while_the_language_is_learned(tmp_path):
    section = language.run(setting(tmp_path))
    (trend,) = section.trends
    assert trend.id == "S2"
    assert "%" in trend.ours
    assert section.answer
    text = section.model_dump_json()
    assert "random number is" not in text
    shares = {row[0]: row for row in section.grids[1].rows}
    assert float(shares["inserted 16x"][-1].rstrip(" %")) < float(shares["never inserted"][-1].rstrip(" %"))
