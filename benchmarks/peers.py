"""Other ways to score the same candidates with the same network: whole texts, in batches."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from subject import Subject
from transformers import PreTrainedTokenizerFast

from canary_audit.models.interface import FloatArray

BATCH = 64

Scorer = Callable[[Subject, str, Sequence[bytes]], FloatArray]
"""(subject, prefix, secrets) -> cost in nats of each secret's tokens, shape (n_secrets,)."""


@torch.inference_mode()
def naive_costs(subject: Subject, prefix: str, secrets: Sequence[bytes]) -> FloatArray:
    """What one would write first: whole texts in padded batches, log-softmax, gather, sum."""
    tokenizer = _padding_tokenizer(subject)
    n_prefix = len(subject.lead) + len(subject.vocabulary.encode(prefix.encode()))
    costs = []
    for start in range(0, len(secrets), BATCH):
        texts = [subject.lead_text + prefix + secret.decode() for secret in secrets[start : start + BATCH]]
        batch = tokenizer(texts, padding=True, return_tensors="pt", split_special_tokens=False)
        logits = subject.network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        log_probs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        targets = batch["input_ids"][:, 1:, None]
        wanted = log_probs.gather(-1, targets).squeeze(-1) * batch["attention_mask"][:, 1:]
        costs.append(-wanted[:, n_prefix - 1 :].double().sum(dim=-1))
    return torch.cat(costs).numpy()


def lm_eval_costs(subject: Subject, prefix: str, secrets: Sequence[bytes]) -> FloatArray:
    """lm-evaluation-harness's `loglikelihood`, which reads texts that differ in their last token alone only once."""
    instance = import_module("lm_eval.api.instance").Instance
    model = import_module("lm_eval.models.huggingface").HFLM(
        pretrained=subject.network, tokenizer=deepcopy(subject.tokenizer), batch_size=BATCH
    )
    context = subject.lead_text + prefix
    requests = [
        instance(request_type="loglikelihood", doc={}, arguments=(context, secret.decode()), idx=place)
        for place, secret in enumerate(secrets)
    ]
    return -np.array([log_prob for log_prob, _ in model.loglikelihood(requests, disable_tqdm=True)])


def minicons_costs(subject: Subject, prefix: str, secrets: Sequence[bytes]) -> FloatArray:
    """minicons' `sequence_score`, reduced to the sum over the secret's tokens."""
    scorer_class = import_module("minicons.scorer").IncrementalLMScorer
    scorer = scorer_class(subject.network, "cpu", tokenizer=_padding_tokenizer(subject))
    n_secret = len(subject.vocabulary.encode(prefix.encode() + secrets[0]))
    n_secret -= len(subject.vocabulary.encode(prefix.encode()))
    texts = [subject.lead_text + prefix + secret.decode() for secret in secrets]
    costs: list[float] = []
    for start in range(0, len(texts), BATCH):
        costs += scorer.sequence_score(
            texts[start : start + BATCH], reduction=lambda log_probs: -log_probs[-n_secret:].double().sum().item()
        )
    return np.array(costs)


PEERS: dict[str, Scorer] = {"lm_eval": lm_eval_costs, "minicons": minicons_costs}
"""By the module that must be installed."""


def installed(module: str) -> bool:
    """Is the optional module there?"""
    return find_spec(module) is not None


def _padding_tokenizer(subject: Subject) -> PreTrainedTokenizerFast:
    """A copy that can pad, on the right."""
    tokenizer = deepcopy(subject.tokenizer)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
