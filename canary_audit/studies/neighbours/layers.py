"""Where a network stores: its decisions against those of nearest neighbours, layer by layer (Cohen et al. 2018).

Three worlds: real labels, half of them random, all random; every network learns its training labels by heart. One that
generalizes decides as its neighbours do, on examples it has not seen too. One that only stores does not, and its
layers do not show what it has stored before the last.
"""

from itertools import pairwise
from typing import Final

from canary_audit.errors import DataError
from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.networks import conv_net, mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section, Trend
from canary_audit.studies.neighbours.knn import COMPONENTS, N_NEIGHBOURS
from canary_audit.studies.neighbours.layer_tables import charts, linear_grid, neighbour_grid
from canary_audit.studies.neighbours.worlds import HALF, RANDOM, REAL, STORED, WORLDS, Looks, look_at_worlds

_HIDDEN: Final = (80, 80)
_EPOCHS: Final = 140
_CONVOLUTIONAL_EPOCHS: Final = 120
"""At most; real labels are learned in a tenth of the time of random ones."""


def run(setting: Setting) -> Section:
    """Train, compare and tell.

    Raises:
        DataError: the data set cannot be read, or has a single training example.
    """
    data = load_dataset(setting.config.study)
    if len(data.train_y) < 2:
        raise DataError("[study] train_rows: an example needs others as its neighbours; give at least 2")
    looks = look_at_worlds(
        data,
        lambda: mlp(data.n_features, data.n_classes, _HIDDEN),
        epochs=_EPOCHS,
        seeds=setting.seeds,
        device=setting.device,
    )
    convolutional = _convolutional(data, setting)
    networks = {"Fully connected network": looks, **({"Convolutional network": convolutional} if convolutional else {})}
    return Section(
        experiment="layers",
        title="Nearest neighbours at every layer",
        answer=_answer(looks),
        findings=(*_findings(data, looks, len(setting.seeds)), _on_convolutions(convolutional)),
        trends=(_generalizing(looks), _last_layers(looks), _ignored_noise(looks), _linear(looks)),
        grids=tuple(grid(name, own) for name, own in networks.items() for grid in (neighbour_grid, linear_grid)),
        charts=tuple(chart for name, own in networks.items() for chart in charts(name, own)),
    )


def _convolutional(data: Dataset, setting: Setting) -> Looks | None:
    """The same with a small convolutional network, of the first seed alone, if the examples are images."""
    shape = data.image_shape
    if shape is None or min(shape) < 4:
        return None
    return look_at_worlds(
        data,
        lambda: conv_net(shape, data.n_classes, channels=8, width=128),
        epochs=_CONVOLUTIONAL_EPOCHS,
        seeds=setting.seeds[:1],
        device=setting.device,
    )


def _answer(looks: Looks) -> str:
    last = looks.layers[-1]
    real, random = (looks.mean(world, last, "test.p_same") for world in (REAL, RANDOM))
    return (
        f"On new examples, classifiers that learned real labels decide as their {N_NEIGHBOURS} nearest neighbours "
        f"in {real:.0%} of the cases; classifiers that stored random labels do so in {random:.0%}."
    )


def _findings(data: Dataset, looks: Looks, n_seeds: int) -> tuple[str, ...]:
    last = looks.layers[-1]
    learned = ", ".join(f"{looks.mean(world, last, 'train.network_accuracy'):.3f} ({world})" for world in WORLDS)
    shares = [looks.mean(RANDOM, layer, "train.accuracy") for layer in looks.layers]
    return (
        f"Networks with {len(_HIDDEN)} hidden layers of {_HIDDEN[0]} learned {len(data.train_y):,} examples of "
        f"{data.name} with real labels, with half of the labels drawn at random, and with all of them drawn at "
        f"random, {n_seeds} of each, until all had stored {STORED:.0%} of their labels or for {_EPOCHS} epochs. "
        f"Nothing held them back: training accuracy is {learned}. All numbers are means over the seeds, against "
        f"the {N_NEIGHBOURS} nearest neighbours by the L1 distance in each layer's outputs; on the training set every "
        "example is left out of its own vote. Layers wider than 256 were reduced to "
        f"{COMPONENTS} principal components.",
        f"Of the random labels that the networks have stored, the neighbours of an example know {_list(shares)} "
        f"({', '.join(looks.layers)}): how far what was stored shows in the geometry of each layer.",
        "This compares decisions and does not say which single examples were stored. It needs the training set and the "
        "inner layers of the network.",
    )


