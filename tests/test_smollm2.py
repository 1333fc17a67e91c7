"""configs/smollm2.toml from end to end: a real pretrained model, fine-tuned, audited and failed."""

import pytest
from conftest import CONFIGS, finished_run

from canary_audit.rundir import verify_chain

SMOLLM2 = CONFIGS.parent / "models" / "smollm2"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs models/smollm2: run `make models`"),
]


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
