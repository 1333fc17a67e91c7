"""Hacohen, Choshen, Weinshall 2020: networks learn the same examples in the same order."""

from typing import Final

from canary_audit.studies.experiment import Experiment, Paper
from canary_audit.studies.learning_order import architectures, boosting, fresh_noise, language

HACOHEN_2020: Final = Paper(
    name="learning-order",
    title="Learning order",
    source="Hacohen, Choshen, Weinshall: Let's Agree to Agree: Neural Networks Share Classification Order on Real "
    "Datasets, ICML 2020, arXiv 1905.10854",
    question="Is the leak a property of the data, or an accident of this run?",
    experiments=(
        Experiment(
            name="language",
            about="whether text and secrets are learned in the same order in every training",
            kind="language",
            run=language.run,
        ),
        Experiment(
            name="architectures",
            about="whether other networks and other architectures learn in the same order",
            kind="classifiers",
            run=architectures.run,
        ),
        Experiment(
            name="noise",
            about="whether the common order breaks on random labels and random inputs",
            kind="classifiers",
            run=fresh_noise.run,
        ),
        Experiment(
            name="boosting",
            about="whether AdaBoost follows the order of networks",
            kind="classifiers",
            run=boosting.run,
        ),
    ),
)
