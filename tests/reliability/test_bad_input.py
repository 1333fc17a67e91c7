"""Bad input through the command line: exit code 2, one line that says what, where and what to do; nothing is lost."""

import json
import os
import shutil

import pytest
import torch
from conftest import CONFIGS
from forked_cli import KEY, assert_one_clear_line, digests, forked_cli
from safetensors.torch import load_file, save_file

from canary_audit.rundir import RunDirectory, verify_chain

SMOKE = str(CONFIGS / "smoke.toml")
POLICY = str(CONFIGS / "policy.toml")


def run(folder, *overrides: str, config: str = SMOKE, key: str = KEY):
    sets = [word for override in overrides for word in ("--set", override)]
    return forked_cli("run", config, "--out", str(folder), "--key", key, "--quiet", *sets)


SETTINGS = {
    "unknown key": (["training.epoch=3"], ["[training]", "unknown key 'epoch'", "did you mean 'epochs'"]),
    "unknown table": (["trainning.epochs=3"], ["unknown key 'trainning'", "did you mean 'training'"]),
    "unknown key of a canary": (["canaries.0.prefx='a '"], ["[canaries.0]", "did you mean 'prefix'"]),
    "wrong type": (["training.epochs=many"], ["[training] epochs", "integer"]),
    "negative": (["training.learning_rate=-1"], ["[training] learning_rate", "greater than 0"]),
    "not a number": (["training.learning_rate=nan"], ["[training] learning_rate"]),
    "unknown model": (["model.kind=gpt"], ["[model] kind", "'lstm', 'llama' or 'pretrained'"]),
    "unknown device": (["training.device=quantum"], ["[training] device", "cpu"]),
    "path in a name": (["name='../../x'"], ["name"]),
    "path in a canary's name": (["canaries.0.name='../x'"], ["[canaries.0] name"]),
    "a table that is a value": (["seed.x=3"], ["--set seed.x", "no such table"]),
    "no value": (["training.epochs"], ["--set training.epochs", "table.key=value"]),
    "no key": (["=3"], ["--set", "table.key=value"]),
    "nonsense": (["...=3"], ["--set"]),
    "a canary that is not there": (["canaries.7.controls=3"], ["--set canaries.7.controls", "no such table"]),
    "missing file": (["data.source=nowhere.txt"], ["nowhere.txt", "no such file"]),
    "no such built-in text": (["data.source='builtin:poems'"], ["builtin:poems", "builtin:prose"]),
    "a folder for data": ([f"data.source={CONFIGS}"], ["configs"]),
    "missing policy": (["policy.path=nowhere.toml"], ["nowhere.toml", "no such file"]),
    "malformed format": (["canaries.0.format='{digit:'"], ["{digit:"]),
    "unknown format": (["canaries.0.format='{numeral:5}'"], ["numeral"]),
    "a space that cannot fail": (["canaries.0.format='{digit:2}'"], ["bits"]),
    "a space too small for its canaries": (["canaries.0.format='{digit:4}'", "canaries.0.controls=9000"], ["too few"]),
    "a prefix with a blank line": (['canaries.0.prefix="a\\n\\nb "'], ["blank line", "[[canaries]]"]),
    "twice the same level": (["canaries.0.levels=[1, 1]"], ["[canaries.0] levels must be distinct"]),
    "a canary longer than its context": (["canaries.0.format='{digit:60}'", "model.context_tokens=8"], ["context"]),
}


