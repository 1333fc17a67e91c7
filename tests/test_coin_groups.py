"""Groups of coin-flipped canaries: scored, and nothing else, whatever the size of their space."""

import numpy as np
import pytest
from conftest import SAMPLE_KEY

from canary_audit import pipeline
from canary_audit.audit import exposure_by_level, measure_canaries
from canary_audit.canaries import derive_secrets, draw_ledger, load_key, load_ledger
from canary_audit.config import AuditConfig, CanaryConfig
from canary_audit.errors import DataError
from canary_audit.group_audit import ScoredModel
from canary_audit.models.table import TableModel, digit_tree
from canary_audit.pipeline import AuditRun
from canary_audit.report import render
from canary_audit.results import NotAvailable
from canary_audit.rundir import RunDirectory, verify_chain
from canary_audit.subject import ControlPlan
from canary_audit.vocabulary import ByteVocabulary

KEY = bytes(range(32))
COINS = CanaryConfig(name="coins", format="{digit:4}", prefix="a ", coin_flips=40, controls=0)
MIXED = CanaryConfig(name="mixed", format="{digit:4}", prefix="b ", levels=(1,), coin_flips=40, controls=3)
CONTROLS = CanaryConfig(name="controls", format="{digit:4}", prefix="c ", coin_flips=40, controls=3)
HUGE = CanaryConfig(name="huge", format="{word:english:200}", prefix="d ", coin_flips=6, controls=0)
SETTINGS = AuditConfig(exact_nodes=20_000)


def byte_model(seed=1):
    """Every text has a cost of its own: the next byte depends on the byte before."""
    logits = np.random.default_rng(seed).normal(size=(256, 256))
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return TableModel(log_probs, np.tile(np.arange(256), (256, 1)))


def measured(*plans, model=None):
    ledger = draw_ledger(plans, KEY)
    secrets = derive_secrets(ledger, KEY)
    scored = ScoredModel(language_model=model or byte_model(), vocabulary=ByteVocabulary(), lead=())
    return ledger, secrets, measure_canaries(scored, ledger, secrets, settings=SETTINGS, seed=1)


def naive_bits(model, text):
    """log2-likelihood of a text, byte by byte; the prompt, whatever it is, leads to the start."""
    state, nats = model.start, 0.0
    for byte in text:
        nats += model.log_probs[state, byte]
        state = model.transitions[state, byte]
    return nats / np.log(2)


@pytest.mark.parametrize("plan", [COINS, MIXED, CONTROLS, HUGE], ids=lambda plan: plan.name)
def test_coins_carry_the_likelihood_of_their_secrets(plan):
    model = byte_model()
    if plan is not HUGE:
        model = digit_tree(4, np.random.default_rng(2))
    ledger, secrets, found = measured(plan, model=model)
    coins = [canary for canary in ledger.canaries if canary.role == "coin"]
    assert [coin.id for coin in found.coins] == [coin.id for coin in coins]
    assert [coin.inserted for coin in found.coins] == [coin.insertions == 1 for coin in coins]
    for coin in found.coins:
        assert coin.score == pytest.approx(naive_bits(model, secrets[coin.id]), rel=1e-9)


def test_a_group_of_coins_alone_is_not_ranked_and_gives_nothing_away():
    _, _, found = measured(HUGE)
    (group,) = found.groups
    assert found.canaries == found.levels == ()
    assert group.space_size == str(1024**200)
    assert group.space_bits == pytest.approx(2_000)
    assert group.extraction_sought == group.extraction_found == group.extraction_nodes == group.search_nodes == 0
    assert group.notice is None
    assert found.null.n_controls == 0
    assert isinstance(found.null.uniform_p, NotAvailable)


def test_extraction_makes_room_for_coins_only_where_levels_share_their_prefix():
    model = digit_tree(4, np.random.default_rng(2))
    ledger, _, found = measured(MIXED, CONTROLS, model=model)
    n_inserted = sum(canary.insertions for canary in ledger.canaries_of("mixed"))
    assert n_inserted > 4
    assert [group.extraction_sought for group in found.groups] == [n_inserted, 0]
    assert [canary.role for canary in found.canaries] == ["level"] * 4 + ["control"] * 6


