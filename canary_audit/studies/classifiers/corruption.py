"""Random labels and random inputs (Arpit et al. 2017, section 3): randY and randX."""

from dataclasses import dataclass

import numpy as np

from canary_audit.studies.classifiers.datasets import Dataset, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """Training examples of which some are noise."""

    x: FloatArray
    y: IntArray
    is_noise: np.ndarray[tuple[int], np.dtype[np.bool_]]
    """Which examples were replaced, shape (n_train,); a random label may be the right one by chance."""


def random_labels(data: Dataset, share: float, seed: int) -> Noisy:
    """A share of the training examples, chosen at random, gets labels uniform over the classes (randY)."""
    generator = np.random.default_rng([seed, 1])
    is_noise = _chosen(len(data.train_y), share, generator)
    drawn = generator.integers(data.n_classes, size=len(data.train_y))
    return Noisy(x=data.train_x, y=np.where(is_noise, drawn, data.train_y), is_noise=is_noise)


def wrong_labels(data: Dataset, share: float, seed: int) -> Noisy:
    """The same with labels uniform over the wrong classes, so that every noisy label is wrong."""
    generator = np.random.default_rng([seed, 2])
    is_noise = _chosen(len(data.train_y), share, generator)
    shift = generator.integers(1, data.n_classes, size=len(data.train_y))
    return Noisy(x=data.train_x, y=(data.train_y + is_noise * shift) % data.n_classes, is_noise=is_noise)


def random_inputs(data: Dataset, share: float, seed: int) -> Noisy:
    """A share of the training examples gets Gaussian inputs with the mean and variance of the real ones (randX).

    Mean and variance are taken over all features together, as for the pixels of images.
    """
    generator = np.random.default_rng([seed, 3])
    is_noise = _chosen(len(data.train_y), share, generator)
    drawn = generator.normal(data.train_x.mean(), data.train_x.std(), size=data.train_x.shape).astype(np.float32)
    return Noisy(x=np.where(is_noise[:, None], drawn, data.train_x), y=data.train_y, is_noise=is_noise)


def _chosen(n: int, share: float, generator: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    chosen = np.zeros(n, dtype=np.bool_)
    chosen[generator.permutation(n)[: round(share * n)]] = True
    return chosen