@pytest.mark.parametrize(("overrides", "words"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_setting(overrides, words, tmp_path):
    assert_one_clear_line(run(tmp_path / "run", *overrides), *words)
    assert not (tmp_path / "run" / "result.json").exists()


def test_duplicate_groups(tmp_path):
    text = (CONFIGS / "smoke.toml").read_text()
    group = text[text.index("[[canaries]]") : text.index("[model]")]
    config = tmp_path / "twice.toml"
    config.write_text(text.replace("[model]", f"{group}\n[model]").replace("policy.toml", POLICY))
    assert_one_clear_line(run(tmp_path / "run", config=str(config)), "twice.toml", "name")


CONFIG_FILES = {
    "missing": (None, ["bad.toml", "no such file"]),
    "not TOML": (b"seed = = 3", ["bad.toml", "not valid TOML", "line 1"]),
    "not text": (b"\xff\xfe\x00seed", ["bad.toml", "UTF-8"]),
    "empty": (b"", ["bad.toml", "missing key 'name'"]),
    "a key twice": (b"seed = 1\nseed = 2\n", ["bad.toml", "line 2"]),
}


@pytest.mark.parametrize(("content", "words"), CONFIG_FILES.values(), ids=CONFIG_FILES.keys())
def test_a_configuration_file(content, words, tmp_path):
    if content is not None:
        (tmp_path / "bad.toml").write_bytes(content)
    assert_one_clear_line(run(tmp_path / "run", config=str(tmp_path / "bad.toml")), *words)


CORPORA = {
    "empty": ("corpus.txt", b"", ["corpus.txt", "holds no"]),
    "blank": ("corpus.txt", b"\n\n  \n", ["corpus.txt", "holds no"]),
    "invalid UTF-8": ("corpus.txt", b"good\n\nbad \xff\n\n", ["corpus.txt", "line 3", "UTF-8"]),
    "NUL": ("corpus.txt", b"good\n\nbad \0\n\n", ["corpus.txt", "line 3", "NUL"]),
    "not JSON": ("corpus.jsonl", b'{"text": "good"}\n{"text": \n', ["corpus.jsonl", "line 2"]),
    "no text field": ("corpus.jsonl", b'{"txt": "good"}\n', ["corpus.jsonl", "line 1", "text"]),
    "not parquet": ("corpus.parquet", b"PAR1 no more", ["corpus.parquet"]),
    "unknown kind": ("corpus.docx", b"PK", ["corpus.docx", ".txt"]),
}


@pytest.mark.parametrize(("name", "content", "words"), CORPORA.values(), ids=CORPORA.keys())
def test_a_corpus(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert_one_clear_line(run(tmp_path / "run", f"data.source={tmp_path / name}"), *words)
    assert (tmp_path / name).read_bytes() == content


def test_a_line_of_a_gigabyte(tmp_path):
    """Sparse, so that it costs no disk; refused without holding it in memory."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(b"good\n\n")
    os.truncate(corpus, 1 << 30)
    ending = run(tmp_path / "run", f"data.source={corpus}")
    assert_one_clear_line(ending, "corpus.txt", "line 3", "max_line_bytes")
    assert ending.grown_mib < 100


KEYS = {
    "on the command line": ("0" * 64, ["--key", "file:PATH"]),
    "missing": ("file:/nowhere/key", ["/nowhere/key", "no such key"]),
    "no path": ("file:", ["--key", "file:PATH"]),
    "of another kind": (f"file:{SMOKE}", ["smoke.toml", "not a key"]),
}


@pytest.mark.parametrize(("key", "words"), KEYS.values(), ids=KEYS.keys())
def test_a_key(key, words, tmp_path):
    ending = run(tmp_path / "run", key=key)
    assert_one_clear_line(ending, *words)
    assert "0" * 64 not in ending.err


def test_another_key_for_a_run(smoke, tmp_path):
    folder = shutil.copytree(smoke.folder, tmp_path / "run")
    (tmp_path / "key").write_text("ab" * 32)
    assert_one_clear_line(run(folder, key=f"file:{tmp_path / 'key'}"), "another key", "new run directory")
    assert digests(folder) == digests(smoke.folder)


@pytest.fixture
def model(smoke, tmp_path):
    """The folder of the smoke run's model, to be spoilt."""
    return shutil.copytree(smoke.folder / "model", tmp_path / "model")


def audit(smoke, model, *more: str, key: str = KEY, ledger=None, out=None):
    words = ("--ledger", str(ledger or smoke.folder / "ledger.json"), "--model", str(model), "--policy", POLICY)
    return forked_cli("audit", *words, "--key", key, "--out", str(out or model.parent / "out"), "--quiet", *more)


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(model, change):
    weights = load_file(model / "model.safetensors")
    change(weights)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def poison(model):
    edit_weights(model, lambda weights: next(iter(weights.values())).view(-1)[:1].fill_(torch.nan))


def overflow(model):
    edit_weights(model, lambda weights: next(iter(weights.values())).view(-1)[:1].fill_(torch.inf))


def lose_a_tensor(model):
    edit_weights(model, lambda weights: weights.pop(sorted(weights)[-1]))


def add_a_tensor(model):
    edit_weights(model, lambda weights: weights.update(extra=torch.zeros(3)))


def bend_a_tensor(model):
    edit_weights(model, lambda weights: weights.update({name: w[:-1] for name, w in list(weights.items())[-1:]}))


def pickle_it(model):
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def cut_the_weights(model):
    os.truncate(model / "model.safetensors", 1000)


def bring_code(model):
    (model / "evil.py").write_text("open('marker', 'w')")
    edit_json(model / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"})


def bring_tokenizer_code(model):
    edit_json(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})


def rewrite_digits(model):
    replace = {"type": "Replace", "pattern": {"String": "7"}, "content": "1"}
    edit_json(model / "tokenizer.json", normalizer=replace)


def break_the_tokenizer(model):
    (model / "tokenizer.json").write_text("{}")


def empty_the_folder(model):
    shutil.rmtree(model)
    model.mkdir()


def remove_the_folder(model):
    shutil.rmtree(model)


MODELS = {
    poison: ["holds NaN", "tensor"],
    overflow: ["holds NaN or infinity", "tensor"],
    lose_a_tensor: ["missing keys"],
    add_a_tensor: ["unexpected keys", "extra"],
    bend_a_tensor: ["mismatched keys"],
    pickle_it: ["safetensors only"],
    cut_the_weights: ["model"],
    bring_code: ["config.json", "auto_map", "never run"],
    bring_tokenizer_code: ["tokenizer_config.json", "auto_map", "never run"],
    rewrite_digits: ["normalizer", "rewrites"],
    break_the_tokenizer: ["tokenizer.json"],
    empty_the_folder: ["model"],
    remove_the_folder: ["no such"],
}


@pytest.mark.parametrize(("spoil", "words"), MODELS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_model(spoil, words, smoke, model):
    spoil(model)
    assert_one_clear_line(audit(smoke, model), *words)
    assert not (model.parent / "out" / "result.json").exists()
    assert not (model / "marker").exists()


def test_the_key_of_another_ledger(smoke, model):
    key = model.parent / "key"
    key.write_text("ab" * 32)
    assert_one_clear_line(audit(smoke, model, key=f"file:{key}"), "commitment does not match", "key")


@pytest.mark.parametrize("option", ["--data", "--validation"])
def test_data_that_is_not_there(option, smoke, model):
    assert_one_clear_line(audit(smoke, model, option, "nowhere.txt"), "nowhere.txt", "no such file")


def test_a_folder_that_cannot_hold_an_audit(smoke, model, tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_clear_line(audit(smoke, model, out=tmp_path / "file"), str(tmp_path / "file"))
    with RunDirectory(tmp_path / "used"):
        assert_one_clear_line(audit(smoke, model, out=tmp_path / "used"), "another process")


def test_an_audit_can_be_verified(smoke, model, tmp_path):
    """Also where it replaces the result of the run whose ledger it uses."""
    folder = shutil.copytree(smoke.folder, tmp_path / "run")
    for out in (tmp_path / "new", folder):
        ending = audit(smoke, model, out=out)
        assert ending.code == 0, ending.err
        assert verify_chain(out) == []
    assert run(folder).code == 0
    assert digests(folder) == digests(smoke.folder)


LEDGERS = {
    "missing": (None, ["ledger.json", "no such file"]),
    "not JSON": ("{", ["ledger.json", "not a canary ledger"]),
    "of another version": ('{"schema_version": 9}', ["ledger.json", "not a canary ledger", "schema_version"]),
    "a list": ("[]", ["ledger.json", "not a canary ledger"]),
}


@pytest.mark.parametrize(("content", "words"), LEDGERS.values(), ids=LEDGERS.keys())
def test_a_ledger(content, words, smoke, model, tmp_path):
    ledger = tmp_path / "ledger.json"
    if content is not None:
        ledger.write_text(content)
    assert_one_clear_line(audit(smoke, model, ledger=ledger), *words)


def cut(text):
    return text[:-100]


def another_version(text):
    return text.replace('"schema_version": 1', '"schema_version": 99').replace(
        '"schema_version":1', '"schema_version":99'
    )


RESULTS = {
    "missing": (None, ["no such file"]),
    "empty": (lambda _: "", ["result.json"]),
    "cut": (cut, ["result.json"]),
    "of another version": (another_version, ["result.json", "schema", "99"]),
    "a list": (lambda _: "[]", ["result.json"]),
    "without canaries": (
        lambda text: json.dumps({**json.loads(text), "canaries": "none"}),
        ["result.json", "canaries"],
    ),
    "with a number too many": (lambda text: json.dumps({**json.loads(text), "more": 1}), ["result.json", "more"]),
    "deeply nested": (lambda _: "[" * 100_000, ["result.json"]),
}


@pytest.mark.parametrize("verb", [("gate", "--policy", POLICY), ("report",)], ids=["gate", "report"])
@pytest.mark.parametrize(("change", "words"), RESULTS.values(), ids=RESULTS.keys())
def test_a_result(verb, change, words, smoke, tmp_path):
    path = tmp_path / "result.json"
    if change is not None:
        path.write_text(change((smoke.folder / "result.json").read_text()))
    ending = forked_cli(verb[0], str(path), *verb[1:])
    assert_one_clear_line(ending, str(path), *words)
    assert ending.out == ""


POLICIES = {
    "unknown key": ("alpha = 0.05\nmax_exposure = 3.0\n", ["policy.toml", "did you mean 'max_exposure_bits'"]),
    "impossible": ("alpha = 2.0\nmax_exposure_bits = 3.0\n", ["policy.toml", "alpha"]),
    "empty": ("", ["policy.toml", "missing key"]),
}


@pytest.mark.parametrize(("content", "words"), POLICIES.values(), ids=POLICIES.keys())
def test_a_policy(content, words, smoke, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(content)
    assert_one_clear_line(forked_cli("gate", str(smoke.folder / "result.json"), "--policy", str(path)), *words)


def test_a_report_where_it_cannot_be_written(smoke, tmp_path):
    result = str(smoke.folder / "result.json")
    assert_one_clear_line(forked_cli("report", result, "--out", str(tmp_path / "no" / "page.html")), "page.html")
    assert_one_clear_line(forked_cli("report", result, "--format", "json", "--reveal"), "reveal")


def test_no_run_directory(smoke, tmp_path):
    assert_one_clear_line(forked_cli("verify", str(tmp_path)), str(tmp_path), "not a run directory")
    (tmp_path / "file").write_text("")
    assert_one_clear_line(run(tmp_path / "file"), str(tmp_path / "file"))
    (tmp_path / "link").symlink_to(smoke.folder)
    assert_one_clear_line(run(tmp_path / "link"), "symbolic link")
    assert_one_clear_line(run(tmp_path / "file" / "below"), "below")
