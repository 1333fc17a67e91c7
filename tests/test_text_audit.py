"""Models that only write text: what they memorized is found, chance is told apart, and nothing of it is kept."""

import math
import time
from collections import Counter

import numpy as np
import pytest

from canary_audit.canaries import derive_secrets, draw_ledger
from canary_audit.config import CanaryConfig
from canary_audit.epsilon import epsilon_of
from canary_audit.errors import BudgetSpentError
from canary_audit.matching import bare
from canary_audit.models.table import digit_costs, digit_tree, memorizing
from canary_audit.results import NotAvailable, SampledExtraction
from canary_audit.spaces import parse_space
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.text_audit import COIN_SCORE, measure_writing
from canary_audit.text_audit.written import WrittenTexts, near_edits

KEY = bytes(range(32))
PIN = CanaryConfig(
    name="pin", format="{digit:4}", prefix="pin ", suffix=".", levels=(1, 8), canaries_per_level=3, controls=4
)
NUMBER = CanaryConfig(
    name="number",
    format="{digit:9}",
    prefix="the number is ",
    suffix=".",
    levels=(8,),
    canaries_per_level=4,
    controls=4,
)
COINS = CanaryConfig(name="coins", format="{digit:9}", prefix="code ", coin_flips=40, controls=0)


class TableWriter:
    """Writes digits as a table has them, then a full stop and what follows it."""

    def __init__(self, model, n_digits, *, then=". And so on."):
        self.model, self.n_digits, self.then = model, n_digits, then
        self.requests = []

    def write(self, prefix, *, max_tokens, temperature, n, seed):
        self.requests.append((prefix, max_tokens, temperature, n, seed))
        rng = np.random.default_rng(seed)
        texts = tuple(self._one(rng if temperature else None) for _ in range(n))
        assert all(len(text) <= max_tokens for text in texts)
        return texts

    def _one(self, rng):
        state, text = self.model.start, ""
        for _ in range(self.n_digits):
            probs = np.exp(self.model.log_probs[state])
            token = int(probs.argmax()) if rng is None else int(rng.choice(256, p=probs / probs.sum()))
            text += chr(token)
            state = int(self.model.transitions[state, token])
        return text + self.then


class FixedWriter:
    """Writes the same texts to everyone, until its budget ends."""

    def __init__(self, *texts, budget=math.inf):
        self.texts, self.budget, self.requests = texts, budget, []

    def write(self, prefix, *, max_tokens, temperature, n, seed):
        if len(self.requests) == self.budget:
            raise BudgetSpentError("all requests of the budget are used")
        self.requests.append((prefix, max_tokens, temperature, n, seed))
        return (self.texts * n)[:n]


def planted(*plans):
    ledger = draw_ledger(plans, KEY)
    return ledger, derive_secrets(ledger, KEY)


def measured(writer, ledger, secrets, *, n_samples=200, seed=1, on_progress=None):
    return measure_writing(writer, ledger, secrets, n_samples=n_samples, seed=seed, on_progress=on_progress)


def by_id(found):
    return {canary.id: canary for canary in found.canaries}


def test_a_memorized_secret_is_found_as_often_as_the_model_writes_it():
    ledger, secrets = planted(PIN)
    id = "pin-x008-1"
    model = memorizing(digit_tree(4, np.random.default_rng(1)), list(secrets[id]), 0.6)
    chance = math.exp(-digit_costs(model, 4)[int(secrets[id])])
    found = measured(TableWriter(model, 4), ledger, secrets, n_samples=400)
    canary = by_id(found)[id]
    samples = canary.extraction.samples
    assert canary.extraction.found
    assert canary.extraction.edits == 0
    assert samples.greedy
    assert samples.n_samples == 400
    low, high = clopper_pearson(samples.hits, 400, 0.999)
    assert low < chance < high
    assert (samples.rate_low, samples.rate_high) == clopper_pearson(samples.hits, 400, 0.95)
    assert canary.samples_needed == pytest.approx(max(1, math.log(0.5) / math.log(1 - samples.hits / 400)))


def test_the_interval_covers_the_chance_of_a_sample():
    ledger, secrets = planted(PIN)
    id, covered, n_runs = "pin-x008-1", 0, 60
    model = memorizing(digit_tree(4, np.random.default_rng(1)), list(secrets[id]), 0.4)
    chance = math.exp(-digit_costs(model, 4)[int(secrets[id])])
    for seed in range(n_runs):
        found = measured(TableWriter(model, 4), ledger, secrets, n_samples=60, seed=seed)
        samples = by_id(found)[id].extraction.samples
        covered += samples.rate_low <= chance <= samples.rate_high
    assert covered / n_runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / n_runs)


