"""Rows of a forward pass, from memory that the tests make up."""

import pytest
from tiny_networks import CAUSAL

from canary_audit.models import memory
from canary_audit.models.memory import bytes_per_row, rows_for_memory


@pytest.mark.parametrize("name", ["lstm", "llama", "gpt2-tied", "gemma3-window", "mamba"])
def test_a_row_costs_at_least_its_logits(name):
    network = CAUSAL[name]()
    assert bytes_per_row(network, 10) >= 2 * 4 * 300
    assert bytes_per_row(network, 1_000) >= bytes_per_row(network, 10)


@pytest.mark.parametrize(("free_rows", "expected"), [(0, 16), (31, 16), (64, 64), (100, 64), (10_000, 512)])
def test_a_power_of_two_that_fits_half_of_the_free_memory(monkeypatch, free_rows, expected):
    network = CAUSAL["llama"]()
    monkeypatch.setattr(memory, "_free_bytes", lambda _: 2 * free_rows * bytes_per_row(network, 20))
    assert rows_for_memory(network, 20) == expected


def test_on_a_processor_a_long_prompt_takes_fewer_rows(monkeypatch):
    network = CAUSAL["gemma3-window"]()  # 2 stored heads of 8 numbers of 4 bytes
    monkeypatch.setattr(memory, "_free_bytes", lambda _: 1 << 50)
    rows = [rows_for_memory(network, n_tokens) for n_tokens in (1_000, 1_024, 1_025, 10_000, 10_000_000)]
    assert rows == [512, 512, 256, 32, 16]


def test_this_machine_has_memory(tmp_path, monkeypatch):
    assert memory._free_in_machine() > 1 << 20
    assert memory._free_in_container() >= 0
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory._free_in_container() == 1 << 62
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    assert memory._free_in_container() == 1 << 62
    (tmp_path / "memory.max").write_text("12\n")
    assert memory._free_in_container() == 7
