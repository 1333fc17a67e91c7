"""Easy examples: the scatter of error rates against known truth, and the trend on the digits."""

import numpy as np
import pytest
from study_setting import setting

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.noise import easy_examples


def test_equally_hard_examples_have_a_ratio_of_one():
    generator = np.random.default_rng(0)
    rates = generator.binomial(100, 0.3, size=20_000) / 100
    found = easy_examples.spread(rates, np.zeros(20_000, dtype=np.int64), 100)
    assert found.ratio == pytest.approx(1, abs=0.05)
    assert found.ratio_within == pytest.approx(found.ratio)


def test_spread_of_known_rates():
    rates = np.array([0.0, 0.0, 1.0, 1.0])
    found = easy_examples.spread(rates, np.array([0, 0, 1, 1]), 100)
    assert (found.mean, found.always_right) == (0.5, 0.5)
    assert found.ratio == pytest.approx(0.25 / (0.25 / 100))
    assert found.ratio_within == 1  # labels explain everything


def test_error_rates_repeat_and_fit_any_data():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(40, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    data = Dataset(name="two classes", train_x=x, train_y=y, test_x=x, test_y=y)
    first, labels = easy_examples.error_rates(data, "random labels", 1, "cpu", n_networks=7)
    again, _ = easy_examples.error_rates(data, "random labels", 1, "cpu", n_networks=7)
    other, _ = easy_examples.error_rates(data, "random labels", 2, "cpu", n_networks=7)
    assert first.shape == labels.shape == (40,)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert set(np.round(first * 7, 6)) <= set(range(8))


@pytest.mark.slow
def test_a1_holds_on_the_digits(tmp_path):
    section = easy_examples.run(setting(tmp_path))
    assert [trend.id for trend in section.trends] == ["A1"]
    assert section.trends[0].holds, section.trends[0].ours
