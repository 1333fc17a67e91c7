"""GGUF files: converted exactly, or refused with the reason."""

import struct
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_gguf import llama, tensors_of, write_gguf

from canary_audit.errors import CanaryAuditError, ModelError
from canary_audit.fingerprint import fingerprint_directory
from canary_audit.models.gguf import convert_gguf, converted_from
from canary_audit.models.load import load_model
from canary_audit.rundir import sha256_file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tensors_of(llama()))


@pytest.mark.parametrize("tied", [True, False])
def test_a_conversion_gives_the_network_back(tied, tmp_path, capfd):
    network = llama(tied)
    convert_gguf(write_gguf(tmp_path / "tiny.gguf", tensors_of(network)), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    tokens = torch.arange(3, 20)[None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(tokens).logits, network(tokens).logits, rtol=0, atol=1e-6)
    assert (loaded.kind, loaded.dtype, loaded.prompt_token) == ("llama", "float32", 1)
    assert loaded.tokenizer.model_max_length == 64
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("split", "pieces"),
    [
        ("smollm", ["Ġno", "Ġ", "1", "2", "3", "1", "2", "3", "1"]),
        ("gpt-2", ["Ġno", "Ġ", "123", "123", "1"]),
        ("llama-bpe", ["Ġno", "Ġ", "123", "123", "1"]),
    ],
)
def test_the_file_says_how_text_is_split(split, pieces, tmp_path):
    convert_gguf(write_gguf(tmp_path / "tiny.gguf", tensors_of(llama()), split=split), tmp_path / "model")
    tokenizer = load_model(tmp_path / "model").tokenizer
    assert tokenizer.tokenize(" no 1231231") == pieces
    assert tokenizer.decode(tokenizer.encode(" no é 1231231")) == " no é 1231231"


def test_a_conversion_is_done_once_and_says_where_it_comes_from(file, tmp_path):
    convert_gguf(file, tmp_path / "model")
    before = fingerprint_directory(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("mine")
    convert_gguf(file, tmp_path / "model")
    assert (tmp_path / "model" / "README.md").exists()
    assert converted_from(tmp_path / "model") == sha256_file(file)
    convert_gguf(file, tmp_path / "again")
    assert fingerprint_directory(tmp_path / "again") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "model"]


def test_a_folder_that_is_no_conversion_of_the_file_is_left_alone(file, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="is there already"):
        convert_gguf(file, tmp_path / "model")
    assert converted_from(tmp_path / "model") is None
    assert list((tmp_path / "model").iterdir()) == []


def without(name):
    return lambda tensors: {key: array for key, array in tensors.items() if key != name}


def with_extra(name):
    return lambda tensors: {**tensors, name: np.zeros(2, dtype=np.float32)}


def with_value(name, value):
    return lambda tensors: {**tensors, name: np.full_like(tensors[name], value)}


def bent(name):
    return lambda tensors: {**tensors, name: tensors[name][:-1]}


def transposed(name):
    return lambda tensors: {**tensors, name: np.ascontiguousarray(tensors[name].T)}


FILES = {
    "missing tensor": ({}, without("blk.1.ffn_up.weight"), "tensors are missing: blk.1.ffn_up.weight"),
    "extra tensor": ({}, with_extra("rope_freqs.weight"), "tensors are not understood: rope_freqs.weight"),
    "a layer too many": ({}, with_extra("blk.7.attn_norm.weight"), "not understood: blk.7"),
    "wrong shape": ({}, transposed("blk.0.ffn_gate.weight"), "mismatched keys: model.layers.0.mlp.gate_proj"),
    "wrong size": ({}, bent("blk.0.ffn_gate.weight"), "describes a network of"),
    "a huge vocabulary": ({"changes": {"llama.vocab_size": 2**31}}, dict, "describes a network of"),
    "huge heads": ({"changes": {"llama.attention.head_count": 2**31}}, dict, "cannot be converted"),
    "NaN": ({}, with_value("output_norm.weight", np.nan), "holds NaN"),
    "infinity": ({}, with_value("output_norm.weight", np.inf), "holds NaN or infinity"),
    "another architecture": ({"architecture": "mamba"}, dict, "architecture 'mamba'"),
    "another tokenizer": ({"tokenizer": "llama"}, dict, "its tokenizer \\('llama'"),
    "an unknown split": ({"split": "martian"}, dict, "splitting text as 'martian'"),
    "scaled rope": ({"changes": {"llama.rope.scaling.type": "yarn"}}, dict, "rope.scaling.type"),
    "experts": ({"changes": {"llama.expert_count": 8}}, dict, "expert_count"),
    "no context": ({"changes": {"llama.context_length": None}}, dict, "missing: context_length"),
    "a billion layers": ({"changes": {"llama.block_count": 10**9}}, dict, "tensors are missing: blk"),
    "a huge network": ({"changes": {"llama.feed_forward_length": 2**31}}, dict, "describes a network of"),
}


@pytest.mark.parametrize(("settings_", "change", "message"), FILES.values(), ids=FILES.keys())
def test_what_transformers_would_pass_over_is_refused(settings_, change, message, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", change(tensors_of(llama())), **settings_)
    with pytest.raises(ModelError, match=message):
        convert_gguf(file, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_vocabulary_without_its_merges_is_refused(file, tmp_path):
    content = file.read_bytes()
    (tmp_path / "odd.gguf").write_bytes(content.replace("Ġno".encode(), "Ġnp".encode(), 1))
    with pytest.raises(ModelError, match="its tokenizer is damaged"):
        convert_gguf(tmp_path / "odd.gguf", tmp_path / "model")


@pytest.mark.parametrize("part", [0, 0.0001, 0.01, 0.1, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(part, file, tmp_path):
    content = file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ModelError, match=r"not a whole GGUF file|cut short"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path / "model")


ABSURD = {"tensors": 8, "metadata": 16, "length of the first key": 24}


@pytest.mark.parametrize("value", [2**31, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("place", ABSURD.values(), ids=ABSURD.keys())
def test_absurd_sizes_are_refused_at_once(place, value, file, tmp_path):
    content = bytearray(file.read_bytes())
    struct.pack_into("<Q", content, place, value)
    (tmp_path / "absurd.gguf").write_bytes(content)
    begun = time.perf_counter()
    with pytest.raises(ModelError, match="not a whole GGUF file"):
        convert_gguf(tmp_path / "absurd.gguf", tmp_path / "model")
    assert time.perf_counter() - begun < 5


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 5_999), byte=st.integers(0, 255))
def test_any_changed_byte_is_converted_or_refused(place, byte, file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("changed")
    content = bytearray(file.read_bytes())
    content[place] = byte
    (folder / "changed.gguf").write_bytes(content)
    try:
        convert_gguf(folder / "changed.gguf", folder / "model")
    except CanaryAuditError:
        assert not (folder / "model").exists()
    else:
        assert (folder / "model" / "model.safetensors").is_file()
