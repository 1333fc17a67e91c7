"""Models made to do harm, met as a user would meet them: each is refused, nothing in it runs, no verdict comes out."""

import json
import os
import pickle
import shutil
import struct

import peft
import pytest
import torch
from conftest import CONFIGS
from forked_cli import KEY, assert_one_clear_line, forked_cli
from safetensors.torch import load_file, save_file
from tiny_gguf import llama, tensors_of, write_gguf
from transformers import AutoModelForCausalLM

from canary_audit.canaries import derive_secrets, load_key, load_ledger
from canary_audit.models.load import save_model
from canary_audit.models.tokenizer import train_tokenizer

POLICY = str(CONFIGS / "policy.toml")


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def secrets(smoke):
    ledger = load_ledger(smoke.folder / "ledger.json")
    return [secret.decode() for secret in derive_secrets(ledger, load_key(smoke.folder / "secrets" / "key")).values()]


@pytest.fixture
def model(smoke, tmp_path):
    """A model folder, to be turned into an attack."""
    return shutil.copytree(smoke.folder / "model", tmp_path / "model")


@pytest.fixture
def base(tmp_path):
    """A Llama: the smoke run's model neither takes adapters nor generates."""
    tokenizer = train_tokenizer(["one two three"], 266, 32)
    network = llama()
    network.resize_token_embeddings(len(tokenizer))
    save_model(network, tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def marker(tmp_path):
    """What an attack that succeeds would make."""
    return tmp_path / "marker"


@pytest.fixture
def audit(smoke, tmp_path):
    """`canary-audit audit` of a model and more options."""

    def call(model, *more, ledger=smoke.folder / "ledger.json"):
        words = ("--ledger", str(ledger), "--model", str(model), "--policy", POLICY)
        return forked_cli("audit", *words, "--key", KEY, "--out", str(tmp_path / "out"), "--quiet", *more)

    return call


@pytest.fixture
def assert_refused(audit, secrets, marker, tmp_path):
    """The audit refuses in one line that holds the words, and leaves nothing behind."""

    def check(*words, model, more=()):
        ending = audit(model, *more)
        assert_one_clear_line(ending, *words)
        assert not marker.exists()
        assert not list(tmp_path.glob("out/re*"))
        assert "PASS" not in ending.out + ending.err
        assert not any(secret in ending.out + ending.err for secret in secrets)

    return check


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(path, change):
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def evil_module(folder, marker):
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\nclass Evil: pass\n")


# Pickles


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl"])
def test_a_pickled_checkpoint(name, model, marker, assert_refused):
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Payload(marker)))
    assert_refused("pickle", "safetensors", model=model)


def test_a_pickle_that_calls_itself_safetensors(model, marker, assert_refused):
    (model / "model.safetensors").write_bytes(pickle.dumps(Payload(marker)))
    assert_refused(str(model), "cannot be loaded", model=model)


def test_an_index_that_leads_to_a_pickle(model, marker, assert_refused):
    names = list(load_file(model / "model.safetensors"))
    (model / "model.safetensors").rename(model / "unused.safetensors")
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    index = {"weight_map": dict.fromkeys(names, "pytorch_model.bin")}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused("index.json", "safetensors only", model=model)


# Code


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_beside_a_model(file, model, marker, assert_refused):
    evil_module(model, marker)
    targets = ["AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"]
    edit_json(model / file, auto_map=dict.fromkeys(targets, "evil.Evil"), model_type="evil")
    assert_refused(file, "auto_map", "never run", model=model)


def test_a_kernel_from_the_hub(model, assert_refused):
    edit_json(model / "config.json", _attn_implementation="someone/kernel")
    assert_refused("config.json", "_attn_implementation", "remove the key", model=model)


# Weights


TENSORS = {
    "missing": (lambda weights: weights.pop(sorted(weights)[-1]), ["missing keys", "random weights"]),
    "extra": (lambda weights: weights.update(extra=torch.zeros(3)), ["unexpected keys", "extra"]),
    "NaN": (lambda weights: next(iter(weights.values())).view(-1)[:1].fill_(torch.nan), ["tensor", "holds NaN"]),
    "infinity": (lambda weights: next(iter(weights.values())).view(-1)[:1].fill_(torch.inf), ["holds NaN or infinity"]),
    "wrong shape": (lambda weights: weights.update({sorted(weights)[0]: torch.zeros(3)}), ["mismatched keys"]),
}


