"""Data sets, corruption and ensembles: what the experiments on classifiers stand on."""

import numpy as np
import pytest
import torch
from study_setting import REAL_DATA
from torch import nn

from canary_audit.config import StudyConfig
from canary_audit.errors import DataError
from canary_audit.studies.classifiers.corruption import random_inputs, random_labels, wrong_labels
from canary_audit.studies.classifiers.datasets import load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import conv_net, mlp


@pytest.fixture(scope="module")
def digits():
    return load_dataset(StudyConfig())


def test_digits_are_pixels_with_a_part_kept_for_testing(digits):
    assert digits.train_x.shape == (1000, 64)
    assert digits.test_x.shape == (797, 64)
    assert (digits.train_x.min(), digits.train_x.max()) == (0, 1)
    assert digits.n_classes == 10
    assert len(load_dataset(StudyConfig(train_rows=100)).train_y) == 100


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28)), ("mnist1d", None)])
def test_files_of_the_folder_are_read(name, shape):
    if not REAL_DATA.is_dir():
        pytest.skip("the real data sets are not here")
    data = load_dataset(StudyConfig(data=name, data_folder=str(REAL_DATA)))
    assert data.image_shape == shape
    assert len(data.train_y) == len(data.test_y) == 1000
    assert sorted(set(data.train_y)) == list(range(10))
    assert np.isfinite(data.train_x).all()


