"""A pretrained model, trained further: the small Llama of a finished training stands for it."""

import json
import shutil

import pytest
import torch
from conftest import CONFIGS, SAMPLE_KEY
from tiny_training import CONTEXT, sentences, tiny_tokenizer

from canary_audit.audit import exposure_by_level
from canary_audit.canaries import derive_secrets, draw_ledger, load_key
from canary_audit.config import Config, DataConfig, ModelConfig, TrainingConfig, load_config
from canary_audit.data.sources import open_source
from canary_audit.errors import CanaryAuditError, ConfigError, SpaceError
from canary_audit.fingerprint import fingerprint_directory
from canary_audit.gate import load_policy
from canary_audit.models.load import load_model, save_model
from canary_audit.models.networks import build_network
from canary_audit.models.resolve import resolve_files
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.pipeline import run_audit
from canary_audit.planning import plan_audit
from canary_audit.subject import load_subject
from canary_audit.training.adapters import LowRankAdapters
from canary_audit.training.checkpoint import weights_sha256
from canary_audit.training.loop import Recipe, train
from canary_audit.training.stream import pack_documents

POLICY = load_policy(CONFIGS / "policy.toml")
TOKENIZER = tiny_tokenizer()
ROWS = pack_documents(sentences()[:64], TOKENIZER, CONTEXT)
METHODS = [("full", "fp32"), ("full", "bf16"), ("lora", "fp32"), ("lora", "bf16")]


