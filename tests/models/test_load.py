"""Models in and out of folders, and folders that must not get in."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from canary_audit.config import ModelConfig
from canary_audit.errors import ModelError
from canary_audit.models.load import load_model, load_tokenizer_alone, save_model
from canary_audit.models.networks import build_network
from canary_audit.models.tokenizer import document_end, document_start, train_tokenizer

TOKENIZER = train_tokenizer(["one two three"], 300, 16)
KINDS = pytest.mark.parametrize("kind", ["lstm", "llama"])


def build(kind):
    config = ModelConfig(kind=kind, hidden_size=16, heads=2, context_tokens=16)
    return build_network(config, len(TOKENIZER), 0.0, 1).eval()


@pytest.fixture
def folder(tmp_path):
    save_model(build("lstm"), TOKENIZER, tmp_path / "model")
    return tmp_path / "model"


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@KINDS
def test_a_saved_model_gives_bit_equal_logits(kind, tmp_path, capfd):
    network = build(kind)
    save_model(network, TOKENIZER, tmp_path)
    loaded = load_model(tmp_path, batch_rows=7)
    tokens = torch.arange(16)[None]
    with torch.inference_mode():
        assert torch.equal(loaded.network(tokens).logits, network(tokens).logits)
    text = "one 12 <|endoftext|>\n two"
    assert loaded.tokenizer.encode(text) == TOKENIZER.encode(text)
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(text)) == text
    assert loaded.kind == {"lstm": "canary-audit-lstm", "llama": "llama"}[kind]
    assert (loaded.dtype, loaded.prompt_token, loaded.language_model.batch_rows) == ("float32", 0, 7)
    assert loaded.n_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert not loaded.network.training
    assert capfd.readouterr() == ("", "")


@KINDS
def test_saving_twice_writes_the_same_bytes(kind, tmp_path):
    for name in ("a", "b"):
        save_model(build(kind), TOKENIZER, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_tied_heads_are_not_missing(tmp_path):
    network = GPT2LMHeadModel(GPT2Config(vocab_size=len(TOKENIZER), n_embd=16, n_layer=1, n_head=2, n_positions=16))
    save_model(network, TOKENIZER, tmp_path)
    assert load_model(tmp_path).kind == "gpt2"


def test_half_precision_is_loaded_in_fp32(tmp_path):
    save_model(build("llama").to(torch.bfloat16), TOKENIZER, tmp_path)
    assert load_model(tmp_path).dtype == "float32"


def test_split_weights_are_loaded(tmp_path):
    network = build("llama")
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    TOKENIZER.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    tokens = torch.arange(16)[None]
    assert torch.equal(load_model(tmp_path).network(tokens).logits, network(tokens).logits)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl"])
def test_a_pickle_is_never_opened(folder, tmp_path, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "marker")))
    with pytest.raises(ModelError, match="safetensors only"):
        load_model(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("shard", ["pytorch_model.bin", "../outside.safetensors", 3])
def test_an_index_cannot_lead_to_a_pickle_or_out_of_the_folder(folder, tmp_path, shard):
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "marker")))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, shard)}))
    with pytest.raises(ModelError, match="safetensors only"):
        load_model(folder)
    assert not (tmp_path / "marker").exists()


def test_a_pickle_named_safetensors_is_not_unpickled(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "marker")))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path, name):
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'marker')!r})\nclass Evil: pass\n")
    targets = ["AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"]
    edit_json(folder / name, auto_map=dict.fromkeys(targets, "evil.Evil"), model_type="evil")
    with pytest.raises(ModelError, match="never run"):
        load_model(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_implementation", "someone/kernel"),
        ("_attn_implementation", "someone/kernel"),
        ("experts_implementation", "someone/kernel"),
        ("fusion_config", {"x": 1}),
        ("transformers_weights", "other.safetensors"),
        ("quantization_config", {"quant_method": "gptq"}),
    ],
)
def test_a_configuration_cannot_bring_kernels_other_weights_or_quantization(folder, key, value):
    edit_json(folder / "config.json", **{key: value})
    with pytest.raises(ModelError, match=key):
        load_model(folder)


def test_a_missing_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.pop("lstm.weight_hh_l0"))
    with pytest.raises(ModelError, match=r"missing keys: lstm\.weight_hh_l0"):
        load_model(folder)


def test_an_unexpected_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(ModelError, match="unexpected keys: extra"):
        load_model(folder)


def test_a_tensor_of_another_shape_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.update({"lm_head.bias": torch.zeros(2)}))
    with pytest.raises(ModelError, match=r"mismatched keys: lm_head\.bias"):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(folder, value):
    edit_weights(folder, lambda tensors: tensors["lstm.bias_ih_l0"][3].fill_(value))
    with pytest.raises(ModelError, match=r"tensor lstm\.bias_ih_l0 holds NaN or infinity"):
        load_model(folder)


@pytest.mark.parametrize("size", [0, 4, 200, 4000])
def test_truncated_weights_are_refused(folder, size):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)


@pytest.mark.parametrize("changes", [{"model_type": "no-such-model"}, {"hidden_size": "many"}, {"hidden_size": -1}])
def test_a_configuration_nobody_can_build_is_refused(folder, changes):
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_a_damaged_file_is_refused(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_model(folder)


def test_a_billion_layers_are_not_even_counted(folder):
    edit_json(folder / "config.json", num_hidden_layers=10**9)
    with pytest.raises(ModelError, match=r"config\.json describes 1,000,000,000 layers"):
        load_model(folder)


def test_a_network_far_larger_than_its_weights_is_not_even_allocated(folder):
    edit_json(folder / "config.json", hidden_size=1_000_000)
    with pytest.raises(ModelError, match=r"config\.json describes 8,000"):
        load_model(folder)


def test_loading_leaves_the_random_state_as_it_was(folder):
    before = torch.get_rng_state()
    load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_distributed_checkpoint_cannot_stand_in_for_the_weights(folder):
    save_file({"lm_head.bias": torch.zeros(2)}, folder / "shard-00000-model-00001-of-00001.safetensors")
    with pytest.raises(ModelError, match="distributed checkpoint"):
        load_model(folder)


def test_a_model_with_an_adapter_in_its_folder_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="both a model and an adapter"):
        load_model(folder)


def test_bfloat16_is_an_explicit_choice(tmp_path):
    network = build("llama")
    save_model(network, TOKENIZER, tmp_path)
    loaded = load_model(tmp_path, dtype="bfloat16")
    assert loaded.dtype == "bfloat16"
    rounded = network.bfloat16().state_dict()
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in loaded.network.state_dict().items())


@pytest.mark.parametrize("device", ["cuda:7", "quantum", ""])
def test_a_device_that_is_not_there_is_refused(folder, device):
    with pytest.raises(ModelError, match=r"no device '.*' here; available: cpu"):
        load_model(folder, device=device)


def test_an_encoder_decoder_is_loaded(tmp_path):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(TOKENIZER), decoder_start_token_id=0, pad_token_id=0, eos_token_id=0, **sizes)
    save_model(T5ForConditionalGeneration(config), TOKENIZER, tmp_path)
    loaded = load_model(tmp_path, context="one two")
    assert isinstance(loaded.network, T5ForConditionalGeneration)
    assert loaded.kind == "t5"
    with pytest.raises(ModelError, match="context"):
        load_model(tmp_path)


def test_a_causal_model_has_no_context(folder):
    with pytest.raises(ModelError, match="context"):
        load_model(folder, context="one two")


@pytest.mark.parametrize(("bos", "eos", "start"), [("a", "b", "a"), (None, "b", "b"), (None, None, None)])
def test_where_documents_begin_and_end(bos, eos, start):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.backend_tokenizer, bos_token=bos, eos_token=eos)
    assert document_end(tokenizer) == (None if eos is None else tokenizer.convert_tokens_to_ids(eos))
    assert document_start(tokenizer) == (None if start is None else tokenizer.convert_tokens_to_ids(start))


def test_a_name_is_not_looked_up_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        load_model(tmp_path / "gpt2")


def test_the_interface_does_not_load_torch():
    program = "import sys, canary_audit.models.interface\nassert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_tokenizer_alone_needs_no_weights_and_no_model(tmp_path):
    tokenizer = train_tokenizer(["the pin is 12"], 300, 64)
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    loaded = load_tokenizer_alone(tmp_path)
    assert loaded.encode("the pin is 12") == tokenizer.encode("the pin is 12")
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoTokenizer": "evil.py"}}')
    with pytest.raises(ModelError, match="never run"):
        load_tokenizer_alone(tmp_path)
