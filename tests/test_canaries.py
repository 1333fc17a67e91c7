"""Canaries: what the ledger commits to, what it hides, and how its secrets and coins fall."""

import base64
import json
import os
import random
import re
import stat
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chi2_contingency, chisquare

from canary_audit.canaries import (
    REDACTED,
    Canary,
    Group,
    GroupPlan,
    Ledger,
    canary_text,
    derive_secrets,
    draw_ledger,
    load_key,
    load_ledger,
    new_key,
    redact,
    save_key,
)
from canary_audit.config import CanaryConfig
from canary_audit.errors import LedgerError, SpaceError
from canary_audit.spaces import parse_space

KEY = bytes(range(32))


@dataclass(frozen=True)
class Plan:
    name: str = "number"
    format: str = "{digit:9}"
    prefix: str = "my number is "
    suffix: str = "."
    levels: tuple[int, ...] = (1, 32)
    canaries_per_level: int = 4
    controls: int = 20
    coin_flips: int = 100


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return draw_ledger([Plan(), Plan(name="phrase", format="{word:colors} {word:animals}")], KEY)


def edited(ledger: Ledger, id: str, **changes: Any) -> Ledger:
    canaries = (replace(canary, **changes) if canary.id == id else canary for canary in ledger.canaries)
    return replace(ledger, canaries=tuple(canaries))


def test_ids_and_roles(ledger: Ledger) -> None:
    canaries = ledger.canaries_of("number")
    assert len(canaries) == 2 * 4 + 20 + 100
    assert [canary.id for canary in canaries[:9]] == [
        *(f"number-x001-{n}" for n in range(1, 5)),
        *(f"number-x032-{n}" for n in range(1, 5)),
        "number-control-01",
    ]
    assert canaries[-1].id == "number-coin-100"
    assert {canary.id[:11]: canary.insertions for canary in canaries[:8]} == {"number-x001": 1, "number-x032": 32}
    assert {canary.insertions for canary in canaries if canary.role == "control"} == {0}
    assert {canary.insertions for canary in canaries if canary.role == "coin"} == {0, 1}
    assert all(re.fullmatch(r"[a-z0-9-]{1,64}", canary.id) for canary in ledger.canaries)


def test_secrets_are_distinct_and_of_their_format(ledger: Ledger) -> None:
    derived = derive_secrets(ledger, KEY)
    assert list(derived) == [canary.id for canary in ledger.canaries]
    assert len(set(derived.values())) == len(derived)
    for group in ledger.groups:
        space = parse_space(group.format)
        assert all(derived[canary.id] in space for canary in ledger.canaries_of(group.name))


def test_groups_of_one_format_share_no_secret() -> None:
    crowded: dict[str, Any] = {"format": "{digit:2}", "levels": (), "controls": 25, "coin_flips": 0}
    derived = derive_secrets(draw_ledger([Plan(name="a", **crowded), Plan(name="b", **crowded)], KEY), KEY)
    assert len(set(derived.values())) == 50


def test_the_draw_depends_on_plans_and_key_alone(ledger: Ledger) -> None:
    again = draw_ledger([Plan(), Plan(name="phrase", format="{word:colors} {word:animals}")], KEY)
    assert again == ledger
    assert again.to_json() == ledger.to_json()
    # Pinned: another value here means that ledgers drawn by an earlier version can no longer be opened.
    assert derive_secrets(ledger, KEY)["number-x032-1"] == b"723722530"
    other = derive_secrets(draw_ledger([Plan()], b"k" * 32), b"k" * 32)
    assert not set(other.values()) & set(derive_secrets(ledger, KEY).values())


def test_a_config_table_is_a_plan() -> None:
    plan: GroupPlan = CanaryConfig(name="card", format="{luhn:16}", prefix="card ", levels=(1,))
    assert len(draw_ledger([plan], KEY).canaries) == 4 + 20