def llama(vocab_size=None, context=64):
    sizes = ModelConfig(kind="llama", hidden_size=32, heads=2, context_tokens=context)
    return build_network(sizes, vocab_size or len(TOKENIZER), 0.0, 7).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that knows the language of the data, and has a token for the start of a document that is not its end."""
    texts = [
        record.text for record in open_source(DataConfig(source="builtin:synthetic", max_bytes=40_000), 9).records()
    ]
    tokenizer = train_tokenizer(texts, 320, 64)
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    assert tokenizer.bos_token_id != tokenizer.eos_token_id
    network = llama(len(tokenizer))
    rows = pack_documents(texts, tokenizer, 64)
    train(network, rows, Recipe(training=TrainingConfig(epochs=4, learning_rate=1e-2), seed=1))
    place = tmp_path_factory.mktemp("pretrained")
    save_model(network, tokenizer, place)
    return place


def config_for(folder, method="full", precision="fp32", *overrides) -> Config:
    return load_config(
        CONFIGS / "smoke.toml",
        (
            "model.kind=pretrained",
            f"model.path={folder}",
            "data.max_bytes=12_000",
            "training.epochs=2",
            "training.learning_rate=1e-2",
            f"training.method={method}",
            f"training.precision={precision}",
            "audit.nodes_per_canary=100",
            "audit.tracking_nodes_per_canary=40",
            "audit.exact_nodes=200",
            "audit.replicates=2",
            *overrides,
        ),
    )


@pytest.fixture(scope="module", params=METHODS, ids="-".join)
def run(request, folder, tmp_path_factory):
    config = config_for(folder, *request.param)
    out = tmp_path_factory.mktemp("run") / "run"
    return config, out, run_audit(config, POLICY, out, key=load_key(SAMPLE_KEY))


def test_it_is_trained_further_audited_and_stays_what_it_was(run, folder):
    _, out, result = run
    loss = [epoch.training_bits_per_token for epoch in result.training.epochs]
    assert loss[-1] < loss[0]
    assert result.language.learned
    assert result.training.presence.seen == result.training.presence.planned == 2 * (1 + 16)
    levels = {level.insertions: level.median_bits for level in result.levels}
    assert levels[16] > levels[1]
    before, after = load_model(folder), load_model(out / "model")
    assert (after.kind, after.n_parameters, after.dtype) == ("llama", before.n_parameters, "float32")
    assert weights_sha256(after.network) != weights_sha256(before.network)
    assert json.loads((out / "model" / "config.json").read_text()) == json.loads((folder / "config.json").read_text())


def test_exposure_tracked_on_the_live_network_is_that_of_the_saved_one(run):
    """Adapters beside the weights, and merged into them, score alike."""
    config, out, result = run
    ledger = draw_ledger(config.canaries, load_key(SAMPLE_KEY))
    scored = load_subject(resolve_files(out / "model"), config.audit, device="cpu").scored
    saved = exposure_by_level(
        scored, ledger, derive_secrets(ledger, load_key(SAMPLE_KEY)), settings=config.audit, seed=config.seed
    )
    assert saved == pytest.approx(result.training.epochs[-1].exposure_by_level, abs=0.1)


def test_training_and_scoring_put_the_same_token_before_a_canary(folder):
    loaded = load_model(folder)
    rows = pack_documents(["my pin is 12345"], loaded.tokenizer, 32)
    subject = load_subject(resolve_files(folder), config_for(folder).audit, device="cpu")
    assert (int(rows.tokens[0, 0]),) == subject.scored.lead == (loaded.tokenizer.bos_token_id,)


def test_another_model_at_the_same_place_is_trained_anew(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "model")
    config = config_for(place, "full", "fp32", "training.epochs=0", "training.track_exposure=false")
    run_audit(config, POLICY, tmp_path / "run", key=load_key(SAMPLE_KEY))
    before = fingerprint_directory(tmp_path / "run" / "model").digest
    run_audit(config, POLICY, tmp_path / "run")
    assert fingerprint_directory(tmp_path / "run" / "model").digest == before
    other = load_model(place)
    torch.nn.init.normal_(other.network.lm_head.weight)
    save_model(other.network, other.tokenizer, place)
    run_audit(config, POLICY, tmp_path / "run")
    assert fingerprint_directory(tmp_path / "run" / "model").digest != before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.path=/no/such/model", "make models"),
        ("model.context_tokens=65", "reads 64 tokens at most"),
        ("training.dropout=0.1", "has its own"),
    ],
)
def test_what_it_does_not_have_is_refused(folder, tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        run_audit(config_for(folder, "full", "fp32", override), POLICY, tmp_path / "run")


def test_a_tokenizer_that_cannot_represent_a_canary_is_refused(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "model")
    path = place / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "pin"}, "content": "pen"}
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(CanaryAuditError, match="rewrites") as error:
        run_audit(config_for(place), POLICY, tmp_path / "run")
    assert not isinstance(error.value, SpaceError)


def test_the_plan_knows_its_size_without_loading_it(folder):
    plan = plan_audit(config_for(folder), POLICY.table)
    assert plan.model_weights == load_model(folder).n_parameters
    damaged = folder.parent / "damaged"
    damaged.mkdir()
    (damaged / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        plan_audit(config_for(damaged), POLICY.table)


@pytest.mark.parametrize("override", ["training.method=lora", "training.precision=bf16"])
def test_the_lstm_is_trained_in_full_and_fp32_only(override):
    config = load_config(CONFIGS / "smoke.toml", (override,))
    with pytest.raises(ConfigError, match="built-in LSTM"):
        plan_audit(config, POLICY.table)


def test_adapters_begin_as_nothing_are_all_that_is_trained_and_vanish_in_the_weights():
    network = llama()
    tokens = torch.tensor([[1, 2, 3, 4]])
    before = network(input_ids=tokens).logits
    names = {name for name, _ in network.named_parameters()}
    adapters = LowRankAdapters(network, 4, seed=1)
    assert torch.equal(network(input_ids=tokens).logits, before)
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 7
    with torch.no_grad():
        for weight in trained.values():
            weight.normal_(0.0, 0.1)
    learned = network(input_ids=tokens).logits
    adapters.merge()
    assert {name for name, weight in network.named_parameters() if weight.requires_grad} == names
    torch.testing.assert_close(network(input_ids=tokens).logits, learned)
    assert not torch.allclose(learned, before)


def test_the_seed_decides_the_adapters():
    def first_weights(seed):
        network = llama()
        state = torch.get_rng_state()
        LowRankAdapters(network, 4, seed)
        assert torch.equal(torch.get_rng_state(), state)
        return weights_sha256(network)

    assert first_weights(1) == first_weights(1) != first_weights(2)


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("canary_audit.training.adapters.importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'canary-audit\[peft\]'"):
        train(llama(), ROWS, Recipe(training=TrainingConfig(method="lora"), seed=1))


def test_bf16_differs_from_fp32_a_little_and_leaves_fp32_weights():
    losses, digests = [], set()
    for precision in ("fp32", "bf16"):
        network = llama()
        config = TrainingConfig(epochs=2, learning_rate=1e-2, precision=precision)
        losses.append(train(network, ROWS, Recipe(training=config, seed=1)).epochs[-1].training_bits_per_token)
        digests.add(weights_sha256(network))
        assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert len(digests) == 2
