"""Fingerprints: what changes them, what does not, and what has none."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from canary_audit.errors import ModelError
from canary_audit.fingerprint import fingerprint_directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "adapter").mkdir(parents=True)
    for name in (
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "adapter/adapter.safetensors",
    ):
        (folder / name).write_bytes(f"content of {name}".encode())
    return folder


def test_it_lists_every_file_in_order(model: Path) -> None:
    fingerprint = fingerprint_directory(model)
    assert list(fingerprint.files) == [
        "adapter/adapter.safetensors",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert len(fingerprint.digest) == 64


def test_a_shell_computes_the_same_digest(model: Path) -> None:
    command = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    output = subprocess.run(command, shell=True, cwd=model, capture_output=True, text=True, check=True).stdout  # noqa: S602
    assert output.split()[0] == fingerprint_directory(model).digest


def test_place_time_and_mode_do_not_count(model: Path, tmp_path: Path) -> None:
    before = fingerprint_directory(model)
    copy = tmp_path / "elsewhere"
    shutil.copytree(model, copy)
    os.utime(copy / "config.json", (1, 1))
    (copy / "config.json").chmod(0o600)
    assert fingerprint_directory(copy) == before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "chat_template.jinja", "adapter/adapter.safetensors"]
)
def test_every_byte_counts(model: Path, name: str) -> None:
    before = fingerprint_directory(model)
    content = (model / name).read_bytes()
    (model / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    after = fingerprint_directory(model)
    assert after.digest != before.digest
    assert {path for path in after.files if after.files[path] != before.files[path]} == {name}


def test_added_renamed_and_removed_files_count(model: Path) -> None:
    digests = {fingerprint_directory(model).digest}
    (model / "generation_config.json").write_bytes(b"{}")
    digests.add(fingerprint_directory(model).digest)
    (model / "generation_config.json").rename(model / "special_tokens_map.json")
    digests.add(fingerprint_directory(model).digest)
    (model / "tokenizer.json").unlink()
    digests.add(fingerprint_directory(model).digest)
    assert len(digests) == 4


def test_hidden_files_are_left_out(model: Path) -> None:
    before = fingerprint_directory(model)
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_bytes(b"x")
    (model / ".gitattributes").write_bytes(b"x")
    assert fingerprint_directory(model) == before


def test_only_safetensors_are_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        fingerprint_directory(tmp_path / "none")
    (tmp_path / "config.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match="no such model folder"):
        fingerprint_directory(tmp_path / "config.json")
    with pytest.raises(ModelError, match=r"no \*\.safetensors file"):
        fingerprint_directory(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"holds its weights as pickle, .*; safetensors only"):
        fingerprint_directory(tmp_path)


def test_links_inside_are_followed_and_links_out_are_refused(model: Path, tmp_path: Path) -> None:
    (model / "alias.json").symlink_to("config.json")
    files = fingerprint_directory(model).files
    assert files["alias.json"] == files["config.json"]
    (tmp_path / "outside.json").write_bytes(b"{}")
    (model / "escape.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ModelError, match=r"escape\.json: a link that leads out of the model folder"):
        fingerprint_directory(model)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda model: (model / "linked").symlink_to("adapter"), "linked: a linked folder"),
        (lambda model: (model / "broken.json").symlink_to("gone.json"), r"broken\.json: neither a regular file"),
        (lambda model: os.mkfifo(model / "pipe"), "pipe: neither a regular file"),
        (lambda model: (model / "a\nb").write_bytes(b""), "a name must be printable"),
        (lambda model: (model / os.fsdecode(b"\xff.json")).write_bytes(b""), "a name must be printable"),
    ],
    ids=["linked-folder", "broken-link", "pipe", "newline", "not-utf-8"],
)
def test_what_cannot_be_fingerprinted(model: Path, prepare: Callable[[Path], None], message: str) -> None:
    prepare(model)
    with pytest.raises(ModelError, match=message):
        fingerprint_directory(model)


def test_a_folder_that_is_a_link_itself_is_fine(model: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(model)
    assert fingerprint_directory(tmp_path / "latest") == fingerprint_directory(model)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["adapter", "config.json"])
def test_what_cannot_be_read_is_not_passed_over(model: Path, name: str) -> None:
    (model / name).chmod(0)
    try:
        with pytest.raises(ModelError, match=f"{name}: cannot be read: Permission denied"):
            fingerprint_directory(model)
    finally:
        (model / name).chmod(0o700)