def test_a_ledger_file_reads_back(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(ledger.to_json(), encoding="utf-8")
    assert load_ledger(path) == ledger
    assert load_ledger(path).sha256 == ledger.sha256


def test_own_words_travel_in_the_ledger(tmp_path: Path) -> None:
    lists = {"ships": ("argo", "beagle", "calypso"), "unused": ("x", "y")}
    plans = [Plan(format="{word:ships:4} {name}", levels=(1,), coin_flips=0)]
    drawn = draw_ledger(plans, KEY, lists)
    assert drawn.schema_version == 2
    assert set(drawn.word_lists) == {"ships", "first-names", "last-names"}
    (tmp_path / "ledger.json").write_text(drawn.to_json(), encoding="utf-8")
    elsewhere = load_ledger(tmp_path / "ledger.json")
    assert elsewhere == drawn
    space = elsewhere.space(elsewhere.groups[0])
    assert all(secret in space for secret in derive_secrets(elsewhere, KEY).values())
    forged = replace(drawn, word_lists={**drawn.word_lists, "ships": ("argo", "beagle", "victory")})
    with pytest.raises(LedgerError, match=r"its commitment does not match|was edited"):
        derive_secrets(forged, KEY)


def test_a_ledger_without_word_lists_is_of_the_first_version() -> None:
    drawn = draw_ledger([Plan()], KEY)
    assert drawn.schema_version == 1
    assert set(json.loads(drawn.to_json())) == {"schema_version", "groups", "canaries", "key_commitment"}


def test_a_ledger_of_the_first_version_finds_the_built_in_words(ledger: Ledger) -> None:
    old = replace(ledger, schema_version=1, word_lists={})
    assert old.space(old.group("phrase")).size == 80 * 128


def test_the_ledger_holds_no_secret(ledger: Ledger) -> None:
    text = ledger.to_json()
    for secret in derive_secrets(ledger, KEY).values():
        forms = (secret, secret[::-1], secret.hex().encode(), base64.b64encode(secret).rstrip(b"="))
        assert not any(form.decode() in text for form in forms)
    assert KEY.hex() not in text


@pytest.mark.parametrize(
    "changes",
    [{"insertions": 16}, {"role": "coin", "insertions": 1}, {"commitment": "0" * 64}],
    ids=["insertions", "role", "commitment"],
)
def test_an_edited_canary_is_named(ledger: Ledger, changes: dict[str, object]) -> None:
    with pytest.raises(LedgerError, match="canary number-x032-2: its commitment does not match"):
        derive_secrets(edited(ledger, "number-x032-2", **changes), KEY)


def test_a_turned_coin_is_named(ledger: Ledger) -> None:
    coin = next(canary for canary in ledger.canaries if canary.role == "coin")
    with pytest.raises(LedgerError, match=f"canary {coin.id}: its commitment"):
        derive_secrets(edited(ledger, coin.id, insertions=1 - coin.insertions), KEY)


def test_swapped_secrets_are_found(ledger: Ledger) -> None:
    """A canary that came out badly takes the name, and so the level, of one that did not."""
    by_id = {canary.id: canary for canary in ledger.canaries}
    first, second = by_id["number-x001-1"], by_id["number-x032-1"]
    swapped = edited(ledger, first.id, commitment=second.commitment)
    with pytest.raises(LedgerError, match="number-x001-1"):
        derive_secrets(edited(swapped, second.id, commitment=first.commitment), KEY)


def test_removed_canaries_and_reworded_groups_are_found(ledger: Ledger) -> None:
    number, phrase = ledger.groups
    for forged in (
        replace(ledger, canaries=ledger.canaries[1:]),
        replace(ledger, canaries=ledger.canaries[::-1]),
        replace(ledger, groups=(replace(number, prefix="another prefix "), phrase)),
        replace(ledger, groups=(phrase, number)),
    ):
        with pytest.raises(LedgerError, match="the ledger was edited"):
            derive_secrets(forged, KEY)


def test_another_key_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match=r"canary number-x001-1: .* the key belongs to another ledger"):
        derive_secrets(ledger, b"x" * 32)


