"""Arpit et al. 2017: real data are learned before noise is stored."""

from typing import Final

from canary_audit.studies.experiment import Experiment, Paper
from canary_audit.studies.noise import (
    capacity,
    critical_samples,
    easy_examples,
    language,
    loss_sensitivity,
    regularizers,
)

ARPIT_2017: Final = Paper(
    name="noise",
    title="Memorization of noise",
    source="Arpit et al.: A Closer Look at Memorization in Deep Networks, ICML 2017, arXiv 1706.05394",
    question="Is the model still learning the language, or already storing the secrets? When should training stop?",
    experiments=(
        Experiment(
            name="language",
            about="when a language model stores secrets, and when its training should stop",
            kind="language",
            run=language.run,
        ),
        Experiment(
            name="easy-examples",
            about="which examples every network gets right after one epoch",
            kind="classifiers",
            run=easy_examples.run,
        ),
        Experiment(
            name="loss-sensitivity",
            about="how many training examples the loss depends on",
            kind="classifiers",
            run=loss_sensitivity.run,
        ),
        Experiment(
            name="critical-samples",
            about="how many points have an adversarial neighbour, and when to stop",
            kind="classifiers",
            run=critical_samples.run,
        ),
        Experiment(
            name="regularizers",
            about="what keeps wrong labels from being stored, and at what cost",
            kind="classifiers",
            run=regularizers.run,
        ),
        Experiment(
            name="capacity",
            about="whether noise needs more units and more time",
            kind="classifiers",
            run=capacity.run,
        ),
    ),
)