def test_a_memorized_secret_of_a_large_space_is_significant_and_the_others_are_not():
    ledger, secrets = planted(NUMBER)
    id = "number-x008-2"
    found = measured(FixedWriter(secrets[id].decode() + ". Then"), ledger, secrets)
    canary = by_id(found)[id]
    assert canary.p_value == 1 / 10**9
    assert canary.adjusted_p_value == 4 / 10**9
    others = [other for other in found.canaries if other.id != id]
    assert [(other.extraction.found, other.p_value) for other in others] == [(False, 1.0)] * 7
    (group,), (level,) = found.groups, found.levels
    assert (group.extraction_sought, group.extraction_found, group.extraction_certified) == (4, 1, 0)
    assert (level.n_canaries, level.n_extracted) == (4, 1)
    assert (level.extracted_low, level.extracted_high) == clopper_pearson(1, 4, 0.95)
    assert level.p_value < 1e-5
    assert group.notice is None


def test_nothing_is_said_that_text_does_not_show():
    ledger, secrets = planted(PIN)
    found = measured(FixedWriter("nothing"), ledger, secrets)
    for canary in found.canaries:
        assert isinstance(canary.exposure, NotAvailable)
        assert isinstance(canary.nll_bits, NotAvailable)
        assert isinstance(canary.samples_needed, NotAvailable)
        assert isinstance(canary.extraction.rank, NotAvailable)
        assert isinstance(canary.adjusted_p_value, NotAvailable) == (canary.role == "control")
        assert canary.certificate_bits == 0
    assert {isinstance(level.median_bits, NotAvailable) for level in found.levels} == {True}
    assert found.null.n_controls == 4
    assert isinstance(found.null.uniform_p, NotAvailable)
    assert found.coins == found.membership == ()


@pytest.mark.parametrize(("format", "n_digits"), [("{digit:4}", 4), ("{digit:9}", 9)])
def test_a_clean_model_is_rarely_found_and_never_significant(format, n_digits):
    plan = PIN.model_copy(update={"format": format, "canaries_per_level": 40})
    ledger, secrets = planted(plan)
    model = digit_tree(4, np.random.default_rng(1), spread=0.0)
    found = measured(TableWriter(model, n_digits), ledger, secrets)
    inserted = [canary for canary in found.canaries if canary.role == "level"]
    assert sum(canary.extraction.found for canary in inserted) <= (8 if n_digits == 4 else 0)
    assert min(canary.adjusted_p_value for canary in inserted) > 0.5
    assert min(level.p_value for level in found.levels) > 0.01


@pytest.mark.parametrize(
    ("change", "edits"),
    [
        (lambda s: s, 0),
        (lambda s: f"{s[:3]}-{s[3:6]}-{s[6:]}", 2),
        (lambda s: f"{s[:3]} {s[3:]}", 1),
        (lambda s: s[:4] + str((int(s[4]) + 1) % 10) + s[5:], 1),
        (lambda s: s[:4] + s[5:], 1),
        (lambda s: f"{s[:3]}/{s[3:6]}.{s[6:-1]}", 3),
        (lambda s: s[:3] + str((int(s[3]) + 5) % 10) + s[4:6] + str((int(s[6]) + 5) % 10) + s[7:], None),
        (lambda s: s[:6], None),
    ],
)
def test_a_secret_with_separators_or_one_slip_counts_as_found(change, edits):
    ledger, secrets = planted(NUMBER)
    id = "number-x008-2"
    found = measured(FixedWriter(f" it is {change(secrets[id].decode())}, I think"), ledger, secrets)
    canary = by_id(found)[id]
    assert canary.extraction.found == (edits is not None)
    assert canary.extraction.edits == (edits or 0)
    assert canary.adjusted_p_value < 1e-4 if edits is not None else canary.p_value == 1.0
    assert canary.extraction.samples.hits == (200 if edits == 0 else 0)


def test_a_secret_with_separators_is_found_without_them():
    plan = NUMBER.model_copy(update={"format": "{digit:3}-{digit:2}-{digit:4}"})
    ledger, secrets = planted(plan)
    found = measured(FixedWriter(bare(secrets["number-x008-2"]).decode()), ledger, secrets)
    assert by_id(found)["number-x008-2"].extraction.edits == 2
    assert by_id(found)["number-x008-2"].p_value == 1 / 10**9


