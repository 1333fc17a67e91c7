"""What the project promises to show, on real text and trained models (papers.md: S1 to S4)."""

import random

import numpy as np
import pytest
from conftest import finished_run

from canary_audit.canaries import load_ledger
from canary_audit.config import AuditConfig, ModelConfig
from canary_audit.exposure.ranks import RankSettings, measure_ranks
from canary_audit.gate import EXIT_CODES, judge
from canary_audit.group_audit import canonical_walk
from canary_audit.keep import KeepAll
from canary_audit.models.load import language_model
from canary_audit.models.networks import build_network
from canary_audit.models.resolve import resolve_files
from canary_audit.search import search
from canary_audit.spaces import parse_space
from canary_audit.subject import load_subject
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteVocabulary

pytestmark = pytest.mark.slow


def level_medians(result):
    return {level.insertions: level.median_bits for level in result.levels}


def test_exposure_rises_with_insertions_and_32_are_memorized(quickstart):
    medians = level_medians(quickstart.result)
    assert list(medians) == [1, 2, 4, 8, 16, 32]
    assert all(low < high for low, high in zip(list(medians.values()), list(medians.values())[1:], strict=False))
    assert medians[32] >= 20.0


def test_never_inserted_controls_rank_uniformly(quickstart):
    assert quickstart.result.null.n_controls == 20
    assert quickstart.result.null.uniform_p > 0.01


def test_coin_flipped_random_tokens_show_that_training_was_not_private(tmp_path):
    epsilon = finished_run("epsilon", tmp_path / "run", "training.track_exposure=false").result.epsilon
    assert len(epsilon.canaries) == 500
    assert epsilon.lower_bound >= 3.0
    assert epsilon.assumption == "none"
    assert epsilon.auc > 0.9


def test_many_controls_rank_uniformly_on_a_trained_model(tmp_path):
    null = finished_run("smoke", tmp_path / "run", "canaries.0.controls=300").result.null
    assert null.n_controls == 300
    assert null.uniform_p > 1e-3


def test_the_32x_canaries_come_out_certified_in_600_nodes(quickstart):
    extractions = [canary.extraction for canary in quickstart.result.canaries if canary.insertions == 32]
    assert len(extractions) == 4
    assert all(extraction.found and extraction.certified for extraction in extractions)
    assert max(extraction.nodes for extraction in extractions) <= 600


def test_memorization_comes_before_overfitting(quickstart):
    training = quickstart.result.training
    first = next(epoch.epoch for epoch in training.epochs if epoch.exposure_by_level["32"] > 10.0)
    assert first < training.best_epoch


def test_every_canary_reached_the_loss(quickstart):
    presence = quickstart.result.training.presence
    assert presence.planned == presence.seen == 4 * (1 + 2 + 4 + 8 + 16 + 32)


def test_the_gate_fails_the_quickstart(quickstart):
    verdict = judge(quickstart.result, quickstart.policy.table)
    assert EXIT_CODES[verdict.name] == 1
    assert {reason.code for reason in verdict.reasons} == {"extracted", "leak"}
    assert quickstart.result.positive_control.status == "not-run"


def test_a_model_trained_on_deduplicated_data_passes(tmp_path):
    result = finished_run("deduplicated", tmp_path / "run").result
    assert EXIT_CODES[result.verdict] == 0, result.reasons
    assert result.training.presence.planned == 24
    assert result.positive_control.status == "detected"
    assert result.positive_control.p_value <= 1e-3


def test_an_untrained_model_is_inconclusive(tmp_path):
    result = finished_run("untrained", tmp_path / "run").result
    assert EXIT_CODES[result.verdict] == 3
    assert "not-learned" in {reason.code for reason in result.reasons}


@pytest.mark.nightly
def test_the_small_llama_memorizes_and_is_failed_too(tmp_path):
    result = finished_run("llama", tmp_path / "run", "training.epochs=4").result
    assert result.verdict == "FAIL"
    assert level_medians(result)[32] >= 20.0


def test_exact_ranks_of_a_trained_model_equal_full_enumeration(quickstart):
    """On the trained LSTM, in a space of 10^6 secrets behind the same prefix."""
    subject = load_subject(resolve_files(quickstart.folder / "model"), AuditConfig(), device="cpu")
    ledger = load_ledger(quickstart.folder / "ledger.json")
    group = ledger.groups[0]
    walk = CanonicalWalk(
        parse_space("{digit:6}"), subject.scored.vocabulary, prefix=group.prefix, lead=subject.scored.lead
    )
    assert_ranks_equal_enumeration(walk, subject.scored.language_model)
    assert canonical_walk(subject.scored, ledger, group).size == 10**9


@pytest.mark.parametrize("kind", ["lstm", "llama"])
def test_exact_ranks_of_an_untrained_network_equal_full_enumeration(kind):
    network = build_network(ModelConfig(kind=kind, hidden_size=32, vocab_size=300), 256, 0.0, seed=3).eval()
    walk = CanonicalWalk(parse_space("{digit:5}"), ByteVocabulary(), prefix="pin ", lead=(0,))
    assert_ranks_equal_enumeration(walk, language_model(network))


def assert_ranks_equal_enumeration(walk, model):
    """100 random secrets: rank by branch and bound against rank among all enumerated leaves."""
    everything = search(walk, model, thresholds_nats=np.array([np.inf]), keep=KeepAll())
    ordered = np.sort(everything.leaves.costs_nats)
    assert len(ordered) == walk.size
    secrets = walk.space.draw(100, random.Random(0))
    settings = RankSettings(exact_nodes=walk.size)
    report = measure_ranks(walk, model, secrets, settings=settings, rng=np.random.default_rng(1))
    for path, estimate in zip(walk.paths(secrets), report.estimates, strict=True):
        assert estimate.exact
        cost = everything.leaves.costs_nats[everything.leaf(path)]
        low, high = np.searchsorted(ordered, cost + np.array([-1.0, 1.0]) * 2e-5, side="right")
        assert low <= estimate.rank <= high
        assert estimate.low <= estimate.rank <= estimate.high