def test_exposure_is_tracked_for_levels_only():
    ledger = draw_ledger([HUGE, MIXED], KEY)
    scored = ScoredModel(language_model=digit_tree(4, np.random.default_rng(2)), vocabulary=ByteVocabulary(), lead=())
    exposure = exposure_by_level(scored, ledger, derive_secrets(ledger, KEY), settings=SETTINGS, seed=1)
    assert set(exposure) == {"1"}


def test_the_positive_control_is_drawn_for_groups_with_levels():
    def groups(*plans):
        return [group.name for group in ControlPlan.draw(draw_ledger(plans, KEY), KEY).ledger.groups]

    assert groups(COINS, MIXED, HUGE) == ["mixed-control"]
    assert groups(COINS, CONTROLS) == ["coins-control", "controls-control"]


# --- whole runs ----------------------------------------------------------------------------------------------------

WORDS = CanaryConfig(name="words", format="{word:tokens:12}", prefix="my words are ", coin_flips=30, controls=0)


def with_words(run, *groups):
    return run.config.model_copy(update={"canaries": (*groups, WORDS)})


def test_words_of_the_model_are_made_once_and_kept_in_the_ledger(smoke, tmp_path, monkeypatch):
    config, key = with_words(smoke, *smoke.config.canaries), load_key(SAMPLE_KEY)
    folder = tmp_path / "run"
    with RunDirectory(folder) as directory:
        AuditRun(config, directory, key=key)
    written = (folder / "ledger.json").read_bytes()
    ledger = load_ledger(folder / "ledger.json")
    assert set(ledger.word_lists) == {"tokens"}
    for canary in ledger.canaries_of("words"):
        words = derive_secrets(ledger, key)[canary.id].decode().split(" ")
        assert len(words) == 12
        assert set(words) <= set(ledger.word_lists["tokens"])

    with monkeypatch.context() as patch, RunDirectory(folder) as directory:
        patch.setattr(pipeline, "generate_lists", lambda *_, **__: pytest.fail("made again"))
        AuditRun(config, directory, key=key)

    (folder / "ledger.json").write_text("{}")
    with RunDirectory(folder) as directory:
        AuditRun(config, directory, key=key)
    assert (folder / "ledger.json").read_bytes() == written


def test_other_data_make_other_words(smoke, tmp_path):
    config, key = with_words(smoke), load_key(SAMPLE_KEY)
    lists = []
    for seed in (1, 1, 2):
        with RunDirectory(tmp_path / "run") as directory:
            run = AuditRun(config.model_copy(update={"seed": seed}), directory, key=key)
            lists.append(run.ledger.word_lists)
    assert lists[0] == lists[1] != lists[2]


def test_an_audit_of_levels_and_coins_side_by_side(smoke, tmp_path):
    policy, config = smoke.policy, with_words(smoke, *smoke.config.canaries)
    folder = tmp_path / "run"
    result = pipeline.run_audit(config, policy, folder, key=load_key(SAMPLE_KEY))
    assert [group.name for group in result.groups] == ["pin", "words"]
    assert {canary.group for canary in result.canaries} == {"pin"}
    assert len(result.epsilon.canaries) == 30
    assert result.training.presence.seen == result.training.presence.planned
    assert result.canaries[0].exposure.bits >= 0
    assert verify_chain(folder) == []
    for form in ("html", "markdown"):
        assert "words" in render(result, form)


def test_texts_that_do_not_fit_a_row_are_refused(smoke, tmp_path):
    long = WORDS.model_copy(update={"format": "{word:tokens:90}"})
    config = smoke.config.model_copy(update={"canaries": (*smoke.config.canaries, long)})
    with pytest.raises(DataError, match="a canary must fit into one context"):
        pipeline.run_audit(config, smoke.policy, tmp_path / "run", key=load_key(SAMPLE_KEY))
