"""Models as people have them, through the command line: GGUF files, adapters, and SmolLM2 where it is installed."""

import json
from pathlib import Path

import peft
import pytest
import torch
from conftest import CONFIGS
from forked_cli import KEY, forked_cli
from tiny_gguf import llama, tensors_of, write_gguf
from transformers import AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from canary_audit.models.load import load_model
from canary_audit.models.resolve import resolve_model

POLICY = str(CONFIGS / "policy.toml")
SMOLLM2 = Path(__file__).parents[1] / "models" / "smollm2"


@pytest.fixture
def audit(smoke, tmp_path):
    """`canary-audit audit` of a model and more options; the result."""

    def call(*options):
        words = ("--ledger", str(smoke.folder / "ledger.json"), "--policy", POLICY, "--out", str(tmp_path / "out"))
        ending = forked_cli("audit", *words, "--key", KEY, "--offline", "--quiet", *options)
        assert ending.code == 0, ending.err
        return json.loads((tmp_path / "out" / "result.json").read_text())

    return call


def gate(tmp_path, *options):
    return forked_cli("gate", str(tmp_path / "out" / "result.json"), "--policy", POLICY, *options)


@pytest.fixture
def gguf_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY_AUDIT_CACHE", str(tmp_path / "cache"))
    return write_gguf(tmp_path / "tiny.gguf", tensors_of(llama()))


def test_a_gguf_file_is_audited_and_gated_by_its_name(gguf_file, audit, tmp_path):
    model = resolve_model(gguf_file)  # where the command line, which was started before, looks for it too
    result = audit("--model", str(model))
    assert result["model"]["kind"] == "llama"
    assert "source.json" in result["model"]["files"]
    assert gate(tmp_path, "--model", str(model)).code == 3


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_is_audited_on_its_base(gguf_file, audit, tmp_path):
    base = resolve_model(gguf_file)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", base_model_name_or_path=str(base))
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "adapter")
    given = audit("--model", str(base), "--adapter", str(tmp_path / "adapter"))
    found = audit("--model", str(tmp_path / "adapter"))
    assert found["model"] == given["model"]
    assert found["canaries"] == given["canaries"]
    assert {"adapter/adapter_model.safetensors", "model/model.safetensors"} <= set(found["model"]["files"])
    assert gate(tmp_path, "--model", str(base), "--adapter", str(tmp_path / "adapter")).code == 3
    assert gate(tmp_path, "--model", str(tmp_path / "adapter")).code == 3
    without = gate(tmp_path, "--model", str(base))
    assert (without.code, "differs from the audited one" in without.err) == (2, True)


def test_an_encoder_decoder_is_audited_by_what_it_writes(smoke, audit, tmp_path):
    tokenizer = load_model(smoke.folder / "model").tokenizer
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, pad_token_id=0, eos_token_id=0, **sizes)
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    result = audit("--model", str(tmp_path / "t5"), "--set", "audit.context=translate the number")
    assert result["model"]["kind"] == "t5"
    assert result["verdict"] == "INCONCLUSIVE"
    assert result["groups"][0]["search_nodes"] > 0


def test_half_precision_is_a_choice_that_the_result_names(smoke, audit):
    single = audit("--model", str(smoke.folder / "model"))
    half = audit("--model", str(smoke.folder / "model"), "--set", "audit.dtype=bfloat16")
    assert (single["model"]["dtype"], half["model"]["dtype"]) == ("float32", "bfloat16")
    bits = [[canary["exposure"]["bits"] for canary in result["canaries"]] for result in (single, half)]
    assert bits[0] != bits[1]


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="SmolLM2 is not installed: make models")
def test_smollm2_writes_english_and_reads_digits_one_by_one():
    loaded = load_model(SMOLLM2)
    assert loaded.n_parameters == 134_515_008
    assert loaded.tokenizer.tokenize("is 31415") == ["is", "\u0120", "3", "1", "4", "1", "5"]
    tokens = torch.tensor([loaded.tokenizer.encode("The capital of France is")])
    with torch.inference_mode():
        likeliest = loaded.network(tokens).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(likeliest) == " Paris"