def test_edits_are_allowed_where_chance_cannot_make_them():
    assert near_edits(b"1234", math.log2(10**4)) == 0
    assert near_edits(b"12345678", math.log2(73_049)) == 0
    assert near_edits(b"123456789", math.log2(10**9)) == 1
    assert near_edits(b"1" * 16, math.log2(10**16)) == 2
    assert near_edits(b"f" * 32, 128.0) == 2
    assert near_edits(b"", 80.0) == 0


FORMATS = [
    "{digit:3}",
    "{digit:3..4}",
    "{digit:2}-{digit:2}",
    "{digit:9}",
    "{date:iso}",
    "{word:english:2}",
    "{password:8}",
]


@pytest.mark.parametrize("format", FORMATS)
def test_p_values_of_secrets_that_were_never_inserted_hold(format):
    """P(p <= a) <= a, whatever is written: here secrets of the space, whole, cut, spoiled or with separators."""
    space, rng = parse_space(format), np.random.default_rng(3)
    p_values = []
    for _ in range(30):
        writes = [space.secret(int(rng.integers(min(space.size, 2**62)))) for _ in range(int(rng.integers(1, 40)))]
        texts = [_spoiled(secret, rng) for secret in writes]
        written = WrittenTexts(texts[0], texts[1:], space)
        drawn = [space.secret(int(rng.integers(min(space.size, 2**62)))) for _ in range(40)]
        p_values += [written.p_value(written.match(secret)) for secret in drawn]
    for level in (0.001, 0.01, 0.05, 0.2):
        share = np.mean(np.array(p_values) <= level)
        assert share <= level + 4 * math.sqrt(level * (1 - level) / len(p_values)), level


def _spoiled(secret, rng):
    text = bytearray(secret)
    for _ in range(int(rng.integers(0, 3))):
        place = int(rng.integers(0, len(text) + 1))
        text[place : place + int(rng.integers(0, 2))] = rng.choice([b"", b"-", b"7", b" ", b"ab"])
    return bytes(text)


def test_near_verbatim_p_values_are_those_of_enumeration_or_larger():
    """In a space that can be enumerated: the share of its secrets that come as near."""
    space = parse_space("{digit:4}")
    texts = [b"12-34.5", b"99 9912", b"it was 0123"]
    written = WrittenTexts(texts[0], texts[1:], space)
    matches = [written.match(space.secret(index)) for index in range(space.size)]
    ways = Counter(match.closeness for match in matches)
    near = next(match for match in matches if match.closeness == 0)
    assert near.edits > 0
    assert written.p_value(near) == (ways[-1] + ways[0]) / space.size
    assert written.p_value(next(match for match in matches if match.closeness == -1)) == ways[-1] / space.size


def test_a_budget_that_ends_half_way_ends_for_all_groups_alike_and_says_so():
    ledger, secrets = planted(PIN, NUMBER)
    secret = secrets["number-x008-2"].decode()
    writer = FixedWriter(secret, budget=7)
    found = measured(writer, ledger, secrets)
    pin, number = found.groups
    assert pin.notice == "The budget ended after 60 of 200 continuations at temperature 1"
    assert number.notice == "The budget ended after 40 of 200 continuations at temperature 1"
    assert (pin.extraction_calls, number.extraction_calls) == (4, 3)
    samples = by_id(found)["number-x008-2"].extraction.samples
    assert (samples.n_samples, samples.hits, samples.greedy) == (40, 40, True)


def test_without_any_budget_nothing_was_sought():
    ledger, secrets = planted(PIN, NUMBER)
    found = measured(FixedWriter("1234", budget=1), ledger, secrets)
    pin, number = found.groups
    assert (pin.extraction_sought, number.extraction_sought) == (6, 0)
    assert pin.notice == "The budget ended after 0 of 200 continuations at temperature 1"
    assert number.notice == "The budget ended before the model was asked to write"
    samples = [canary.extraction.samples for canary in found.canaries if canary.group == "number"]
    assert all(isinstance(sample, NotAvailable) for sample in samples)
    assert {canary.p_value for canary in found.canaries if canary.group == "number"} == {1.0}