def _on_convolutions(looks: Looks | None) -> str:
    if looks is None:
        return "The convolutional network was left out: these examples are not images of at least 4 x 4 pixels."
    last = looks.layers[-1]
    numbers = ", ".join(f"{looks.mean(world, last, 'test.p_same'):.3f} ({world})" for world in WORLDS)
    learned = ", ".join(f"{looks.mean(world, last, 'train.network_accuracy'):.3f}" for world in WORLDS)
    return (
        f"A small convolutional network, one of each kind and no part of the trends, agrees with its neighbours in the "
        f"last hidden layer on {numbers} of the test examples; its training accuracy is {learned}."
    )


def _generalizing(looks: Looks) -> Trend:
    real, half, random = (looks.mean(world, looks.layers[-1], "test.p_same") for world in WORLDS)
    return Trend(
        id="C1",
        claim="a network decides like its nearest neighbours on new examples if, and only if, it generalizes",
        paper="accuracies within fractions of a percent when it generalizes; quoted from notes, not checked",
        ours=f"P_SAME on the test set, last hidden layer: real {real:.3f}, half random {half:.3f}, random {random:.3f}",
        criterion="real at least .95, and at least .3 above random",
        holds=real >= 0.95 and real - random >= 0.3,
    )


def _last_layers(looks: Looks) -> Trend:
    real, random = ([looks.mean(world, layer, "train.accuracy") for layer in looks.layers] for world in (REAL, RANDOM))
    rises = all(before < after for before, after in pairwise(random))
    return Trend(
        id="C2",
        claim="what is stored shows in the last layers only",
        paper="plots, no number",
        ours=f"leave-one-out neighbours, accuracy on the training labels, {', '.join(looks.layers)}: "
        f"real {_list(real)}; random {_list(random)}",
        criterion="random: rises with every layer, by .08 or more in all, to .4 or less; real: .93 or more everywhere",
        holds=rises and random[-1] - random[0] >= 0.08 and max(random) <= 0.4 and min(real) >= 0.93,
    )


def _ignored_noise(looks: Looks) -> Trend:
    last = looks.layers[-1]
    votes, network = (looks.mean(HALF, last, number) for number in ("test.accuracy", "test.network_accuracy"))
    return Trend(
        id="C3",
        claim="neighbours in the last hidden layer outvote the noise that the network has stored",
        paper="no number",
        ours=f"half of the labels random, test accuracy: neighbours {votes:.3f}, network {network:.3f}",
        criterion="neighbours at least .15 above the network",
        holds=votes - network >= 0.15,
    )


def _linear(looks: Looks) -> Trend:
    parts = ("vectors.train", "vectors.test", "logistic.train", "logistic.test")
    real, random = ([looks.mean(world, looks.layers[-1], part) for part in parts] for world in (REAL, RANDOM))
    return Trend(
        id="C5",
        claim="linear classifiers resemble the network on training and test examples, whether or not it generalizes",
        paper="plots, no number",
        ours="P_SAME in the last hidden layer; support vector machine on training and test examples, then logistic "
        f"regression: real {_list(real)}; random {_list(random)}",
        criterion="from real to random labels none falls by more than .1",
        holds=all(before - after <= 0.1 for before, after in zip(real, random, strict=True)),
    )


def _list(numbers: list[float]) -> str:
    return ", ".join(f"{number:.3f}" for number in numbers)
