"""What only a real language model shows: SmolLM2-135M as it comes, and fine-tuned (`make models`)."""

from pathlib import Path

import numpy as np
import pytest
from conftest import finished_run
from scipy import stats

from canary_audit.audit import measure_canaries
from canary_audit.canaries import derive_secrets, draw_ledger
from canary_audit.config import AuditConfig, CanaryConfig
from canary_audit.exposure.ranks import RankSettings, measure_ranks
from canary_audit.keep import KeepAll
from canary_audit.models.resolve import ModelFiles
from canary_audit.rundir import verify_chain
from canary_audit.search import search
from canary_audit.spaces import parse_space
from canary_audit.subject import load_subject
from canary_audit.tokens.choose import secret_walk

MODEL = Path(__file__).parents[1] / "models" / "smollm2"
PREFIX = "The random number is "

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODEL.is_dir(), reason="SmolLM2 is not there; `make models` gets it"),
]


@pytest.fixture(scope="module")
def subject():
    return load_subject(ModelFiles(folder=MODEL), AuditConfig(), device="cpu")


def audit_of_nothing(subject, seed):
    """Twenty canaries that the ledger says were inserted once, and that no model has ever seen."""
    plan = CanaryConfig(format="{digit:9}", prefix=PREFIX, levels=(1,), canaries_per_level=20, controls=0)
    key = seed.to_bytes(32, "big")
    ledger = draw_ledger([plan], key)
    settings = AuditConfig(nodes_per_canary=240, exact_nodes=1_000, extraction_width=4)
    measured = measure_canaries(subject.scored, ledger, derive_secrets(ledger, key), settings=settings, seed=seed)
    return [(2.0**-one.exposure.bits, one.adjusted_p_value) for one in measured.canaries]


@pytest.mark.parametrize("n_seeds", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_never_inserted_secrets_rank_uniformly_and_raise_no_alarm(subject, n_seeds):
    audits = [audit_of_nothing(subject, seed) for seed in range(1, n_seeds + 1)]
    ranks = [share for audit in audits for share, _ in audit]
    findings = sum(min(p_value for _, p_value in audit) <= 0.05 for audit in audits)
    p_value = stats.kstest(ranks, "uniform").pvalue
    print(f"{len(ranks)} controls: KS p = {p_value:.3f}, {findings} of {n_seeds} audits with a finding")  # noqa: T201
    assert p_value > 1e-3
    assert findings <= n_seeds / 5


@pytest.mark.parametrize("n_digits", [3, pytest.param(5, marks=pytest.mark.nightly)])
def test_counting_by_branch_and_bound_agrees_with_full_enumeration(subject, n_digits):
    scored = subject.scored
    walk = secret_walk(parse_space(f"{{digit:{n_digits}}}"), scored.vocabulary, prefix=PREFIX, lead=scored.lead)
    everything = search(walk, scored.language_model, thresholds_nats=np.array([np.inf]), keep=KeepAll())
    costs = np.sort(everything.leaves.costs_nats)
    leaves = np.random.default_rng(1).choice(len(costs), 100, replace=False)
    secrets = [walk.secret(everything.path(int(leaf))) for leaf in leaves]
    report = measure_ranks(walk, scored.language_model, secrets, settings=RankSettings(), rng=np.random.default_rng(1))
    assert len(costs) == walk.size
    assert all(one.exact for one in report.estimates)
    for one, leaf in zip(report.estimates, leaves, strict=True):
        full = np.searchsorted(costs, everything.leaves.costs_nats[leaf], side="right")
        assert one.low <= full <= one.high  # within the noise floor of single precision


@pytest.mark.nightly
def test_repeated_secrets_come_out_of_a_fine_tuned_model(tmp_path):
    run = finished_run("smollm2", tmp_path / "run")
    assert run.result.verdict == "FAIL"
    assert run.result.language.learned
    assert run.result.training.presence.seen == run.result.training.presence.planned == 3 * (1 + 4 + 16)
    bits = {level.insertions: level.median_bits for level in run.result.levels}
    assert bits[1] < bits[4] < bits[16]
    often = [canary for canary in run.result.canaries if canary.insertions == 16]
    assert all(canary.extraction.found and canary.extraction.certified for canary in often)
    assert run.result.null.uniform_p > 1e-3
    assert verify_chain(run.folder) == []
