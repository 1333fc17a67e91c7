"""The section on corrupted labels: two trends, a table for each share of wrong labels, and the course of training."""

from collections.abc import Sequence
from typing import Final

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.classifiers.ensemble import Recipe
from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend
from canary_audit.studies.mixup.corrupted_result import Outcome
from canary_audit.studies.seeds import mean_of, percents

_PLAIN: Final = "plain training"
_MIXUP: Final = "mixup, alpha 32"
_BOTH: Final = "mixup, alpha 8, dropout 0.3"
_PAPER: Final[dict[float, dict[str, str]]] = {
    0.2: {
        _PLAIN: "12.7 / 16.6",
        "dropout 0.5": "8.8 / 10.4 (dropout 0.7)",
        "mixup, alpha 8": "5.9 / 6.4",
        _BOTH: "6.2 / 6.2 (alpha 4, dropout 0.1)",
    },
    0.5: {
        _PLAIN: "18.8 / 44.6",
        "dropout 0.5": "14.1 / 15.5 (dropout 0.8)",
        _MIXUP: "11.3 / 12.7",
        _BOTH: "10.9 / 10.9",
    },
}
"""Best / last test error in percent on CIFAR-10 (table 2): the best of a grid of settings of each kind."""


def section(
    data: Dataset, seeds: Sequence[int], shares: Sequence[float], outcomes: Sequence[Outcome], recipe: Recipe
) -> Section:
    """All of it, from the outcomes of all methods; their arrays hold `shares` x `seeds`.

    M1 and M2 are of the table in `docs/papers.md`.
    """
    by_name = {outcome.method.name: outcome for outcome in outcomes}
    few, half = shares.index(0.2), shares.index(0.5)
    plain, mixup, both = by_name[_PLAIN], by_name[_MIXUP], by_name[_BOTH]
    return Section(
        experiment="corrupted-labels",
        title="Corrupted labels",
        answer=(
            f"On classifiers it prevents much of it: with half of the labels wrong, plain training stores "
            f"{100 - plain.wrong_label_error[half].mean():.0f} % of the wrong labels, mixup "
            f"{100 - mixup.wrong_label_error[half].mean():.0f} %, mixup with dropout "
            f"{100 - both.wrong_label_error[half].mean():.0f} %."
        ),
        findings=_findings(data, seeds, outcomes[0], recipe, by_name, half),
        trends=(_m1(plain, mixup, both, few, half), _m2(plain, mixup, both, few, half)),
        grids=tuple(_grid(share, place, outcomes) for place, share in enumerate(shares)),
        charts=tuple(_chart(share, place, outcomes) for place, share in enumerate(shares)),
    )


def _findings(
    data: Dataset, seeds: Sequence[int], one: Outcome, recipe: Recipe, by_name: dict[str, Outcome], half: int
) -> tuple[str, ...]:
    plain = by_name[_PLAIN]
    done = (
        f"Fully connected networks with two layers of 256 units, {len(seeds)} for each way of training and share of "
        f"wrong labels, learned {len(data.train_y)} examples of {data.name} for {recipe.epochs} epochs. Every "
        f"corrupted label was wrong; test labels were clean. The best test error is the least of {len(one.epochs)} "
        "looks, chosen on the test set as in the paper, so it is a little too good for all methods alike. "
        "Learning rate, batch size, width and length were chosen among seven tried on seeds 1 and 2 of digits, as "
        "those with which plain training stores nearly all wrong labels within seconds."
    )
    course = (
        f"Plain training overfits: at 50 % wrong labels its test error is {_best_and_last(plain, half)} in the end. "
        f"With mixup (alpha 32) these are {_best_and_last(by_name[_MIXUP], half)}, with mixup and dropout "
        f"{_best_and_last(by_name[_BOTH], half)}."
    )
    limit = (
        "What it does not show: that a label which is not reproduced has left no trace in the weights. Longer training "
        "stores more, with mixup too, and all settings here share one learning rate, where the paper searched for the "
        "best of each kind. Dropout alone is a strong competitor on data this small."
    )
    useless = data.n_classes <= 2
    return (done, course, limit) + (
        ("With two classes, labels of which half are wrong say nothing.",) if useless else ()
    )


