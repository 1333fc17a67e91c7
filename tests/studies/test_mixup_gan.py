"""Points, distances and the discriminator's loss against direct computations."""

import math

import numpy as np
import pytest
import torch
from study_setting import setting

from canary_audit.studies.mixup import gan
from canary_audit.studies.mixup.gan import Budget, discriminator_loss, train
from canary_audit.studies.mixup.gan_report import section
from canary_audit.studies.mixup.plane import SPOTS, energy_distance, four_spots, spiral, spots_hit


def test_energy_distance_is_that_of_a_direct_sum():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(6, 2)).astype(np.float32), random.normal(1, size=(5, 2)).astype(np.float32)

    def between(a, b):
        return sum(math.dist(p, q) for p in a for q in b) / (len(a) * len(b))

    expected = 2 * between(one, other) - between(one, one) - between(other, other)
    assert energy_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert energy_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_spots_hit_are_those_with_points():
    real = four_spots(400, np.random.default_rng(0))
    assert spots_hit(real) == 4
    assert spots_hit(np.tile(SPOTS[:1], (50, 1))) == 1
    assert spots_hit(np.zeros((50, 2), dtype=np.float32)) == 0


def test_the_spiral_stays_near_its_line():
    points = spiral(500, np.random.default_rng(0))
    assert points.shape == (500, 2)
    assert np.linalg.norm(points, axis=1).max() < 1.7


def test_discriminator_loss_by_hand():
    real, generated = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]]), torch.tensor([[[-1.0, 0.0], [0.0, 0.0]]])

    def logits(points):
        return points[..., 0]

    def nats(logit, target):
        probability = 1 / (1 + math.exp(-logit))
        return -target * math.log(probability) - (1 - target) * math.log(1 - probability)

    plain = (nats(1, 1) + nats(2, 1) + nats(-1, 0) + nats(0, 0)) / 4
    assert float(discriminator_loss(logits, real, generated, None)) == pytest.approx(plain, rel=1e-5)
    share = torch.tensor([[0.25, 0.5]])
    mixed = (nats(-0.5, 0.25) + nats(1, 0.5)) / 2
    assert float(discriminator_loss(logits, real, generated, share)) == pytest.approx(mixed, rel=1e-5)


def test_a_short_course_is_repeatable_and_complete():
    budget = Budget(rounds=4, look_every=2, batch_size=16, points_in_a_look=50)
    before = torch.get_rng_state()
    courses = [train(name, alpha, (1, 2), "cpu", budget) for name, alpha in (("plain", 0.0), ("mixup", 0.2))]
    again = train("mixup", 0.2, (1, 2), "cpu", budget)
    assert np.array_equal(courses[1].distance, again.distance)
    assert torch.equal(before, torch.get_rng_state())
    assert courses[0].distance.shape == (2, 2, 2)
    assert [trend.id for trend in section(courses, 2, 4).trends] == ["M6"]


@pytest.mark.nightly
def test_the_trend_is_reported(tmp_path):
    (trend,) = gan.run(setting(tmp_path)).trends
    assert trend.id == "M6"
    assert "energy distance 0." in trend.ours
