"""The model under the benchmarks, the command line that names it, and a meter between search and model.

Time is the processor time of this process: it has one thread, so on an idle machine that is what a clock shows, and on
a busy one it leaves out the waiting.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from canary_audit.fingerprint import fingerprint_directory
from canary_audit.models.interface import Children, FloatArray, IntArray, LanguageModel
from canary_audit.models.load import load_model
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import Vocabulary, vocabulary_of

DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "models" / "smollm2"
EFFORTS = ("full", "quick", "tiny")


def cpu_seconds() -> float:
    """Processor time of this process; see the module."""
    return time.process_time()


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What the command line asked for."""

    model: Path
    effort: str
    """One of `EFFORTS`."""


def read_arguments(description: str, *, without_default: bool = False) -> Arguments:
    """Parse the command line; leaves with status 2 and a message where the model's folder is absent.

    Args:
        without_default: the benchmark runs even where nothing lies in the default folder.
    """
    parser = argparse.ArgumentParser(description=description)
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_const", dest="effort", const="quick", help="within four minutes")
    effort.add_argument("--tiny", action="store_const", dest="effort", const="tiny", help="seconds, to test the script")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model folder (default: models/smollm2)")
    found = parser.parse_args()
    if not found.model.is_dir() and not (without_default and found.model == DEFAULT_MODEL):
        print(f"{found.model}: no such model folder; `make models` puts the default one there", file=sys.stderr)
        sys.exit(2)
    torch.set_num_threads(1)
    return Arguments(model=found.model, effort=found.effort or "full")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and its tokenizer."""

    folder: Path
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    language_model: LanguageModel
    vocabulary: Vocabulary
    lead: tuple[int, ...]
    """The token the model reads before a document, if it has one."""

    def walk(self, secret_format: str, prefix: str) -> CanonicalWalk:
        """The tree of a secret space, as an audit builds it."""
        return CanonicalWalk(parse_space(secret_format), self.vocabulary, prefix=prefix, lead=self.lead)

    @cached_property
    def lead_text(self) -> str:
        """The lead as text, for scorers that take only text."""
        return "".join(map(str, self.tokenizer.convert_ids_to_tokens(list(self.lead))))


def load_subject(folder: Path) -> Subject:
    """Load a model folder in fp32 on the processor."""
    loaded = load_model(folder)
    return Subject(
        folder=folder,
        network=loaded.network,
        tokenizer=loaded.tokenizer,
        language_model=loaded.language_model,
        vocabulary=vocabulary_of(loaded.tokenizer),
        lead=() if loaded.prompt_token is None else (loaded.prompt_token,),
    )


def cache_path(folder: Path, what: str) -> Path:
    """Where something made from the model of `folder` is kept: beside it, named by its fingerprint."""
    return folder.parent / f"{folder.name}-{what}-{fingerprint_directory(folder).digest[:12]}"


class MeteredModel:
    """Passes calls on to a model and counts what they cost."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._depth = 0
        self.reset()

    def reset(self) -> None:
        """Start counting anew."""
        self.seconds = 0.0
        self.calls = self.prefixes = self.tokens = self.asked_rows = self.attended = 0
        """Batched calls; prefixes scored, the prompt one of them; tokens read; rows that went through the output
        layer; (token, earlier token or itself) pairs.
        """

    def root(self, prompt: Sequence[int], children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.root`."""
        begun = cpu_seconds()
        answer = self._model.root(prompt, children)
        self.seconds += cpu_seconds() - begun
        self._depth = len(prompt)
        self.tokens += len(prompt)
        self.attended += len(prompt) * (len(prompt) + 1) // 2
        self._count(1, children)
        return answer

    def step(self, state: Any, parents: IntArray, tokens: IntArray, children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.step`."""
        begun = cpu_seconds()
        answer = self._model.step(state, parents, tokens, children)
        self.seconds += cpu_seconds() - begun
        self._depth += 1
        self.tokens += len(parents)
        self.attended += len(parents) * self._depth
        self._count(len(parents), children)
        return answer

    def _count(self, n_rows: int, children: Children) -> None:
        self.calls += 1
        self.prefixes += n_rows
        self.asked_rows += len(set(children.rows.tolist()))