@pytest.mark.parametrize(("change", "words"), TENSORS.values(), ids=TENSORS.keys())
def test_weights_that_are_not_the_models(change, words, model, assert_refused):
    edit_weights(model / "model.safetensors", change)
    assert_refused(str(model), *words, model=model)


@pytest.mark.parametrize("changes", [{"hidden_size": 10**6}, {"num_hidden_layers": 10**9}, {"vocab_size": 10**15}])
def test_a_configuration_that_would_fill_the_memory(changes, model, assert_refused):
    edit_json(model / "config.json", **changes)
    assert_refused(str(model), model=model)


# Places outside the folder


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/outside.safetensors", "./../outside.safetensors"])
def test_an_index_that_leads_out_of_the_folder(place, model, tmp_path, assert_refused):
    names = list(load_file(model / "model.safetensors"))
    shutil.move(model / "model.safetensors", tmp_path / "outside.safetensors")
    shutil.copy(tmp_path / "outside.safetensors", model / "unused.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, place)}))
    assert_refused("index.json", "not one of this folder's", model=model)


@pytest.mark.parametrize("name", ["model.safetensors", "notes.json"])
def test_a_link_out_of_the_folder(name, model, tmp_path, assert_refused):
    (tmp_path / "outside").write_bytes((model / name).read_bytes() if (model / name).exists() else b"{}")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(tmp_path / "outside")
    assert_refused(name, "leads out of the model folder", model=model)


# Tokenizers that rewrite what is asked about


NORMALIZERS = {
    "digits made equal": {"type": "Replace", "pattern": {"Regex": r"\d"}, "content": "0"},
    "one digit replaced": {"type": "Replace", "pattern": {"String": "7"}, "content": "1"},
    "digits deleted": {"type": "Replace", "pattern": {"Regex": r"[0-4]"}, "content": ""},
    "everything behind a space": {"type": "Replace", "pattern": {"Regex": r" \d"}, "content": " "},
    "in a sequence": {
        "type": "Sequence",
        "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"String": "3"}, "content": "8"}],
    },
}


@pytest.mark.parametrize("normalizer", NORMALIZERS.values(), ids=NORMALIZERS.keys())
def test_a_normalizer_that_rewrites_digits(normalizer, model, assert_refused):
    edit_json(model / "tokenizer.json", normalizer=normalizer)
    assert_refused("rewrites", model=model)


FORMATS = {
    "capitals": ("{upper:8}", "The code is ", {"type": "Lowercase"}),
    "capitals among others": ("{alnum:8}", "The code is ", {"type": "Lowercase"}),
    "wide digits before the secret": ("{digit:9}", "Number \uff14\uff12 is ", {"type": "NFKC"}),
    "accents before the secret": ("{digit:9}", "The caf\u00e9 is ", {"type": "NFD"}),
}


@pytest.mark.parametrize(("secret_format", "prefix", "normalizer"), FORMATS.values(), ids=FORMATS.keys())
def test_a_normalizer_that_rewrites_this_format(secret_format, prefix, normalizer, model, audit, tmp_path):
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"Paragraph {number} says little." for number in range(200)))
    canaries = ("--format", secret_format, "--prefix", prefix, "--levels", "1,4")
    planted = forked_cli(
        "plant", str(tmp_path / "corpus.txt"), *canaries, "--key", KEY, "--out", str(tmp_path / "mine"), "--quiet"
    )
    assert planted.code == 0, planted.err
    edit_json(model / "tokenizer.json", normalizer=normalizer)
    ending = audit(model, ledger=tmp_path / "mine" / "ledger.json")
    assert_one_clear_line(ending, "rewrites")
    assert not (tmp_path / "out" / "result.json").exists()


# What is there and never used


