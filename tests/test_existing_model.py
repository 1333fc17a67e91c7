"""Auditing a model that another trainer left in a folder."""

import shutil

import pytest

from canary_audit.canaries import load_key
from canary_audit.errors import LedgerError, ModelError
from canary_audit.existing_model import audit_model
from canary_audit.results import NotAvailable


@pytest.fixture
def audit(smoke):
    """Audit the smoke run's model as if it came from elsewhere."""

    def call(model=smoke.folder / "model", key=None, **files):
        return audit_model(
            smoke.folder / "ledger.json",
            model,
            smoke.policy,
            key=key or load_key(smoke.folder / "secrets" / "key"),
            settings=smoke.config.audit,
            seed=smoke.config.seed,
            **files,
        )

    return call


def test_it_measures_what_the_run_itself_measured(smoke, audit):
    data = smoke.folder / "data"
    result = audit(data=data / "train.txt", validation=data / "validation.txt")
    assert result.canaries == smoke.result.canaries
    assert result.levels == smoke.result.levels
    assert result.model == smoke.result.model
    assert result.reasons == smoke.result.reasons
    assert result.verdict == smoke.result.verdict == "FAIL"
    assert isinstance(result.training, NotAvailable)
    assert result.language.learned == smoke.result.language.learned


def test_without_held_out_text_nothing_can_pass(audit):
    result = audit()
    assert not result.language.learned
    assert isinstance(result.data, NotAvailable)
    assert result.verdict != "PASS"


def test_a_key_of_another_ledger_is_refused(audit):
    with pytest.raises(LedgerError):
        audit(key=bytes(32))


def test_a_changed_model_has_another_fingerprint(smoke, audit, tmp_path):
    other = shutil.copytree(smoke.folder / "model", tmp_path / "model")
    (other / "README.md").write_text("changed")
    assert audit(model=other).model.fingerprint != smoke.result.model.fingerprint


def test_a_folder_that_is_no_model_is_refused(audit, tmp_path):
    with pytest.raises(ModelError):
        audit(model=tmp_path)
