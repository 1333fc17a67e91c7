"""PEFT adapters: merged exactly as peft applies them, or refused with the reason."""

import json
import pickle

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from canary_audit.config import ModelConfig
from canary_audit.errors import ModelError
from canary_audit.models.load import load_model, save_model
from canary_audit.models.networks import build_network
from canary_audit.models.tokenizer import train_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own training

TOKENIZER = train_tokenizer(["one two three"], 300, 16)
TOKENS = torch.arange(16)[None]
LINEAR = ["q_proj", "v_proj", "down_proj"]
METHODS = {
    "LoRA": peft.LoraConfig(r=2, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "DoRA": peft.LoraConfig(r=2, target_modules=LINEAR, use_dora=True, task_type="CAUSAL_LM"),
    "LoRA and the output layer": peft.LoraConfig(
        r=2, target_modules=LINEAR, modules_to_save=["lm_head"], task_type="CAUSAL_LM"
    ),
    "LoHa": peft.LoHaConfig(r=2, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "LoKr": peft.LoKrConfig(r=2, target_modules=LINEAR, task_type="CAUSAL_LM"),
    "IA3": peft.IA3Config(target_modules=LINEAR, feedforward_modules=["down_proj"], task_type="CAUSAL_LM"),
}


def network():
    return build_network(ModelConfig(kind="llama", hidden_size=16, heads=2, context_tokens=16), len(TOKENIZER), 0.0, 1)


def train_adapter(config, folder):
    """An adapter whose tensors are all random, and the logits it gives on its base."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        adapted = peft.get_peft_model(network(), config)
        with torch.no_grad():
            for trained in (one for one in adapted.parameters() if one.requires_grad):
                trained.add_(torch.randn_like(trained), alpha=0.3)
    adapted.save_pretrained(folder)
    with torch.inference_mode():
        return adapted.eval()(TOKENS).logits


@pytest.fixture
def base(tmp_path):
    save_model(network(), TOKENIZER, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(tmp_path):
    train_adapter(METHODS["LoRA"], tmp_path / "adapter")
    return tmp_path / "adapter"


def edit_config(adapter, **changes):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(adapter, change):
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_merged_adapter_scores_as_peft_applies_it(method, base, tmp_path, capfd):
    expected = train_adapter(method, tmp_path / "adapter")
    before = torch.get_rng_state()
    loaded = load_model(base, adapter=tmp_path / "adapter")
    assert torch.equal(torch.get_rng_state(), before)
    with torch.inference_mode():
        logits = loaded.network(TOKENS).logits
        assert (expected - load_model(base).network(TOKENS).logits).abs().max() > 0.01
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert loaded.n_parameters == load_model(base).n_parameters
    assert capfd.readouterr() == ("", "")


def test_it_is_merged_before_it_is_rounded(base, adapter):
    rounded = load_model(base, adapter=adapter, dtype="bfloat16").network.state_dict()
    whole = load_model(base, adapter=adapter).network.state_dict()
    assert all(torch.equal(rounded[name], whole[name].bfloat16()) for name in whole)


def test_an_adapter_alone_is_no_model(adapter):
    with pytest.raises(ModelError, match=r"safetensors only|config\.json"):
        load_model(adapter)


def test_pickled_weights_are_never_opened(base, adapter):
    tensors = load_file(adapter / "adapter_model.safetensors")
    torch.save(tensors, adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors only"):
        load_model(base, adapter=adapter)
    (adapter / "adapter_model.safetensors").write_bytes(pickle.dumps(list(tensors)))
    with pytest.raises(ModelError, match="the adapter cannot be loaded"):
        load_model(base, adapter=adapter)


CONFIGS = {
    "code": ({"auto_map": {"AutoModel": "evil.Evil"}}, "auto_map.*never run"),
    "imports": ({"auto_mapping": {"parent_library": "evil", "base_model_class": "Evil"}}, "auto_mapping.*import"),
    "more imports": ({"megatron_config": {"x": 1}, "megatron_core": "evil"}, "megatron_config.*import"),
    "no method": ({"peft_type": None}, "peft_type: only LORA"),
    "a prompt": ({"peft_type": "PROMPT_TUNING"}, "peft_type: only LORA"),
    "a changed base": ({"init_lora_weights": "pissa"}, "changes the base model"),
    "unknown settings": ({"no_such_setting": 1}, "no_such_setting"),
    "other layers": ({"target_modules": ["q_proj", "k_proj"]}, "missing keys"),
    "fewer layers": ({"target_modules": ["q_proj"]}, "unexpected keys"),
    "no layers": ({"target_modules": ["nowhere"]}, "the adapter cannot be loaded"),
    "another rank": ({"r": 4}, "mismatched keys"),
}


@pytest.mark.parametrize(("changes", "message"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_configuration_is_refused(changes, message, base, adapter):
    edit_config(adapter, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(base, adapter=adapter)


WEIGHTS = {
    "missing": (lambda tensors: tensors.pop(sorted(tensors)[0]), "missing keys"),
    "unexpected": (lambda tensors: tensors.update(extra=torch.zeros(2)), "unexpected keys: extra"),
    "bent": (lambda tensors: tensors.update({sorted(tensors)[0]: torch.zeros(3, 3)}), "mismatched keys"),
    "NaN": (lambda tensors: tensors[sorted(tensors)[0]].fill_(torch.nan), "holds NaN"),
    "overflow": (lambda tensors: [tensor.fill_(1e30) for tensor in tensors.values()], "NaN|infinity"),
}


@pytest.mark.parametrize(("change", "message"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_weights_that_do_not_fit_are_refused(change, message, base, adapter):
    edit_weights(adapter, change)
    with pytest.raises(ModelError, match=message):
        load_model(base, adapter=adapter)


def test_a_tokenizer_beside_the_adapter_must_be_the_bases(base, adapter):
    TOKENIZER.save_pretrained(adapter)
    load_model(base, adapter=adapter)
    train_tokenizer(["four five six"], 300, 16).save_pretrained(adapter)
    with pytest.raises(ModelError, match=r"tokenizer\.json: another vocabulary"):
        load_model(base, adapter=adapter)


def test_without_peft_the_message_says_what_to_install(base, adapter, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'canary-audit\[peft\]'"):
        load_model(base, adapter=adapter)
