"""Cohen, Sapiro, Giryes 2018: a network that generalizes decides like its nearest neighbours."""

from typing import Final

from canary_audit.studies.experiment import Experiment, Paper
from canary_audit.studies.neighbours import language, layers

COHEN_2018: Final = Paper(
    name="neighbours",
    title="Neighbours in embedding space",
    source="Cohen, Sapiro, Giryes: DNN or k-NN: That is the Generalize vs. Memorize Question, 2018, arXiv 1805.06822",
    question="Does the model produce this token only because this row was in the data?",
    experiments=(
        Experiment(
            name="language",
            about="what neighbours of a language model's hidden states say with and without a secret's own rows",
            kind="language",
            run=language.run,
        ),
        Experiment(
            name="layers",
            about="decisions of networks and of nearest neighbours at every layer, for real and random labels",
            kind="classifiers",
            run=layers.run,
        ),
    ),
)
