"""Learning order on classifiers: that networks share it, that it breaks on fresh noise, and how boosting compares."""

import numpy as np
import pytest
from study_setting import setting

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.learning_order import architectures, boosting, fresh_noise
from canary_audit.studies.learning_order.agreement import right_answers
from canary_audit.studies.learning_order.architectures_report import judged as judged_architectures
from canary_audit.studies.learning_order.boosting_report import STUMPS, TREES
from canary_audit.studies.learning_order.boosting_report import judged as judged_boosting
from canary_audit.studies.learning_order.fresh_noise_report import FRESH, RANDOM_INPUTS, RANDOM_LABELS, REAL
from canary_audit.studies.learning_order.trajectories import network_seeds
from canary_audit.studies.learning_order.wording import shown
from canary_audit.studies.seeds import band


def small_data(seed=0):
    """Two classes, five features, no images."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(60, 5)).astype(np.float32)
    y = (x[:, 0] + 0.3 * generator.normal(size=60) > 0).astype(np.int64)
    return Dataset(name="two classes", train_x=x[:40], train_y=y[:40], test_x=x[40:], test_y=y[40:])


@pytest.fixture
def csv_setting(tmp_path):
    data = small_data()
    table = np.column_stack([np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_y, data.test_y])])
    np.savetxt(tmp_path / "two.csv", table, delimiter=",")
    return setting(tmp_path, data=str(tmp_path / "two.csv"), seeds=1)


def test_networks_of_different_seeds_and_ensembles_are_different():
    found = [network_seeds(seed, ensemble, 20) for seed in (1, 2) for ensemble in (0, 1)]
    assert len({one for seeds in found for one in seeds}) == 80
    assert found[0] == network_seeds(1, 0, 20)


def test_two_classes_without_images_are_learned_by_three_architectures(csv_setting, monkeypatch):
    monkeypatch.setattr(architectures, "_EPOCHS", 2)
    section = architectures.run(csv_setting)
    assert [row[0] for row in section.grids[1].rows] in (["0", "1"], ["1", "0"])
    assert section.grids[1].columns == ("class", "1 layer of 64", "3 layers of 256", "linear")
    assert "no convolutional network" in section.findings[-1]
    assert all(len(series.x) <= 300 for series in section.charts[0].series)


def test_the_noise_section_repeats_bit_for_bit_and_leaves_the_global_random_state(csv_setting, monkeypatch):
    import torch

    monkeypatch.setattr(fresh_noise, "_EPOCHS", 3)
    monkeypatch.setattr(fresh_noise, "_LONGER", 4)

    before = torch.random.get_rng_state()
    first = fresh_noise.run(csv_setting)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert fresh_noise.run(csv_setting) == first
    assert [row[0] for row in first.grids[0].rows] == [REAL, RANDOM_LABELS, RANDOM_INPUTS, FRESH]


def test_boosting_takes_any_data(csv_setting, monkeypatch):
    monkeypatch.setattr(boosting, "_EPOCHS", 2)
    for name, depth in ((STUMPS, 1), (TREES, 3)):
        monkeypatch.setitem(boosting.BOOSTERS, name, boosting.Booster(depth=depth, rounds=4, boosters=2))
    section = boosting.run(csv_setting)
    assert [trend.id for trend in section.trends] == ["H5"]


def test_each_kind_of_noise_is_what_it_says():
    data, networks = small_data(), network_seeds(1, 20, 3)
    kinds = fresh_noise.kinds_of(data, 1, networks)
    assert kinds[FRESH].train_y.shape == (3, 40)
    assert not (kinds[FRESH].train_y[0] == kinds[FRESH].train_y[1]).all()
    assert kinds[RANDOM_LABELS].train_y.shape == (40,)
    drawn = np.concatenate([kinds[RANDOM_INPUTS].train_x, kinds[RANDOM_INPUTS].test_x])
    assert len(np.unique(drawn)) == drawn.size
    assert not np.isin(drawn, data.train_x).any()
    assert (kinds[RANDOM_INPUTS].train_y == data.train_y).all()


def test_isolation_is_the_mean_distance_to_five_others():
    x = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)
    distances = np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)
    np.testing.assert_allclose(fresh_noise.isolation(x), distances[:, 1:6].mean(axis=1), rtol=1e-4)


def test_boosters_answer_after_every_round_and_differ():
    data = small_data()
    trajectory = boosting.boosted(data, boosting.Booster(depth=1, rounds=6, boosters=3), seed=1)
    assert trajectory.train.shape == (6, 3, 40)
    assert trajectory.test.shape == (6, 3, 20)
    assert not (trajectory.train[:, 0] == trajectory.train[:, 1]).all()
    assert right_answers(trajectory.train, data.train_y)[-1].mean() > 0.7


def test_a_booster_that_stops_early_keeps_its_last_answers():
    data = small_data()
    easy = Dataset(
        name="easy", train_x=data.train_x, train_y=(data.train_x[:, 0] > 0).astype(np.int64), test_x=data.test_x,
        test_y=(data.test_x[:, 0] > 0).astype(np.int64),
    )  # fmt: skip
    trajectory = boosting.boosted(easy, boosting.Booster(depth=12, rounds=6, boosters=2), seed=1)
    assert trajectory.train.shape == (6, 2, 40)
    assert (trajectory.train[-1] == easy.train_y).all()


def test_an_undefined_correlation_is_no_agreement():
    undefined = float("nan")
    assert not judged_architectures([[0.99], [undefined]], [[0.9], [0.9]]).holds
    assert not judged_architectures([[0.99], [0.89]], [[0.9], [0.9]]).holds
    assert not judged_architectures([[0.99], [0.99]], [[0.9], [0.69]]).holds
    assert judged_architectures([[0.99], [0.91]], [[0.9], [0.71]]).holds
    assert not judged_boosting({"stumps": [[0.9], [undefined]]}).holds
    assert shown(undefined) == "undefined"


def test_a_band_leaves_out_what_is_undefined():
    series = band("r", [np.array([np.nan, 0.5, 0.7]), np.array([0.1, 0.7, 0.9])])
    assert series.x == (2, 3)
    assert series.y == pytest.approx((0.6, 0.8))
    assert series.low == (0.5, 0.7)


@pytest.mark.slow
def test_networks_and_architectures_share_the_order_on_digits(tmp_path):
    (trend,) = architectures.run(setting(tmp_path)).trends
    assert trend.id == "H1"
    assert trend.holds, trend.ours


@pytest.mark.slow
def test_the_order_breaks_on_fresh_noise_only(tmp_path):
    section = fresh_noise.run(setting(tmp_path))
    agreement, bimodality = section.trends
    assert agreement.id == "H2"
    assert agreement.holds, agreement.ours
    assert bimodality.id == "H3"
    order = {row[0]: float(row[2]) for row in section.grids[0].rows}
    assert order[RANDOM_LABELS] > 0.8, "the trap: shared random labels have an order of their own"


@pytest.mark.slow
def test_boosting_is_compared_with_networks_on_digits(tmp_path):
    section = boosting.run(setting(tmp_path))
    (trend,) = section.trends
    assert trend.id == "H5"
    held_out = {row[0]: float(row[3]) for row in section.grids[0].rows[1:]}
    assert all(0.4 < r < 0.95 for r in held_out.values())
