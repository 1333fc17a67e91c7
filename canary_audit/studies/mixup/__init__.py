"""Zhang et al. 2018: train on mixtures of pairs of examples."""

from typing import Final

from canary_audit.studies.experiment import Experiment, Paper
from canary_audit.studies.mixup import adversarial, corrupted_labels, gan, language, uci

ZHANG_2018: Final = Paper(
    name="mixup",
    title="Mixup",
    source="Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv 1710.09412",
    question="Would a cheap regularizer have prevented this?",
    experiments=(
        Experiment(
            name="language",
            about="regularizers of a language model against a leak, at equal validation loss",
            kind="language",
            run=language.run,
        ),
        Experiment(
            name="corrupted-labels",
            about="whether networks store wrong labels, with and without mixup",
            kind="classifiers",
            run=corrupted_labels.run,
        ),
        Experiment(
            name="adversarial",
            about="test error on examples moved against the network",
            kind="classifiers",
            run=adversarial.run,
        ),
        Experiment(
            name="gan", about="how steadily generators learn points of the plane", kind="classifiers", run=gan.run
        ),
        Experiment(name="uci", about="test error on six tables of UCI", kind="classifiers", run=uci.run),
    ),
)
