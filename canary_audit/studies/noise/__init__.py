"""Arpit et al. 2017: real data are learned before noise is stored."""

from typing import Final

from canary_audit.studies.experiment import Paper

ARPIT_2017: Final = Paper(
    name="noise",
    title="Memorization of noise",
    source="Arpit et al.: A Closer Look at Memorization in Deep Networks, ICML 2017, arXiv 1706.05394",
    question="Is the model still learning the language, or already storing the secrets? When should training stop?",
    experiments=(),
)