def test_coins_are_fair_and_tell_nothing_about_secrets() -> None:
    plan = Plan(format="{digit:4}", levels=(), controls=0, coin_flips=1000)
    table: Counter[tuple[int, bytes]] = Counter()
    for n in range(12):
        key = n.to_bytes(32)
        drawn = draw_ledger([plan], key)
        derived = derive_secrets(drawn, key)
        table.update((canary.insertions, derived[canary.id][:1]) for canary in drawn.canaries)
    rows = [[table[coin, b"%d" % digit] for digit in range(10)] for coin in (0, 1)]
    assert chisquare([sum(row) for row in rows]).pvalue > 1e-3
    assert chisquare([sum(column) for column in zip(*rows, strict=True)]).pvalue > 1e-3
    assert chi2_contingency(rows).pvalue > 1e-3


@pytest.mark.parametrize("format", ["{digit:1}{word:colors}", "{luhn:4}"])
def test_secrets_are_uniform_over_their_space(format: str) -> None:
    """Sizes of 800 and 1,000 are no powers of two: a modulo in place of the rejection would show."""
    space = parse_space(format)
    plan = Plan(format=format, levels=(), controls=space.size // 4, coin_flips=0)
    counts: Counter[bytes] = Counter()
    for n in range(60):
        key = (n + 500).to_bytes(32)
        counts.update(derive_secrets(draw_ledger([plan], key), key).values())
    expected = 60 / 4
    squares = sum((counts[space.secret(index)] - expected) ** 2 for index in range(space.size))
    # A quarter of the space is drawn without replacement, so each count varies by 3/4 of what it would with it.
    assert chi2.sf(squares / (0.75 * expected), space.size - 1) > 1e-3


def test_a_crowded_space_is_refused() -> None:
    with pytest.raises(
        SpaceError, match=r"group 'number': '\{digit:1\}' holds 10 secrets, too few for 6 canaries; .*12"
    ):
        draw_ledger([Plan(format="{digit:1}", levels=(), controls=6, coin_flips=0)], KEY)
    two_groups = [Plan(name=n, format="{digit:1}", levels=(), controls=3, coin_flips=0) for n in ("a", "b")]
    with pytest.raises(SpaceError, match="too few for 6 canaries"):
        draw_ledger(two_groups, KEY)
    assert len(draw_ledger([Plan(format="{digit:1}", levels=(), controls=5, coin_flips=0)], KEY).canaries) == 5


def test_a_secret_needs_a_clear_end() -> None:
    with pytest.raises(SpaceError, match=r"group 'number': .* add a suffix"):
        draw_ledger([Plan(format="{digit:4..9}", suffix="")], KEY)
    with pytest.raises(SpaceError, match="the suffix begins with '7', which may also continue a secret"):
        draw_ledger([Plan(format="{digit:4..9}", suffix="7.")], KEY)
    assert draw_ledger([Plan(format="{digit:4..9}", suffix=" ok")], KEY)
    assert draw_ledger([Plan(format="{digit:9}", suffix="")], KEY)


def test_names_that_cannot_be_part_of_an_id_are_refused() -> None:
    for name in ("Upper", "with space", "../up", "x" * 60):
        with pytest.raises(LedgerError, match="canary id"):
            draw_ledger([Plan(name=name)], KEY)
    with pytest.raises(LedgerError, match="share a name"):
        draw_ledger([Plan(), Plan()], KEY)


def test_an_unknown_group_is_named(ledger: Ledger) -> None:
    assert ledger.group("phrase").format == "{word:colors} {word:animals}"
    with pytest.raises(LedgerError, match="no group 'pin' in the ledger; it has number, phrase"):
        ledger.group("pin")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema_version",), 3, "schema_version"),
        (("schema_version",), 1, "contradicts 2 word lists"),
        (("word_lists", "colors", 3), "amber", "word list 'colors', word 4: it repeats number 1"),
        (("word_lists", "colors", 3), "a b", "word 4: it holds a space"),
        (("surplus",), 1, "surplus"),
        (("canaries", 0, "role"), "natural", r"canaries\.0\.role"),
        (("canaries", 0, "insertions"), "1", r"canaries\.0\.insertions"),
        (("canaries", 0, "insertions"), -1, "contradict role 'level'"),
        (("canaries", 0, "group"), "none", "no group 'none'"),
        (("canaries", 1, "id"), "number-x001-1", "repeats"),
        (("canaries", 1, "id"), "../../x", "is not 1 to 64"),
    ],
)
def test_damaged_ledgers_are_refused(
    ledger: Ledger, tmp_path: Path, path: tuple[str | int, ...], value: object, message: str
) -> None:
    raw = json.loads(ledger.to_json())
    table = raw
    for step in path[:-1]:
        table = table[step]
    table[path[-1]] = value
    file = tmp_path / "ledger.json"
    file.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(LedgerError, match=message) as caught:
        load_ledger(file)
    assert str(file) in str(caught.value)


