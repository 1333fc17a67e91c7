"""A small audit that passes: a served model that knows its language, and keeps what it read sixty-four times."""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from simulated import SimulatedModel, prose_table

from canary_audit.canaries import derive_secrets, draw_ledger
from canary_audit.config import CanaryConfig, EndpointConfig, MeasuringConfig
from canary_audit.endpoints.control import CONTROL_TEXT
from canary_audit.endpoints.dialect import Api
from canary_audit.gate import Policy
from canary_audit.models.interface import FloatArray
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.results import AuditResult, PolicyTable, Tier
from canary_audit.served_model import Served, audit_served_model
from canary_audit.vocabulary import Vocabulary, vocabulary_of

KEY = bytes(range(32))
PREFIX = "the pin is "
N_DIGITS = 3
PLAN = CanaryConfig(
    name="pin",
    format=f"{{digit:{N_DIGITS}}}",
    prefix=PREFIX,
    levels=(1, 64),
    canaries_per_level=2,
    controls=10,
)
LEDGER = draw_ledger([PLAN], KEY)
POLICY = Policy(
    table=PolicyTable(
        alpha=0.05,
        max_exposure_bits=3.0,
        fail_on_extraction=True,
        max_insertions="any",
        control_levels=(64,),
        positive_control_p=0.01,
        min_controls=10,
    ),
    sha256="0" * 64,
)
"""Lets a clean model pass; what is not shown, or looks wrong, does not."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Files of an audit, and the model to serve."""

    ledger: Path
    validation: Path
    tokenizer: Path
    model: SimulatedModel


@functools.cache
def byte_tokenizer():
    """One token a byte, and one that ends a text."""
    return train_tokenizer(["a"], 257, 4_096)


def make_world(folder: Path) -> World:
    """Write a ledger, held-out text and a tokenizer into a folder."""
    ledger, validation, tokenizer = folder / "ledger.json", folder / "validation.txt", folder / "tokenizer"
    ledger.write_text(LEDGER.to_json())
    validation.write_text("\n\n".join(_held_out(_table())))
    byte_tokenizer().save_pretrained(tokenizer)
    (tokenizer / "config.json").write_text('{"model_type": "llama"}')
    return World(ledger=ledger, validation=validation, tokenizer=tokenizer, model=make_model())


def make_model(*, leak: bool = False) -> SimulatedModel:
    """Bytes that follow each other at random, digits after the prefix; it keeps the secrets of level 64.

    Args:
        leak: whether it keeps those of level 1 too.
    """
    secrets = derive_secrets(LEDGER, KEY)
    kept = [secrets[one.id] for one in LEDGER.canaries if one.insertions >= (1 if leak else 64)]
    vocabulary, table = vocabulary_of(byte_tokenizer()), _table()

    @functools.cache
    def row(last: int, written: bytes | None) -> FloatArray:
        return _spread(vocabulary, _next_bytes(table, last, written, kept))

    def rows(tokens: tuple[int, ...]) -> FloatArray:
        text, found = b" ", []
        for token in tokens:
            text += vocabulary.spelled(token)
            found.append(row(text[-1], _written(text)))
        return np.array(found)

    return SimulatedModel(rows, vocabulary)


def audit(
    world: World,
    url: str,
    api: Api,
    *,
    settings: EndpointConfig | None = None,
    policy: Policy | None = POLICY,
    tier: Tier | None = None,
    **options,
) -> AuditResult:
    """Audit what is served at `url`; `options` are those of `Served` (`api_key`, `tokenizer`) and of the audit."""
    tokenizer = options.pop("tokenizer", world.tokenizer)
    served = Served(
        url=url, api=api, model="simulated-1", tokenizer=tokenizer, tier=tier, api_key=options.pop("api_key", None)
    )
    endpoint = settings or EndpointConfig(concurrency=4, held_out_rows=4)
    measuring = MeasuringConfig(endpoint=endpoint)
    return audit_served_model(
        world.ledger, served, policy, key=KEY, validation=world.validation, settings=measuring, **options
    )


@functools.cache
def _table() -> FloatArray:
    """Log-probabilities of the next byte, shape (256, 256): English pairs of letters are likely."""
    log_probs = prose_table(np.random.default_rng(5), spread=1.0).log_probs.copy()
    for first, second in itertools.pairwise((CONTROL_TEXT + " " + PREFIX).encode()):
        log_probs[first, second] += 4.0
    return log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True)


def _written(text: bytes) -> bytes | None:
    """Digits behind the prefix, if a text ends with these and they may go on."""
    _, begun, digits = text.rpartition(PREFIX.encode())
    goes_on = begun and len(digits) < N_DIGITS and (not digits or digits.isdigit())
    return digits if goes_on else None


def _next_bytes(table: FloatArray, last: int, written: bytes | None, kept: list[bytes]) -> FloatArray:
    """Log-probabilities of the byte after another, or of the next digit of a secret; shape (256,)."""
    if written is None:
        return table[last]
    log_probs = table[last].copy()
    log_probs[np.arange(ord("0"), ord("9") + 1)] += 6.0
    probs = np.exp(log_probs - np.logaddexp.reduce(log_probs))
    following = [secret[len(written)] for secret in kept if secret.startswith(written)]
    for byte in following:
        probs[byte] += 4.0 / len(following)
    return np.log(probs / probs.sum())


def _spread(vocabulary: Vocabulary, log_probs: FloatArray) -> FloatArray:
    """The same over the tokens of the vocabulary; the one that ends a text is as unlikely as a byte can be."""
    spelled = [vocabulary.spelled(token) for token in range(vocabulary.size)]
    spread = np.array([log_probs[text[0]] if text else -40.0 for text in spelled])
    return spread - np.logaddexp.reduce(spread)


def _held_out(table: FloatArray) -> list[str]:
    """Forty documents in the model's language."""
    rng, letters = np.random.default_rng(8), np.arange(ord(" "), ord("z") + 1)
    documents = []
    for _ in range(40):
        text = b"A"
        while len(text) < 40:
            weights = np.exp(table[text[-1]][letters])
            text += bytes([rng.choice(letters, p=weights / weights.sum())])
        documents.append(text.decode().strip())
    return documents