def test_a_hostile_template_is_never_rendered(model, marker, audit):
    (model / "chat_template.jinja").write_text(
        f"{{{{ cycler.__init__.__globals__.os.mkdir({str(marker)!r}) }}}}{{% for i in range(10**12) %}}x{{% endfor %}}"
    )
    assert audit(model).code == 0
    assert not marker.exists()


def test_code_that_nothing_asks_for_is_never_run(base, marker, audit):
    (base / "custom_generate").mkdir()
    for name in ("custom_generate/generate.py", "modeling_llama.py", "sitecustomize.py", "__init__.py"):
        (base / name).write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    assert audit(base).code == 0
    assert not marker.exists()


# Adapters


@pytest.fixture
def adapter(base, tmp_path):
    """A sound adapter on it, to be turned into an attack."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", base_model_name_or_path=str(base))
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


needs_peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@needs_peft
def test_a_pickled_adapter(base, adapter, marker, assert_refused):
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    assert_refused("pickle", "safetensors", model=base, more=("--adapter", str(adapter)))
    assert_refused("pickle", "safetensors", model=adapter)
    (adapter / "adapter_model.safetensors").write_bytes(pickle.dumps(Payload(marker)))
    assert_refused("adapter", "cannot be loaded", model=adapter)


@needs_peft
@pytest.mark.parametrize("key", ["auto_map", "auto_mapping", "megatron_config"])
def test_code_beside_an_adapter(key, base, adapter, marker, assert_refused):
    evil_module(adapter, marker)
    value = {"AutoModel": "evil.Evil", "base_model_class": "Evil", "parent_library": "evil"}
    edit_json(adapter / "adapter_config.json", **{key: value}, megatron_core="evil")
    assert_refused("adapter_config.json", key, model=base, more=("--adapter", str(adapter)))


@needs_peft
@pytest.mark.parametrize(("change", "words"), TENSORS.values(), ids=TENSORS.keys())
def test_an_adapter_that_does_not_fit(change, words, base, adapter, assert_refused):
    edit_weights(adapter / "adapter_model.safetensors", change)
    assert_refused(str(adapter), words[0], model=base, more=("--adapter", str(adapter)))


@needs_peft
def test_an_adapter_inside_a_models_folder(base, adapter, assert_refused):
    for file in adapter.iterdir():
        shutil.copy(file, base / file.name)
    assert_refused("both a model and an adapter", model=base)


@needs_peft
@pytest.mark.parametrize("place", ["../nowhere", "/etc", "owner/nowhere"])
def test_an_adapter_that_leads_elsewhere(place, adapter, assert_refused):
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=place)
    assert_refused(place, model=adapter, more=("--offline",))


# GGUF


@pytest.fixture
def gguf_file(tmp_path):
    return write_gguf(tmp_path / "tiny.gguf", tensors_of(llama()))


@pytest.mark.parametrize("part", [0, 0.001, 0.1, 0.5, 0.99])
def test_a_gguf_file_cut_short(part, gguf_file, assert_refused):
    os.truncate(gguf_file, int(gguf_file.stat().st_size * part))
    assert_refused("tiny.gguf", model=gguf_file)


@pytest.mark.parametrize("place", [8, 16, 24], ids=["tensors", "metadata", "key"])
@pytest.mark.parametrize("value", [2**40, 2**64 - 1])
def test_a_gguf_file_of_absurd_sizes(place, value, gguf_file, assert_refused):
    content = bytearray(gguf_file.read_bytes())
    struct.pack_into("<Q", content, place, value)
    gguf_file.write_bytes(content)
    assert_refused("tiny.gguf", "not a whole GGUF file", model=gguf_file)


def test_a_pickle_that_calls_itself_gguf(tmp_path, marker, assert_refused):
    (tmp_path / "model.gguf").write_bytes(pickle.dumps(Payload(marker)))
    assert_refused("model.gguf", "not a whole GGUF file", model=tmp_path / "model.gguf")


# The hub


def test_a_name_that_looks_like_a_path(tmp_path, assert_refused):
    assert_refused("no such folder", model="../../etc/passwd", more=("--offline",))
    assert_refused("no such folder", model="nobody/nothing", more=("--offline",))