def _m1(plain: Outcome, mixup: Outcome, both: Outcome, few: int, half: int) -> Trend:
    means = [float(one.last[half].mean()) for one in (both, mixup, plain)]
    return Trend(
        id="M1",
        claim="with wrong labels, plain training ends with a far greater test error than mixup, alone or with dropout",
        paper="CIFAR-10, 50 % wrong labels, at the end: 44.6 % plain, 12.7 % mixup, 10.9 % mixup and dropout",
        ours=(
            f"At the end, 50 % wrong labels: plain {percents(plain.last[half])}, mixup {percents(mixup.last[half])}, "
            f"mixup and dropout {percents(both.last[half])}; 20 %: {percents(plain.last[few])}, "
            f"{percents(mixup.last[few])}, {percents(both.last[few])}"
        ),
        criterion=(
            "Test error at the end, 50 % wrong labels: mixup with dropout < mixup (alpha 32) < plain, and plain at "
            "least twice mixup with dropout"
        ),
        holds=means[0] < means[1] < means[2] and means[2] >= 2 * means[0],
    )


def _m2(plain: Outcome, mixup: Outcome, both: Outcome, few: int, half: int) -> Trend:
    cases = ((mixup, few), (both, half))
    return Trend(
        id="M2",
        claim="mixup does not learn wrong labels, but it learns right ones",
        paper="CIFAR-10: most wrong labels are not reproduced in the end, where plain training reproduces nearly all",
        ours=(
            f"Error on wrong / right training labels: mixup at 20 % {percents(mixup.wrong_label_error[few])} / "
            f"{percents(mixup.right_label_error[few])}, mixup and dropout at 50 % "
            f"{percents(both.wrong_label_error[half])} / "
            f"{percents(both.right_label_error[half])}; plain {percents(plain.wrong_label_error[few])} / "
            f"{percents(plain.right_label_error[few])} at 20 %, {percents(plain.wrong_label_error[half])} / "
            f"{percents(plain.right_label_error[half])} at 50 %"
        ),
        criterion=(
            "Training error at the end at least 50 % on wrong and at most 5 % on right labels: mixup (alpha 32) at "
            "20 % wrong labels, mixup with dropout at 50 %"
        ),
        holds=all(
            one.wrong_label_error[place].mean() >= 50 and one.right_label_error[place].mean() <= 5
            for one, place in cases
        ),
    )


def _grid(share: float, place: int, outcomes: Sequence[Outcome]) -> Grid:
    return Grid(
        caption=f"{share:.0%} of the training labels are wrong; errors in percent, means over seeds",
        columns=(
            "training",
            "test, best",
            "test, last",
            "right labels",
            "wrong labels",
            "the paper's test, best / last",
        ),
        rows=tuple(
            (
                one.method.name,
                mean_of(one.best[place]),
                mean_of(one.last[place]),
                mean_of(one.right_label_error[place]),
                mean_of(one.wrong_label_error[place]),
                _PAPER.get(share, {}).get(one.method.name, ""),
            )
            for one in outcomes
        ),
    )


def _chart(share: float, place: int, outcomes: Sequence[Outcome]) -> Chart:
    return Chart(
        kind="lines",
        caption=f"Test error while training on labels of which {share:.0%} are wrong",
        x_label="epoch",
        y_label="test error, %",
        series=tuple(
            Series(
                name=one.method.name,
                x=one.epochs,
                y=tuple(one.test_error[:, place].mean(axis=1).tolist()),
                low=tuple(one.test_error[:, place].min(axis=1).tolist()),
                high=tuple(one.test_error[:, place].max(axis=1).tolist()),
            )
            for one in outcomes
        ),
    )


def _best_and_last(method: Outcome, place: int) -> str:
    return f"{mean_of(method.best[place])} % at best and {mean_of(method.last[place])} %"
