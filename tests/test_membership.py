"""Membership inference from texts to results: joining, references, rows, and a whole run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SAMPLE_KEY, finished_run

from canary_audit.canaries import canary_text, derive_secrets, draw_ledger, load_key
from canary_audit.config import AuditConfig, CanaryConfig, Config, ModelConfig
from canary_audit.data.members import Members
from canary_audit.errors import ConfigError, ResultError
from canary_audit.existing_model import audit_model
from canary_audit.membership.audit import Rows, add_membership, reference_files, shortened
from canary_audit.membership.measure import MembershipScores, measure_membership, membership_results
from canary_audit.membership.scores import calibrated_bits, error_zone_ratio, log_likelihood_bits
from canary_audit.models.load import save_model
from canary_audit.models.networks import build_network
from canary_audit.models.resolve import ModelFiles
from canary_audit.models.token_scores import text_tokens, token_scores
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.planning.membership import require_membership

CONTEXT = 32
PROSE = ["the cat sees the river.", "a small dog likes seven stones.", "our teacher draws the old clock."]
TOKENIZER = train_tokenizer(PROSE * 9, 300, CONTEXT)
OTHER_TOKENIZER = train_tokenizer(["completely different words were counted there"] * 9, 310, CONTEXT)
TEXTS = {"a": "the cat", "b": "seven stones, 407", "c": "our dog draws a small river."}
REFERENCE_FREE = {"loss", "zlib", "min-k++"}


def network(seed=1, tokenizer=TOKENIZER, kind="lstm"):
    config = ModelConfig(kind=kind, hidden_size=16, heads=2, context_tokens=CONTEXT)
    return build_network(config, len(tokenizer), 0.0, seed)


def test_without_a_reference_the_scores_that_need_one_are_left_out():
    scores = measure_membership(network(), TOKENIZER, TEXTS)
    assert set(scores.by_name) == REFERENCE_FREE
    assert set(scores.left_out) == {"reference", "ez-mia"}
    assert all("no reference model" in why for why in scores.left_out.values())


def test_with_a_reference_there_are_all_five_by_id():
    target, other = network(1), network(2)
    scores = measure_membership(target, TOKENIZER, TEXTS, reference=(other, TOKENIZER))
    assert list(scores.by_name) == ["loss", "reference", "zlib", "min-k++", "ez-mia"]
    assert not scores.left_out
    for id, text in TEXTS.items():
        (own,), (base,) = token_scores(target, TOKENIZER, [text]), token_scores(other, TOKENIZER, [text])
        assert scores.by_name["loss"][id] == pytest.approx(log_likelihood_bits(own), rel=1e-4)
        assert scores.by_name["reference"][id] == pytest.approx(calibrated_bits(own, base), abs=1e-3)
        assert scores.by_name["ez-mia"][id] == pytest.approx(error_zone_ratio(own, base), rel=1e-2)


def test_a_reference_with_another_tokenizer_serves_the_sums_only():
    reference = network(2, OTHER_TOKENIZER), OTHER_TOKENIZER
    scores = measure_membership(network(), TOKENIZER, TEXTS, reference=reference)
    assert set(scores.by_name) == REFERENCE_FREE | {"reference"}
    assert "tokenizer" in scores.left_out["ez-mia"]
    (own,), (base,) = token_scores(network(), TOKENIZER, [TEXTS["b"]]), token_scores(*reference, [TEXTS["b"]])
    assert scores.by_name["reference"]["b"] == pytest.approx(calibrated_bits(own, base), abs=1e-3)


def test_rows_are_scored_by_the_token():
    reference = network(2), TOKENIZER
    sums = measure_membership(network(), TOKENIZER, TEXTS, reference=reference).by_name
    means = measure_membership(network(), TOKENIZER, TEXTS, reference=reference, per_token=True).by_name
    for id, text in TEXTS.items():
        n_tokens = len(TOKENIZER.encode(text)) + 1
        assert means["loss"][id] * n_tokens == pytest.approx(sums["loss"][id])
        assert means["reference"][id] * n_tokens == pytest.approx(sums["reference"][id])
    assert {name: means[name] for name in ("zlib", "min-k++", "ez-mia")} == {
        name: sums[name] for name in ("zlib", "min-k++", "ez-mia")
    }


def some_scores(**by_id):
    return MembershipScores(by_name={"loss": by_id, "zlib": by_id}, left_out={"ez-mia": "there is no reference model"})


def test_results_join_scores_and_coins_by_id():
    scores = some_scores(d=1.0, a=3.0, c=2.0, b=4.0)
    loss, zlib = membership_results(
        scores, {"a": True, "b": True, "c": False, "d": False}, sample="canaries", primary="loss"
    )
    assert (loss.auc, loss.n_in, loss.n_out, loss.sample, loss.score) == (1, 2, 2, "canaries", "loss")
    assert (loss.primary, zlib.primary) == (True, False)
    (swapped, _) = membership_results(
        scores, {"b": False, "a": False, "c": True, "d": True}, sample="rows", primary="zlib"
    )
    assert (swapped.auc, swapped.sample, swapped.primary) == (0, "rows", False)


@pytest.mark.parametrize("inserted", [{"a": True, "b": False, "c": False}, {"a": True}, {"x": True, "b": False}])
def test_ids_that_do_not_match_are_refused(inserted):
    with pytest.raises(ResultError, match="lack score or text"):
        membership_results(some_scores(a=1.0, b=2.0), {**inserted, "d": False}, sample="rows", primary="loss")


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ResultError, match="finite"):
        membership_results(some_scores(a=float("nan"), b=2.0), {"a": True, "b": False}, sample="rows", primary="loss")


@pytest.mark.parametrize(("primary", "why"), [("ez-mia", "no reference model"), ("luck", "no such score")])
def test_a_primary_score_that_was_left_out_is_an_error(primary, why):
    with pytest.raises(ConfigError, match=why):
        membership_results(some_scores(a=1.0), {"a": True}, sample="rows", primary=primary)


def test_coins_that_all_fell_alike_give_no_result():
    assert membership_results(some_scores(a=1.0, b=2.0), {"a": True, "b": True}, sample="rows", primary="loss") == ()


@pytest.mark.parametrize("text", [" ".join(PROSE), "naïve 🙂🙂 überall 407 " * 4, "the cat", ""])
@pytest.mark.parametrize("most_tokens", [1, 7, 31])
def test_a_shortened_text_is_a_beginning_that_fits(text, most_tokens):
    short = shortened(text, TOKENIZER, most_tokens)
    assert text.startswith(short)
    assert len(text_tokens(TOKENIZER, [short])[0]) <= most_tokens
    if short != text:
        assert len(text_tokens(TOKENIZER, [text[: len(short) + 12]])[0]) > most_tokens


def planned(audit, **tables):
    raw = {
        "name": "plan",
        "data": {"source": "builtin:prose"},
        "canaries": [{"format": "{digit:9}", "prefix": "pin ", "coin_flips": 20}],
        "policy": {"path": "policy.toml"},
        "audit": audit,
    }
    return Config.model_validate(raw | tables)


@pytest.mark.parametrize("score", ["reference", "ez-mia"])
def test_a_primary_score_without_its_reference_is_refused_by_the_plan(score, tmp_path):
    with pytest.raises(ConfigError, match=r"\[audit\] membership_score: '.*' needs a model.*reference_model"):
        require_membership(planned({"membership_score": score}))
    with pytest.raises(ConfigError, match="needs a model"):
        reference_files(AuditConfig(membership_score=score))
    require_membership(planned({"membership_score": score, "reference_model": "owner/base"}))
    require_membership(planned({"membership_score": score}, model={"kind": "pretrained", "path": "owner/base"}))
    no_coins = [{"format": "{digit:9}", "prefix": "pin "}]
    require_membership(planned({"membership_score": score}, canaries=no_coins))


def test_the_plan_misses_a_reference_that_is_not_there_and_held_out_text(tmp_path):
    with pytest.raises(ConfigError, match="no such folder or file"):
        require_membership(planned({"reference_model": str(tmp_path / "nothing")}))
    data = {"source": "builtin:prose", "validation_fraction": 0.0}
    with pytest.raises(ConfigError, match="nothing is held out"):
        require_membership(planned({"membership_rows": 10}, data=data))


def test_the_reference_is_the_configured_model_or_what_training_started_from(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "start").mkdir()
    base, start = str(tmp_path / "base"), str(tmp_path / "start")
    assert reference_files(AuditConfig(reference_model=base), start).folder == tmp_path / "base"
    assert reference_files(AuditConfig(), start).folder == tmp_path / "start"
    assert reference_files(AuditConfig()) is None


LEDGER = draw_ledger([CanaryConfig(format="{letter:12}", prefix="pin ", controls=2, coin_flips=30)], b"k" * 32)
SECRETS = derive_secrets(LEDGER, b"k" * 32)
INSERTED = {canary.id: canary.insertions > 0 for canary in LEDGER.canaries if canary.role == "coin"}


def canary_texts(inserted):
    return [canary_text(LEDGER.groups[0], SECRETS[id]) for id, is_in in INSERTED.items() if is_in is inserted]


def taught(texts, steps=80):
    """A network that has learned some texts by heart."""
    learner = network(kind="llama").train()
    framed = [[0, *tokens, 0] for tokens in text_tokens(TOKENIZER, texts)]
    rows = torch.zeros((len(framed), max(map(len, framed))), dtype=torch.int64)
    for row, tokens in zip(rows, framed, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=2e-2)
    for _ in range(steps):
        logits = learner(input_ids=rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return learner.eval()


class Nothing:
    """Measurements before membership."""

    coins, membership = (), ()

    def model_copy(self, update):
        return SimpleNamespace(**update)


@pytest.fixture(scope="module")
def base_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_model(network(kind="llama"), TOKENIZER, folder)
    return ModelFiles(folder=folder)


def added(target, score, reference, rows=None):
    return add_membership(
        Nothing(),
        SimpleNamespace(network=target, tokenizer=TOKENIZER),
        LEDGER,
        SECRETS,
        settings=AuditConfig(membership_score=score),
        reference=reference,
        rows=rows,
        device="cpu",
    )


def test_what_was_learned_shows_in_every_score_and_nothing_shows_before(base_files):
    members = Members(
        trained={f"in-{place}": text * 2 for place, text in enumerate(canary_texts(True))},
        held_out={f"out-{place}": text * 2 for place, text in enumerate(canary_texts(False))},
    )
    rows = Rows(members=members, context_tokens=CONTEXT)
    learner = taught(canary_texts(True))
    found = added(learner, "ez-mia", base_files, rows)
    assert {(result.sample, result.score) for result in found.membership} == {
        (sample, score)
        for sample in ("canaries", "rows")
        for score in ("loss", "reference", "zlib", "min-k++", "ez-mia")
    }
    canaries = [result for result in found.membership if result.sample == "canaries"]
    assert all(result.auc > 0.9 for result in canaries)
    assert [result.score for result in canaries if result.primary] == ["ez-mia"]
    assert {coin.id: coin.inserted for coin in found.coins} == INSERTED
    expected = measure_membership(
        learner,
        TOKENIZER,
        {id: canary_text(LEDGER.groups[0], SECRETS[id]) for id in INSERTED},
        reference=(network(kind="llama"), TOKENIZER),
    )
    assert {coin.id: coin.score for coin in found.coins} == pytest.approx(expected.by_name["ez-mia"], rel=1e-3)
    untaught = added(network(seed=3, kind="llama"), "loss", None)
    assert {result.score for result in untaught.membership} == REFERENCE_FREE
    assert all(result.auc_low < 0.5 < result.auc_high for result in untaught.membership)


def test_an_encoder_decoder_keeps_its_coins_and_has_no_other_score():
    target = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=True))
    before = Nothing()
    settings = {"reference": None, "rows": None, "device": "cpu"}
    loaded = SimpleNamespace(network=target)
    assert add_membership(before, loaded, LEDGER, SECRETS, settings=AuditConfig(), **settings) is before
    with pytest.raises(ConfigError, match="choose 'loss'"):
        add_membership(before, loaded, LEDGER, SECRETS, settings=AuditConfig(membership_score="zlib"), **settings)


def audited_elsewhere(run):
    """The same model, audited from its files."""
    return audit_model(
        run.folder / "ledger.json",
        run.folder / "model",
        run.policy,
        key=load_key(SAMPLE_KEY),
        data=run.folder / "data/train.txt",
        validation=run.folder / "data/validation.txt",
        settings=run.config.audit,
        recipe=run.config.training,
        seed=run.config.seed,
    )


@pytest.mark.slow
def test_a_whole_run_scores_coins_and_rows(tmp_path, base_files):
    run = finished_run(
        "smoke",
        tmp_path / "run",
        "canaries.0.coin_flips=60",
        "audit.membership_rows=40",
        f"audit.reference_model={base_files.folder}",
        "audit.membership_score=reference",
    )
    results = {(found.sample, found.score): found for found in run.result.membership}
    assert {score for sample, score in results if sample == "rows"} == REFERENCE_FREE | {"reference"}  # other tokens
    canaries, rows = results["canaries", "reference"], results["rows", "loss"]
    assert canaries.primary
    assert canaries.n_in + canaries.n_out == len(run.result.epsilon.canaries) == 60
    assert run.result.epsilon.score == "reference"
    assert run.result.epsilon.auc == pytest.approx(canaries.auc)
    assert 0 < rows.n_in <= 40
    assert 0 < rows.n_out <= 40
    assert str(base_files.folder) not in (run.folder / "result.json").read_text()
    again = audited_elsewhere(run)
    assert again.membership == run.result.membership
    assert again.epsilon.canaries == run.result.epsilon.canaries
    assert np.isfinite([coin.score for coin in run.result.epsilon.canaries]).all()
