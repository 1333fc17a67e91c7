"""Zhang et al. 2018: train on mixtures of pairs of examples."""

from typing import Final

from canary_audit.studies.experiment import Paper

ZHANG_2018: Final = Paper(
    name="mixup",
    title="Mixup",
    source="Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv 1710.09412",
    question="Would a cheap regularizer have prevented this?",
    experiments=(),
)