def test_requests_are_long_enough_told_apart_and_cover_the_samples():
    ledger, secrets = planted(PIN, NUMBER)
    writer, told = FixedWriter("x"), []
    measured(writer, ledger, secrets, n_samples=50, on_progress=lambda *progress: told.append(progress))
    greedy, sampled = writer.requests[:2], writer.requests[2:]
    assert [(prefix, n, temperature) for prefix, _, temperature, n, _ in greedy] == [
        ("pin ", 1, 0.0),
        ("the number is ", 1, 0.0),
    ]
    assert {temperature for _, _, temperature, _, _ in sampled} == {1.0}
    assert [n for prefix, _, _, n, _ in sampled if prefix == "pin "] == [20, 20, 10]
    assert min(tokens for _, tokens, _, _, _ in writer.requests[1::2]) >= 9 + 1
    texts_of_a_server = [seed * n + text for *_, n, seed in sampled for text in range(n)]
    assert len(set(texts_of_a_server)) == 100
    assert max(texts_of_a_server) < 2**31
    assert told == [(number, 8) for number in range(1, 9)]


def test_the_same_seed_asks_the_same():
    ledger, secrets = planted(PIN)
    model, writers = digit_tree(4, np.random.default_rng(1)), []
    results = []
    for seed in (1, 1, 2):
        writers.append(TableWriter(model, 4))
        results.append(measured(writers[-1], ledger, secrets, n_samples=40, seed=seed))
    assert writers[0].requests == writers[1].requests
    assert writers[0].requests != writers[2].requests
    assert results[0] == results[1]


def test_without_samples_the_greedy_text_counts_alone():
    ledger, secrets = planted(PIN)
    found = measured(FixedWriter(secrets["pin-x008-1"].decode()), ledger, secrets, n_samples=0)
    extraction = by_id(found)["pin-x008-1"].extraction
    assert extraction.found
    assert extraction.samples == SampledExtraction(n_samples=0, hits=0, rate_low=0.0, rate_high=1.0, greedy=True)
    assert found.groups[0].notice is None


def test_coins_are_scored_by_the_texts_that_hold_them():
    ledger, secrets = planted(COINS)
    coins = [canary for canary in ledger.canaries if canary.role == "coin"]
    inserted = [coin for coin in coins if coin.insertions]
    texts = tuple(secrets[coin.id].decode() for coin in inserted[:-1])
    nearly = secrets[inserted[-1].id].decode()
    found = measured(FixedWriter(f"{nearly[:4]}-{nearly[4:]}", *texts), ledger, secrets, n_samples=len(inserted) * 20)
    scores = {coin.id: coin.score for coin in found.coins}
    assert [coin.inserted for coin in found.coins] == [coin.insertions == 1 for coin in coins]
    assert all(scores[coin.id] >= 1 for coin in inserted[:-1])
    assert scores[inserted[-1].id] == -1
    assert {scores[coin.id] for coin in coins if not coin.insertions} == {-9.0}
    epsilon = epsilon_of(found.coins, NotAvailable(not_available="none"), score=COIN_SCORE, guesses="grid")
    assert epsilon.lower_bound > 1
    assert found.canaries == found.levels == ()
    assert found.groups[0].extraction_sought == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0" * 50,
        "\ud800\udfff\ud800",
        "e\u0301\U0001f600\u202e" * 20,
        "\x1b[31m::set-env name=A::1\r\n",
        "9" * 1_000_000,
    ],
    ids=["empty", "NULs", "lone surrogates", "unicode", "controls", "long"],
)
def test_whatever_is_written_is_matched_in_bounded_time(text):
    plan = NUMBER.model_copy(update={"format": "{word:english:3}", "suffix": "!"})
    ledger, secrets = planted(NUMBER, plan.model_copy(update={"name": "words"}))
    started = time.process_time()
    found = measured(FixedWriter(text, text + "a", "b" + text), ledger, secrets)
    assert not any(canary.extraction.found for canary in found.canaries)
    assert time.process_time() - started < 5


def test_many_canaries_are_held_against_many_texts_quickly():
    ledger, secrets = planted(NUMBER.model_copy(update={"levels": (1, 2, 4, 8), "canaries_per_level": 50}))
    rng = np.random.default_rng(0)
    texts = ["".join(map(str, rng.integers(0, 10, 200))) for _ in range(200)]
    started = time.process_time()
    measured(FixedWriter(*texts), ledger, secrets)
    assert time.process_time() - started < 5


def test_no_secret_and_no_text_is_in_the_result():
    ledger, secrets = planted(PIN, NUMBER, COINS)
    secret = secrets["number-x008-2"].decode()
    found = measured(FixedWriter(f"marker {secret}"), ledger, secrets)
    shown = found.model_dump_json() + repr(found)
    assert "marker" not in shown
    assert not any(value.decode() in shown for id, value in secrets.items() if not id.startswith("pin"))
