"""Prefix-sharing scoring against naive batch scoring of the same candidates, on the built-in Llama.

    python benchmarks/scoring.py [--quick]

The naive side is what a user would write first: full sequences through transformers in padded batches of 64,
log-softmax, gather, sum. Our side walks the candidates' tree and reads each shared beginning once. Both run in one
process on one thread, in turn. The last line of the output is one JSON object.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from canary_audit.config import ModelConfig
from canary_audit.data.synthetic import synthetic_paragraphs
from canary_audit.exposure.ranks import score_paths
from canary_audit.keep import KeepAll
from canary_audit.models.interface import Children, FloatArray, IntArray, LanguageModel
from canary_audit.models.networks import build_network
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.models.transformer import TransformerModel
from canary_audit.search import search
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteLevelVocabulary

PREFIX = "The random number is "
NAIVE_BATCH = 64
SEED = 1

Scorer = Callable[[], FloatArray]


class TimedModel:
    """Passes calls on to a model and adds up the seconds spent inside it."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.seconds = 0.0
        self.rows = 0

    def root(self, prompt: Sequence[int], children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.root`."""
        begun = time.perf_counter()
        answer = self._model.root(prompt, children)
        self.seconds += time.perf_counter() - begun
        return answer

    def step(self, state: Any, parents: IntArray, tokens: IntArray, children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.step`."""
        begun = time.perf_counter()
        answer = self._model.step(state, parents, tokens, children)
        self.seconds += time.perf_counter() - begun
        self.rows += len(parents)
        return answer


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that both sides score with. Its weights are random: the time does not depend on them."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    def walk(self, secret_format: str) -> CanonicalWalk:
        """The tree of a secret space under the subject's tokenizer, as an audit builds it."""
        lead = (self.tokenizer.eos_token_id,)
        return CanonicalWalk(parse_space(secret_format), ByteLevelVocabulary(self.tokenizer), prefix=PREFIX, lead=lead)


def build_subject() -> Subject:
    """The built-in Llama at its default width with two layers, and a tokenizer of 512 entries."""
    config = ModelConfig(kind="llama", layers=2)
    texts = islice(synthetic_paragraphs(SEED), 2_000)
    tokenizer = train_tokenizer(texts, config.vocab_size, config.context_tokens)
    network = build_network(config, len(tokenizer), 0.0, SEED).eval()
    return Subject(network=network, tokenizer=tokenizer)


@torch.inference_mode()
def naive_costs(subject: Subject, secrets: Sequence[bytes]) -> FloatArray:
    """Cost in nats of each secret, shape (n_secrets,): padded batches of full sequences."""
    tokenizer = subject.tokenizer
    n_prefix = 1 + len(tokenizer(PREFIX)["input_ids"])
    costs = []
    for start in range(0, len(secrets), NAIVE_BATCH):
        texts = [tokenizer.eos_token + PREFIX + secret.decode() for secret in secrets[start : start + NAIVE_BATCH]]
        batch = tokenizer(texts, padding=True, return_tensors="pt", split_special_tokens=False)
        logits = subject.network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        log_probs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        targets = batch["input_ids"][:, 1:, None]
        wanted = log_probs.gather(-1, targets).squeeze(-1) * batch["attention_mask"][:, 1:]
        costs.append(-wanted[:, n_prefix - 1 :].double().sum(dim=-1))
    return torch.cat(costs).numpy()


def enumeration(subject: Subject, model: LanguageModel, secret_format: str) -> tuple[list[bytes], Scorer]:
    """All secrets of a space, and a scorer that enumerates them; the order is checked outside the clock."""

    def score() -> FloatArray:
        result = search(subject.walk(secret_format), model, thresholds_nats=np.array([np.inf]), keep=KeepAll())
        return result.leaves.costs_nats

    walk = subject.walk(secret_format)
    result = search(walk, model, thresholds_nats=np.array([np.inf]), keep=KeepAll())
    return [walk.secret(result.path(leaf)) for leaf in range(len(result.leaves.costs_nats))], score


def chosen(subject: Subject, model: LanguageModel, secret_format: str, n_secrets: int) -> tuple[list[bytes], Scorer]:
    """Random secrets of a large space, and a scorer that shares what beginnings they have in common."""
    rng = random.Random(SEED)  # noqa: S311 - candidates are no secrets
    secrets = parse_space(secret_format).draw(n_secrets, rng)

    def score() -> FloatArray:
        walk = subject.walk(secret_format)
        return score_paths(walk, model, [walk.path(secret) for secret in secrets])

    return secrets, score


def compare(subject: Subject, model: TimedModel, secrets: list[bytes], ours: Scorer, n_rounds: int) -> dict[str, Any]:
    """Time both sides in turn; medians over the rounds, after one round of ours and one naive batch to warm up."""
    ours()
    naive_costs(subject, secrets[:NAIVE_BATCH])
    naive_seconds, our_seconds, bookkeeping = [], [], []
    difference = 0.0
    for _ in range(n_rounds):
        begun = time.perf_counter()
        reference = naive_costs(subject, secrets)
        naive_seconds.append(time.perf_counter() - begun)
        model.seconds, model.rows = 0.0, 0
        begun = time.perf_counter()
        costs = ours()
        our_seconds.append(time.perf_counter() - begun)
        bookkeeping.append(1.0 - model.seconds / our_seconds[-1])
        difference = max(difference, float(np.abs(costs - reference).max()))
    return {
        "candidates": len(secrets),
        "speedup_over_naive": round(
            statistics.median(n / o for n, o in zip(naive_seconds, our_seconds, strict=True)), 1
        ),
        "bookkeeping_share": round(statistics.median(bookkeeping), 3),
        "max_difference_nats": difference,
        "prefixes_read": model.rows,
        "naive_seconds": round(statistics.median(naive_seconds), 3),
        "seconds": round(statistics.median(our_seconds), 3),
        "rounds": n_rounds,
    }


def main() -> None:
    """Run both comparisons and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="10^4 candidates instead of 10^5")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    subject = build_subject()
    model = TimedModel(TransformerModel(subject.network))
    n_rounds = 3
    every = compare(subject, model, *enumeration(subject, model, "{digit:4}" if quick else "{digit:5}"), n_rounds)
    some = compare(subject, model, *chosen(subject, model, "{digit:9}", 500 if quick else 2_000), n_rounds)
    report = {
        "benchmark": "scoring",
        "model": "built-in Llama, hidden 128, 2 layers, random weights",
        "prompt_tokens": len(subject.walk("{digit:4}").prompt),
        **every,
        "random_9_digit_secrets": some,
        "naive_batch": NAIVE_BATCH,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
