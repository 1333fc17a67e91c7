"""How many rows a forward pass may have, from the memory that is free."""

import os
from pathlib import Path

import torch
from transformers import PreTrainedModel

FEWEST_ROWS = 16
MOST_ROWS = 4096
MOST_ROWS_CPU = 512
"""A processor is no faster with more: its matrix products are at their peak."""

_MOST_JOINED_BYTES_CPU = 32 << 20
"""The C library gives larger blocks back after each use, and they return as fresh pages: behind a 128-token prompt of
SmolLM2, 512 rows (51 MiB a block) were a quarter slower per row than 256 (26 MiB).
"""

_SHARE = 0.5
"""Of the free memory: the rest is for the past of the prefixes, and for others."""

_CGROUP = Path("/sys/fs/cgroup")


def rows_for_memory(network: PreTrainedModel, n_tokens: int) -> int:
    """Rows of a forward pass that fit the free memory of the network's device: a power of two, 16 to 4,096.

    `n_tokens` is the length of the longest prefix, prompt included. The answer depends on what is free now, and decides
    the last digits of every score: ask once, record it, and use the same number on resume.
    """
    rows = int(_SHARE * _free_bytes(network.device)) // bytes_per_row(network, n_tokens)
    most = MOST_ROWS
    if network.device.type == "cpu":
        rows = min(rows, _MOST_JOINED_BYTES_CPU // (n_tokens * _head_bytes(network)[1]))
        most = MOST_ROWS_CPU
    return min(most, 1 << max(rows, FEWEST_ROWS).bit_length() - 1)


def nodes_for_memory(network: PreTrainedModel) -> int:
    """Prefixes whose keys and values fit half of the free memory of the network's device."""
    config = network.config.get_text_config(decoder=True)
    bytes_per_node = 2 * int(config.num_hidden_layers) * _head_bytes(network)[1]
    return int(_SHARE * _free_bytes(network.device)) // bytes_per_node


def bytes_per_row(network: PreTrainedModel, n_tokens: int) -> int:
    """What one row of a forward pass takes at its largest: logits, one layer's joined past, activations.

    Logits are held in the network's precision and in fp32 beside it; keys and values of one layer twice, joined and as
    attention spreads them over its heads.
    """
    config = network.config.get_text_config(decoder=True)
    hidden_size = config.hidden_size
    inner_size = getattr(config, "intermediate_size", None) or 4 * hidden_size
    logits = config.vocab_size * (network.dtype.itemsize + 4)
    past = 2 * n_tokens * sum(_head_bytes(network))
    activations = (8 * hidden_size + 4 * inner_size) * network.dtype.itemsize
    return int(logits + past + activations)


def _head_bytes(network: PreTrainedModel) -> tuple[int, int]:
    """Of one token in one layer: bytes of its keys spread over all heads, and as they are stored."""
    config = network.config.get_text_config(decoder=True)
    n_heads = getattr(config, "num_attention_heads", None) or 1
    n_stored = getattr(config, "num_key_value_heads", None) or n_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    return (n_heads * head_dim * network.dtype.itemsize, n_stored * head_dim * network.dtype.itemsize)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        unused_cache = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused_cache
    return min(_free_in_machine(), _free_in_container())


def _free_in_machine() -> int:
    """MemAvailable where the system tells it, which counts what file caches would give back; else free pages."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _free_in_container() -> int:
    """What the control group's limit leaves; without a limit, more than any machine has."""
    try:
        limit, used = ((_CGROUP / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        return max(int(limit) - int(used), 0)
    except (OSError, ValueError):  # no control group, or "max"
        return 1 << 62
