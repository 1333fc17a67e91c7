"""Hacohen, Choshen, Weinshall 2020: networks learn the same examples in the same order."""

from typing import Final

from canary_audit.studies.experiment import Paper

HACOHEN_2020: Final = Paper(
    name="learning-order",
    title="Learning order",
    source="Hacohen, Choshen, Weinshall: Let's Agree to Agree: Neural Networks Share Classification Order on Real "
    "Datasets, ICML 2020, arXiv 1905.10854",
    question="Is the leak a property of the data, or an accident of this run?",
    experiments=(),
)
