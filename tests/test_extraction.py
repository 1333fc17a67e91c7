"""Extraction against full enumeration, and its cost on memorized secrets."""

import numpy as np
import pytest
from narrow_worlds import Priced, PricedTopTokens, TopTokens
from worlds import digit_walk, naive_costs, secret_of

from canary_audit.exposure.scores import path_scores
from canary_audit.extraction import extract
from canary_audit.models.table import TableModel, digit_chain, digit_tree


def memorizing(n_digits: int, secrets: list[bytes], share: float, seed: int = 0) -> TableModel:
    """A digit tree in which each of `secrets` got `share` of the probability left at each of its digits."""
    base = digit_tree(n_digits, np.random.default_rng(seed), spread=0.3)
    probs = np.exp(base.log_probs)
    for secret in secrets:
        state = 0
        for digit in secret:
            probs[state] *= 1.0 - share
            probs[state, digit] += share
            state = int(base.transitions[state, digit])
    with np.errstate(divide="ignore"):
        return TableModel(np.log(probs), base.transitions)


@pytest.mark.parametrize("seed", range(8))
def test_certified_secrets_are_the_likeliest_in_order(seed):
    model, walk = digit_tree(4, np.random.default_rng(seed), spread=1.5), digit_walk(4)
    report = extract(walk, model, 10, max_width=10_000)
    order = np.argsort(naive_costs(model, 4))[:10]
    assert all(item.certified for item in report.secrets)
    assert [item.secret for item in report.secrets] == [secret_of(int(number), 4) for number in order]


def test_a_memorized_secret_comes_out_certified_in_few_nodes():
    model, walk = memorizing(6, [b"281265"], share=0.9), digit_walk(6)
    report = extract(walk, model, 1, max_width=64)
    assert report.secrets[0].secret == b"281265"
    assert report.secrets[0].certified
    assert report.nodes <= 64
    assert report.calls <= 12


def test_several_secrets_behind_one_prefix_come_out_together():
    secrets = [b"281265", b"903117", b"555012"]
    model, walk = memorizing(6, secrets, share=0.3), digit_walk(6)
    report = extract(walk, model, 3, max_width=512)
    assert {item.secret for item in report.secrets} == set(secrets)
    assert all(item.certified for item in report.secrets)


def test_a_narrow_beam_admits_that_it_proves_nothing():
    model, walk = digit_chain(2, np.random.default_rng(1), spread=0.05), digit_walk(6)
    report = extract(walk, model, 1, max_width=2)
    assert not report.secrets[0].certified


def test_a_secret_keeps_the_cost_of_the_beam_that_certified_it():
    model, walk = memorizing(6, [b"281265"], share=0.95), digit_walk(6)
    report = extract(walk, model, 20, max_width=256)
    assert report.secrets[0].certified
    assert report.secrets[0].nodes < report.secrets[-1].nodes == report.nodes


@pytest.mark.parametrize("k", range(1, 10))
def test_the_top_k_show_a_memorized_secret_and_certify_no_more_than_they_can(k):
    """One token of 73 % leaves 27 %, far more than the whole secret has."""
    secret = b"28126"
    model, walk = memorizing(5, [secret], share=0.7), digit_walk(5)
    report = extract(walk, TopTokens(model, k), 5, max_width=256)
    order = np.argsort(naive_costs(model, 5))
    certified = [item.secret for item in report.secrets if item.certified]
    assert report.secrets[0].secret == secret
    assert report.secrets[0].certified == (k > 1)
    assert certified == [secret_of(int(number), 5) for number in order[: len(certified)]]


def test_where_the_top_k_hold_no_secret_nothing_comes_out():
    """The likeliest token is no digit, so a window of one shows none."""
    model, walk = memorizing(4, [], share=0.5), digit_walk(4)
    model.log_probs += np.log(0.4)
    model.log_probs[:, ord("x")] = np.log(0.6)
    report = extract(walk, TopTokens(model, 1), 3, max_width=16)
    assert report.secrets == ()
    assert report.nodes == 1


def test_a_budget_narrows_the_beams_and_takes_no_more_than_there_is():
    model, walk = digit_tree(5, np.random.default_rng(3), spread=1.0), digit_walk(5)
    best = [secret_of(int(number), 5) for number in np.argsort(naive_costs(model, 5))[:10]]
    n_right = []
    for budget in (0, 3, 10, 60, 300, 4_000, 20_000):
        priced = Priced(model, budget)
        report = extract(walk, priced, 10, max_width=4_096, nodes_left=priced.nodes_left)
        certified = [item.secret for item in report.secrets if item.certified]
        assert certified == best[: len(certified)]
        n_right.append(len({item.secret for item in report.secrets} & set(best)))
        assert priced.left >= 0
    assert n_right[:2] == [0, 0]
    assert n_right == sorted(n_right)
    assert n_right[-1] == 10
    assert len(certified) == 10


def test_a_memorized_secret_comes_out_of_what_its_own_score_has_paid_for():
    secret = b"28126"
    model, walk = memorizing(5, [secret], share=0.9), digit_walk(5)
    for priced in (Priced(model, 5), PricedTopTokens(TopTokens(model, 3), 5)):
        path_scores(walk, priced, [walk.path(secret)], siblings=True)
        assert priced.left == 0
        report = extract(walk, priced, 1, max_width=64, nodes_left=priced.nodes_left)
        assert [item.secret for item in report.secrets] == [secret]
