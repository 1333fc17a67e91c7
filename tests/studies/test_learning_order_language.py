"""Whether language models learn, and leak, in the same order."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from study_setting import setting

from canary_audit.errors import ConfigError
from canary_audit.studies.language.courses import Course
from canary_audit.studies.learning_order import language
from canary_audit.studies.learning_order.early_rows import Row, early_rows, zlib_bits_per_char
from canary_audit.studies.learning_order.language_looks import Followed
from canary_audit.studies.learning_order.variance import variance_shares


def test_variance_shares_of_known_values():
    by_level = variance_shares({0: [[1.0, 1.0], [1.0, 1.0]], 4: [[5.0, 5.0], [5.0, 5.0]]})
    assert (by_level.levels, by_level.seeds, by_level.within) == (1.0, 0.0, 0.0)
    by_seed = variance_shares({4: [[1.0, 1.0], [5.0, 5.0]]})
    assert (by_seed.levels, by_seed.seeds) == (0.0, 1.0)
    assert variance_shares({4: [[2.0], [2.0]]}).within == 1.0


def test_one_level_is_an_ordinary_analysis_of_variance():
    cells = np.random.default_rng(1).normal(size=(3, 5)).tolist()
    found = variance_shares({4: cells})
    assert found.seeds_p == pytest.approx(stats.f_oneway(*cells).pvalue)
    assert found.levels + found.seeds + found.within == pytest.approx(1.0)


def row(number, hardness, accessibility, occurrences=1, canary="", n_chars=50):
    return Row(
        number=number,
        canary=canary,
        occurrences=occurrences,
        n_chars=n_chars,
        hardness=hardness,
        accessibility=accessibility,
    )


def test_what_hardness_does_not_explain_comes_first():
    rng = np.random.default_rng(0)
    rows = [row(n, h, 0.9 - 0.1 * h + 0.01 * rng.normal()) for n, h in enumerate(rng.uniform(2, 6, size=40), start=1)]
    rows[7] = dataclasses.replace(rows[7], hardness=6.0, accessibility=0.9, occurrences=9)
    rows.append(row(41, 6.0, 0.95, occurrences=16, canary="number-x016-1"))
    found = early_rows(rows)
    assert [one.row.number for one in found[:2]] == [41, 8]
    assert found[0].excess > found[1].excess > 3
    with pytest.raises(ValueError, match="fewer than four"):
        early_rows(rows[-1:])


def test_zlib_knows_repetitive_from_random():
    assert zlib_bits_per_char("ab" * 100) < 2 < zlib_bits_per_char("qzj4 kd8w pmx2 vb0t")


def followed(seed, text, exposures, rows=()):
    return Followed(
        seed=seed,
        course=Course(losses=(2.0, 1.0), exposures={16: (5.0, 15.0)}),
        text=np.array(text),
        held_out=np.array(text),
        rows=tuple(rows)
        or tuple(row(n, 3.0, share, n_chars=20 + n) for n, share in enumerate([0.1, 0.4, 0.2, 0.3], 1)),
        secrets=dict.fromkeys(exposures, (0.5,)),
        exposures=exposures,
    )


def test_agreement_of_levels_is_a_property_of_the_data():
    text = [0.0, 0.2, 0.9, 1.0]
    section = language.section_of([followed(seed, text, {0: (1.0, 2.0), 16: (15.0, 15.5)}) for seed in (1, 2)])
    assert section.answer.startswith("A property of the data")
    assert "does not make a difference beyond chance" in section.answer
    (trend,) = section.trends
    assert (trend.id, trend.holds) == ("H4", True)


def test_a_difference_between_trainings_is_an_accident():
    pairs = [(1, {0: (1.0, 1.1), 16: (15.0, 15.5)}), (2, {0: (1.0, 1.1), 16: (1.0, 1.5)})]
    section = language.section_of([followed(seed, [0.0, float(seed), 0.0], bits) for seed, bits in pairs])
    assert section.answer.startswith("To a large part an accident")
    assert "it was does make a difference" in section.answer


def test_correlation_is_a_mean_over_pairs():
    a, b, c = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0])
    assert language.mean_correlation([a, b]) == pytest.approx(1.0)
    assert language.mean_correlation([a, b, c]) == pytest.approx(-1 / 3)
    assert language.mean_correlation([a, np.ones(3)]) == 0.0


def test_one_seed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nothing to be compared with"):
        language.run(setting(tmp_path, config="learning-order", seeds=1))


@pytest.mark.slow
def test_text_is_learned_in_the_same_order(tmp_path):
    section = language.run(setting(tmp_path, config="learning-order"))
    (trend,) = section.trends
    assert trend.id == "H4"
    assert trend.holds, trend.ours
    top = [cells[1] for cells in section.grids[1].rows[:6]]
    assert sum(name.startswith("number-x016-") for name in top) == 4
    assert "random number is" not in section.model_dump_json()


@pytest.mark.slow
def test_a_copied_paragraph_is_found(tmp_path):
    rng = np.random.default_rng(5)
    words = ["wind", "stone", "river", "amber", "quiet", "ledger", "orbit", "maple", "cipher", "lantern", "violet"]
    texts = [" ".join(rng.choice(words, size=14)) for _ in range(160)]
    copied = "Vault door nine opens with brass key forty two beneath Harlow bridge."
    texts[10::10] = [copied] * len(texts[10::10])
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(texts))
    given = setting(tmp_path / "run", config="learning-order")
    data = given.config.data.model_copy(update={"source": str(source), "max_bytes": None})
    training = given.config.training.model_copy(update={"epochs": 8, "batch_size": 8})
    small = given.config.model.model_copy(update={"hidden_size": 48, "vocab_size": 400})
    config = given.config.model_copy(update={"data": data, "training": training, "model": small})
    section = language.run(dataclasses.replace(given, config=config))
    ordinary = [cells for cells in section.grids[1].rows if not cells[1]]
    assert int(ordinary[0][2].rstrip("x")) > 5
    assert "Harlow" not in section.model_dump_json()
