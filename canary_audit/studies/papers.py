"""The papers that have a study, by the verb of the command line."""

from typing import Final

from canary_audit.studies.experiment import Paper
from canary_audit.studies.learning_order import HACOHEN_2020
from canary_audit.studies.mixup import ZHANG_2018
from canary_audit.studies.neighbours import COHEN_2018
from canary_audit.studies.noise import ARPIT_2017

PAPERS: Final[dict[str, Paper]] = {paper.name: paper for paper in (ARPIT_2017, COHEN_2018, ZHANG_2018, HACOHEN_2020)}
