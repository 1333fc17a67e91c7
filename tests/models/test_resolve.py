"""From names to folders: local, GGUF, hub, adapters. The hub is a fake that lays out its cache as the real one does."""

import json
import shutil

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from tiny_gguf import llama, tensors_of, write_gguf

from canary_audit.config import ModelConfig
from canary_audit.errors import ModelError
from canary_audit.fingerprint import fingerprint_directory, fingerprint_model
from canary_audit.models.load import load_model, save_model
from canary_audit.models.networks import build_network
from canary_audit.models.resolve import cache_folder, origin, resolve_files, resolve_model
from canary_audit.models.tokenizer import train_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    tokenizer = train_tokenizer(["one two three"], 300, 16)
    network = build_network(
        ModelConfig(kind="llama", hidden_size=16, heads=2, context_tokens=16), len(tokenizer), 0.0, 1
    )
    save_model(network, tokenizer, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A hub with one model, `owner/model`; answers with the calls it got."""
    calls = []

    def download(name, **options):
        calls.append((name, options))
        if name != "owner/model":
            raise LocalEntryNotFoundError("no network")
        return str(as_snapshot(folder, tmp_path / "hub" / "models--owner--model"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return calls


def as_snapshot(folder, place):
    """A copy of a folder the way the hub's cache holds it: links to blobs."""
    snapshot = place / "snapshots" / COMMIT
    (place / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, place / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY_AUDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_itself(folder, monkeypatch):
    assert resolve_model(folder) == folder
    monkeypatch.chdir(folder.parent.parent)
    name = f"{folder.parent.name}/{folder.name}"
    assert resolve_model(name) == type(folder)(name)
    assert origin(folder) == "model"


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/model", "./owner/model", "a/b/c", "owner/", "../other"])
def test_what_is_no_model_is_refused_without_asking_the_hub(name, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "model")
    with pytest.raises(ModelError, match="no such folder"):
        resolve_model(name)
    assert hub == []


def test_of_a_hub_model_only_data_is_fetched(hub):
    resolve_model("owner/model", "main")
    (name, options) = hub[0]
    assert (name, options["revision"]) == ("owner/model", "main")
    assert options["allow_patterns"] == ["*.safetensors", "*.json", "*.jinja"]
    assert options["ignore_patterns"] == ["*/*"]


def test_a_hub_model_is_loaded_and_its_commit_recorded(hub, folder):
    snapshot = resolve_model("owner/model")
    assert origin(snapshot) == f"owner/model@{COMMIT}"
    assert fingerprint_directory(snapshot) == fingerprint_directory(folder)
    assert load_model(snapshot).kind == "llama"


def test_a_snapshot_cannot_link_past_its_blobs(hub, tmp_path):
    snapshot = resolve_model("owner/model")
    (tmp_path / "hub" / "secret.json").write_text("{}")
    (snapshot / "more.json").symlink_to("../../../secret.json")
    with pytest.raises(ModelError, match="leads out of the model folder"):
        fingerprint_directory(snapshot)


@pytest.mark.parametrize("revision", [None, "v2"])
def test_a_hub_that_does_not_answer_is_reported(revision, hub):
    with pytest.raises(ModelError, match=r"owner/other.*no such folder.*LocalEntryNotFoundError"):
        resolve_model("owner/other", revision)


def test_a_name_the_hub_does_not_know_is_reported(monkeypatch):
    def download(name, **_):
        raise RepositoryNotFoundError("404", response=_Response())

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelError, match="RepositoryNotFoundError"):
        resolve_model("owner/gone")


class _Response:
    """As much of a response as the error asks for."""

    headers: dict = {}  # noqa: RUF012
    request = None


def test_a_gguf_file_is_converted_once(cache, tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", tensors_of(llama()))
    converted = resolve_model(file)
    assert converted.is_relative_to(cache)
    assert origin(converted) == f"gguf:{converted.name}"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert resolve_model(str(file)) == converted
    (tmp_path / "other.gguf").write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"pip install 'canary-audit\[gguf\]'"):
        resolve_model(tmp_path / "other.gguf")
    with pytest.raises(ModelError, match="no such file"):
        resolve_model(tmp_path / "gone.gguf")


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("CANARY_AUDIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "canary-audit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "canary-audit"


def adapter_on(base, place):
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "revision": "v1"}))
    (place / "adapter_model.safetensors").write_bytes(b"")
    return place


def test_an_adapter_finds_its_base(folder, hub, tmp_path):
    local = adapter_on(str(folder), tmp_path / "local")
    found = resolve_files(local)
    assert (found.folder, found.adapter) == (folder, local)
    remote = adapter_on("owner/model", tmp_path / "remote")
    assert origin(resolve_files(remote).folder) == f"owner/model@{COMMIT}"
    assert hub[0][1]["revision"] == "v1"
    given = resolve_files(folder, adapter=remote)
    assert (given.folder, given.adapter) == (folder, remote)
    assert resolve_files(folder).adapter is None


@pytest.mark.parametrize("base", [None, "", 3])
def test_an_adapter_without_a_base_is_refused(base, tmp_path):
    with pytest.raises(ModelError, match="names no base model"):
        resolve_files(adapter_on(base, tmp_path / "adapter"))


def test_the_fingerprint_covers_both_folders(folder, tmp_path):
    adapter = adapter_on("owner/model", tmp_path / "adapter")
    both = fingerprint_model(folder, adapter)
    assert {"adapter/adapter_config.json", "model/config.json"} < set(both.files)
    assert list(both.files) == sorted(both.files)
    assert fingerprint_model(folder) == fingerprint_directory(folder)
    for file in (adapter / "adapter_config.json", folder / "tokenizer.json"):
        file.write_bytes(file.read_bytes() + b"\n")
        changed = fingerprint_model(folder, adapter)
        assert changed.digest != both.digest
        both = changed