@given(st.binary(max_size=200))
def test_garbage_is_not_a_ledger(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "garbage.json"
    file.write_bytes(content)
    with pytest.raises(LedgerError):
        load_ledger(file)


def test_a_missing_ledger_or_key_is_explained(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such file"):
        load_ledger(tmp_path / "ledger.json")
    with pytest.raises(LedgerError, match="cannot be read"):
        load_ledger(tmp_path)
    with pytest.raises(LedgerError, match="no such key"):
        load_key(tmp_path / "key")
    with pytest.raises(LedgerError, match="cannot be read"):
        load_key(tmp_path)


def test_keys_are_fresh_private_and_never_overwritten(tmp_path: Path) -> None:
    key, other = new_key(), new_key()
    assert len(key) == 32
    assert key != other
    old_mask = os.umask(0)
    try:
        path = save_key(tmp_path / "secrets", key)
    finally:
        os.umask(old_mask)
    assert path == tmp_path / "secrets" / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_key(path) == key
    assert save_key(path.parent, key) == path
    with pytest.raises(LedgerError, match="holds another key"):
        save_key(path.parent, other)
    assert load_key(path) == key
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


def test_a_key_that_cannot_be_written_or_read_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(LedgerError, match="the key cannot be written"):
        save_key(tmp_path / "secrets", KEY)
    damaged = tmp_path / "key"
    damaged.write_text(KEY.hex()[:-1], encoding="utf-8")
    with pytest.raises(LedgerError, match="64 hexadecimal digits") as caught:
        load_key(damaged)
    assert KEY.hex()[:8] not in str(caught.value)


def test_canary_text_and_redaction(ledger: Ledger) -> None:
    secret = derive_secrets(ledger, KEY)["number-x001-1"]
    text = canary_text(ledger.group("number"), secret)
    assert text == f"my number is {secret.decode()}."
    assert redact(text, [secret]) == f"my number is {REDACTED}."
    assert canary_text(Group(name="a", format="é{digit}", prefix="<", suffix=">"), "é1".encode()) == "<é1>"


def test_redaction_prefers_the_longest_secret_and_takes_text_literally() -> None:
    assert redact("1234 12 a.b axb", [b"12", b"1234", b"a.b"]) == f"{REDACTED} {REDACTED} {REDACTED} axb"
    assert redact("nothing to hide", []) == "nothing to hide"


@given(st.lists(st.integers(0, 9999), min_size=1), st.text("0123456789 ", max_size=50))
def test_no_secret_survives_redaction(numbers: list[int], noise: str) -> None:
    secrets = [b"%04d" % number for number in numbers]
    text = noise.join(secret.decode() for secret in secrets)
    assert not any(secret.decode() in redact(text, secrets) for secret in secrets)


def test_malformed_ledgers_cannot_be_created() -> None:
    group = Group(name="a", format="{digit:4}", prefix="", suffix="")
    canary = Canary(id="a-control-1", group="a", role="control", insertions=1, commitment="")
    with pytest.raises(LedgerError, match="1 insertions contradict role 'control'"):
        Ledger(groups=(group,), canaries=(canary,), key_commitment="")


def test_shuffling_plans_moves_no_secret(ledger: Ledger) -> None:
    """Ids, not places, decide what a canary's secret is."""
    plans = [Plan(name=name) for name in ("a", "b", "c")]
    expected = derive_secrets(draw_ledger(plans, KEY), KEY)
    random.Random(4).shuffle(plans)
    assert derive_secrets(draw_ledger(plans, KEY), KEY) == expected
