"""A small exact world behind every simulated API: the same model here and there."""

from contextlib import contextmanager

import numpy as np
from simulated import prose_table, simulated_server, table_model

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.address import parse_address
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.offers import offers_of
from canary_audit.endpoints.served import ServedModel, TopTokensModel
from canary_audit.models.table import TableModel, memorizing
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteVocabulary

DIGITS = np.arange(ord("0"), ord("9") + 1)
PREFIX = "the pin is "
N_DIGITS = 4
N_CANARIES = 200


def numbers_table(seed=1):
    """Bytes that follow each other at random; digits are far likelier than the rest, and one number is memorized."""
    log_probs = prose_table(np.random.default_rng(seed)).log_probs.copy()
    log_probs[:, DIGITS] += 6.0
    log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    table = TableModel(log_probs, np.tile(np.arange(256), (256, 1)), start=ord(" "))
    return memorizing(table, list(b"4071"), 0.6)


def number_walk():
    return CanonicalWalk(parse_space(f"{{digit:{N_DIGITS}}}"), ByteVocabulary(), prefix=PREFIX)


def number_secrets(seed=2):
    """200 different numbers, the memorized one among them."""
    drawn = np.random.default_rng(seed).choice(10**N_DIGITS, N_CANARIES - 1, replace=False)
    numbers = [4071, *(int(number) for number in drawn if number != 4071)]
    return [f"{number:0{N_DIGITS}}".encode() for number in numbers]


@contextmanager
def served(table, shape, *, fault=None, good_requests=0, max_calls=None, config=None, journal=None, **switches):
    """A client of a server of this table, the way to ask it for each tier, and the server."""
    config = config or EndpointConfig(concurrency=4)
    with (
        simulated_server(table_model(table), shape, fault=fault, good_requests=good_requests, **switches) as server,
        Client(parse_address(server.url), None, config, journal, Budget(max_calls, None)) as client,
    ):
        every = offers(shape, config)
        yield client, every, server


def offers(shape, config):
    """Tier -> offer."""
    found = {}
    for tier in ("chosen-tokens", "prompt-logprobs", "top-k", "text-only"):
        try:
            found[tier] = offers_of(shape, model="simulated-1", vocabulary=ByteVocabulary(), config=config, tier=tier)
        except Exception:  # noqa: S112 - this API has no such tier
            continue
    return found


def model_of(client, offer):
    if offer.tier == "top-k":
        return TopTokensModel(client, offer.dialect)
    return ServedModel(client, offer.dialect, tier=offer.tier)
