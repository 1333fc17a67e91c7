"""What a transformer remembers of many prefixes: a tree that holds each token's keys and values once.

A cache with one row per prefix would hold the prompt and every shared beginning once per row, and copy it at each step:
gigabytes at 10^4 prefixes. Here memory grows by one token's keys and values per prefix. A forward pass joins the tokens
along each of its rows' paths, one layer at a time, and what it joined is dropped again before the next layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from canary_audit.models.interface import IntArray

KeysAndValues = tuple[Tensor, Tensor]
"""Of one layer; each of shape (n_rows, n_heads, n_tokens, head_dim)."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """The last tokens of the prefixes of one length."""

    parents: IntArray
    """Shape (n_rows,): the row of the level before that each continues; all 0 behind the prompt."""
    layers: list[KeysAndValues] = field(default_factory=list)
    """Of one token per row; filled by the forward passes that read them."""

    def write(self, start: int, passed: Sequence[KeysAndValues]) -> None:
        """Take over what a forward pass computed for the rows from `start` on."""
        if not self.layers:
            n_rows = len(self.parents)
            self.layers.extend(
                (keys.new_empty((n_rows, *keys.shape[1:])), values.new_empty((n_rows, *values.shape[1:])))
                for keys, values in passed
            )
        for (all_keys, all_values), (keys, values) in zip(self.layers, passed, strict=True):
            all_keys[start : start + len(keys)] = keys
            all_values[start : start + len(values)] = values


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an encoder made of a source text; one row, shared by all prefixes."""

    encoded: Tensor
    """Shape (1, n_source_tokens, hidden_size)."""
    layers: list[KeysAndValues]
    """What the decoder's cross-attention sees of it."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """All prefixes of one length, as paths of a tree. Never changed: a step makes a new one that shares the rest."""

    prompt: list[KeysAndValues]
    """One row."""
    levels: tuple[Level, ...] = ()
    source: Source | None = None

    @property
    def n_tokens(self) -> int:
        """Tokens of each prefix, the prompt's included."""
        return self.prompt[0][0].shape[-2] + len(self.levels)

    def grown(self, level: Level) -> "Past":
        """The prefixes of `level`, one token longer."""
        return replace(self, levels=(*self.levels, level))

    def paths(self, rows: IntArray, device: torch.device) -> list[Tensor]:
        """For each level, the row that each of `rows` (of the last level) passes through."""
        paths = []
        for level in reversed(self.levels):
            paths.append(torch.from_numpy(rows).to(device))
            rows = level.parents[rows]
        return paths[::-1]


def prompt_cache(sliding: Sequence[bool]) -> Cache:
    """An empty cache that keeps every token, also in layers that look back through a sliding window."""
    return Cache(layers=[_WholeLayer(is_sliding) for is_sliding in sliding])


def path_cache(past: Past, rows: IntArray, sliding: Sequence[bool], device: torch.device) -> Cache:
    """A cache for one forward pass that reads one more token behind each of `rows` of `past`."""
    paths = past.paths(rows, device)
    layers = zip(past.prompt, *(level.layers for level in past.levels), strict=True)
    return Cache(
        layers=[
            _PathLayer(is_sliding, prompt, parts, paths, past.n_tokens)
            for is_sliding, (prompt, *parts) in zip(sliding, layers, strict=True)
        ]
    )


def passed(cache: Cache) -> list[KeysAndValues]:
    """What a forward pass left in a cache: of a `path_cache`, the new token's keys and values alone."""
    return [(layer.keys, layer.values) for layer in cache.layers]


class _WholeLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped to mypy
    """A layer's keys and values, none dropped; transformers masks those that a sliding window has left behind."""

    def __init__(self, is_sliding: bool) -> None:
        super().__init__()
        self.is_sliding = is_sliding


class _PathLayer(_WholeLayer):
    """One layer for one forward pass; keeps only the new token's keys and values, and the caller fetches them."""

    def __init__(
        self,
        is_sliding: bool,
        prompt: KeysAndValues,
        levels: Sequence[KeysAndValues],
        paths: Sequence[Tensor],
        n_tokens: int,
    ) -> None:
        super().__init__(is_sliding)
        self._prompt = prompt
        self._levels = levels
        self._paths = paths
        self._n_tokens = n_tokens

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> KeysAndValues:
        """The keys and values of whole prefixes, the new token's last."""
        self.keys, self.values, self.is_initialized = key_states, value_states, True
        return self._joined(0, key_states), self._joined(1, value_states)

    def get_seq_length(self) -> int:
        """Tokens read so far."""
        return self._n_tokens + self.is_initialized

    def _joined(self, which: int, new: Tensor) -> Tensor:
        n_rows, n_heads, _, head_dim = new.shape
        n_prompt = self._prompt[which].shape[-2]
        whole = new.new_empty((n_rows, n_heads, self._n_tokens + 1, head_dim))
        whole[:, :, :n_prompt] = self._prompt[which]
        for place, (level, path) in enumerate(zip(self._levels, self._paths, strict=True), start=n_prompt):
            whole[:, :, place] = level[which][:, :, 0].index_select(0, path)
        whole[:, :, -1:] = new
        return whole