def test_a_csv_file_is_standardized_and_its_labels_are_counted_from_0(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("".join(f"{row % 7},{row},5,{row % 2 * 4 - 2}\n" for row in range(50)))
    data = load_dataset(StudyConfig(data=str(path)))
    assert (data.n_features, data.n_classes) == (3, 2)
    assert (len(data.train_y), len(data.test_y)) == (40, 10)
    assert np.allclose(data.train_x.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(data.train_x.std(axis=0), [1, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "not a table of numbers"),
        ("1,2\n1,2,3\n", "not a table of numbers"),
        ("1,2\nnan,1\n" * 5, "missing or infinite"),
        ("1,1\n" * 10, "all labels are the same"),
        ("1\n2\n" * 5, "needs numbers and one label"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_refused(tmp_path, text, said):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        load_dataset(StudyConfig(data=str(path)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_npz_file_that_cannot_be_used_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    for content, said in ((b"", "not a readable"), (b"PK\x03\x04junk", "not a readable")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=said):
            load_dataset(StudyConfig(data=str(path)))
    np.savez(path, x=np.zeros((3, 2)), y=np.zeros(3))
    with pytest.raises(DataError, match="no array 'x_test'"):
        load_dataset(StudyConfig(data=str(path)))
    np.savez(path, x=np.array([{}]), y=np.zeros(1), x_test=np.zeros(1), y_test=np.zeros(1))
    with pytest.raises(DataError, match="not a readable"):
        load_dataset(StudyConfig(data=str(path)))
    with pytest.raises(DataError, match="no such file"):
        load_dataset(StudyConfig(data=str(tmp_path / "gone.csv")))


def test_corruption_touches_its_share_and_nothing_else(digits):
    for noisy in (random_labels(digits, 0.3, 1), wrong_labels(digits, 0.3, 1), random_inputs(digits, 0.3, 1)):
        assert noisy.is_noise.sum() == 300
        assert (noisy.y[~noisy.is_noise] == digits.train_y[~noisy.is_noise]).all()
        assert (noisy.x[~noisy.is_noise] == digits.train_x[~noisy.is_noise]).all()
    wrong = wrong_labels(digits, 0.3, 1)
    assert (wrong.y[wrong.is_noise] != digits.train_y[wrong.is_noise]).all()
    assert set(wrong.y) <= set(range(10))
    drawn = random_inputs(digits, 1.0, 1).x
    assert drawn.mean() == pytest.approx(digits.train_x.mean(), abs=0.01)
    assert drawn.std() == pytest.approx(digits.train_x.std(), abs=0.01)
    by_chance = random_labels(digits, 1.0, 1)
    assert (by_chance.y == digits.train_y).mean() == pytest.approx(0.1, abs=0.03)


def small(n=40, n_features=5, n_classes=3):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, n_features)).astype(np.float32)
    return x, generator.integers(n_classes, size=n)


@pytest.mark.parametrize(
    "recipe", [Recipe(epochs=3, learning_rate=0.01), Recipe(epochs=3, learning_rate=0.1, optimizer="sgd", momentum=0.9)]
)
def test_a_network_of_an_ensemble_is_the_one_trained_alone(recipe):
    x, y = small()
    build = lambda: mlp(5, 3, (8, 8))  # noqa: E731
    together = Ensemble(build, (4, 7, 9))
    fit(together, x, y, recipe)
    alone = Ensemble(build, (7,))
    fit(alone, x, y, recipe)
    for name, weight in alone.weights.items():
        assert torch.allclose(together.weights[name][1], weight[0], atol=1e-6)


def test_an_ensemble_of_one_is_plain_torch():
    x, y = small()
    ensemble = Ensemble(lambda: mlp(5, 3, (8,)), (3,))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = mlp(5, 3, (8,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for epoch in (1, 2):
        order = np.random.default_rng([3, epoch]).permutation(len(y))
        for start in range(0, len(y), 16):
            rows = order[start : start + 16]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(torch.tensor(x[rows])), torch.tensor(y[rows])).backward()
            optimizer.step()
    fit(ensemble, x, y, Recipe(epochs=2, learning_rate=0.1, batch_size=16, optimizer="sgd"))
    with torch.inference_mode():
        assert np.allclose(ensemble.probabilities(x)[0], network(torch.tensor(x)).softmax(-1), atol=1e-6)


def test_inputs_and_labels_of_their_own_reach_each_network():
    x, y = small()
    own_x, own_y = np.stack([x, x[::-1]]), np.stack([y, y[::-1]])
    recipe = Recipe(epochs=3, learning_rate=0.01, batch_size=len(y))
    ensemble = Ensemble(lambda: mlp(5, 3, (8,)), (1, 1))
    fit(ensemble, own_x, own_y, recipe)
    reference = Ensemble(lambda: mlp(5, 3, (8,)), (1,))
    fit(reference, x, y, recipe)
    expected = reference.probabilities(x)[0]
    assert np.allclose(ensemble.probabilities(own_x), [expected, expected[::-1]], atol=1e-5)
    assert ensemble.accuracy(own_x, own_y) == pytest.approx([reference.accuracy(x, y)[0]] * 2)


def test_dropout_acts_in_training_only_and_draws_for_each_network():
    x, y = small()
    ensemble = Ensemble(lambda: mlp(5, 3, (32,), dropout=0.5), (1, 1))
    assert np.array_equal(*ensemble.probabilities(x))
    ensemble.network.train()
    first, second = ensemble.logits(torch.tensor(x))
    assert not torch.equal(first, second)
    before = torch.random.get_rng_state()
    fit(ensemble, x, y, Recipe(epochs=1, learning_rate=0.01))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not ensemble.network.training


def test_layers_are_those_that_logits_come_from():
    rows = torch.rand(6, 64, generator=torch.Generator().manual_seed(0))
    for build, names in (
        (lambda: mlp(64, 2, (16, 8)), ["hidden1", "hidden2"]),
        (lambda: conv_net((8, 8), 2), ["conv1", "pool1", "conv2", "pool2", "embedding"]),
    ):
        ensemble = Ensemble(build, (1, 2))
        found = ensemble.layers(rows)
        assert list(found) == names
        last = found[names[-1]]
        weight, bias = ensemble.weights["stages.logits.weight"], ensemble.weights["stages.logits.bias"]
        assert torch.allclose(last @ weight.mT + bias[:, None], ensemble.logits(rows), atol=1e-5)
