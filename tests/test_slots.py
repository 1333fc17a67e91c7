"""What slots spell, against the standard library, python-stdnum and counting by hand."""

import base64
import calendar
import datetime
import itertools
import json
import math
import random
import re
import uuid

import pytest
from stdnum import iban, luhn
from stdnum.us import ssn

from canary_audit.config import DataConfig
from canary_audit.data.planting import Occurrence, plant
from canary_audit.data.sources import open_source, read_documents
from canary_audit.errors import SpaceError
from canary_audit.slots import CHARACTERS, SHAPES
from canary_audit.spaces import SecretSpace, parse_space

DAY = datetime.timedelta(days=1)


def drawn(format: str, n: int = 300) -> list[str]:
    return [secret.decode() for secret in parse_space(format).draw(n, random.Random(8))]


def every(space: SecretSpace) -> set[str]:
    return {space.secret(index).decode() for index in range(space.size)}


def slot(kind: str, variant: str) -> str:
    return f"{{{kind}:{variant}}}" if variant else f"{{{kind}}}"


SLOTS = [slot(kind, variant) for kind, variants in SHAPES.items() for variant in variants]


@pytest.mark.parametrize("format", SLOTS)
def test_every_shape_round_trips(format: str) -> None:
    space = parse_space(format)
    rng = random.Random(3)
    indices = [0, space.size - 1, *(rng.randrange(space.size) for _ in range(100))]
    secrets = [space.secret(index) for index in indices]
    assert [space.index(secret) for secret in secrets] == indices
    assert space.prefix_free == (format != "{phone:e164}")


@pytest.mark.parametrize(
    ("kind", "variant"),
    [(kind, variant) for kind, variants in SHAPES.items() for variant in variants if kind not in ("email", "name")],
)
def test_every_pattern_means_the_same_to_python(kind: str, variant: str) -> None:
    pattern = re.compile(SHAPES[kind][variant].pattern, re.ASCII)
    assert all(pattern.fullmatch(secret) for secret in drawn(slot(kind, variant)))


@pytest.mark.parametrize(
    ("format", "size"),
    [
        ("{password:8}", 77**8),
        ("{luhn:16:4000}", 10**11),
        ("{card:visa}", 10**14),
        ("{card:amex}", 2 * 10**12),
        ("{card:mastercard}", 10**14),  # 500 of 51 to 55 and 500 of 2221 to 2720, with 11 free digits
        ("{card:discover}", (1 + 60 + 100) * 10**11),  # 6011, 6440 to 6499 and 65xx
        ("{card:any}", 10**14 + 2 * 10**12 + 10**14 + 161 * 10**11),
        ("{iban:de}", 10**18),
        ("{iban:at}", 10**16),
        ("{iban:gb}", 26**4 * 10**14),
        ("{iban:nl}", 26**4 * 10**10),
        ("{ssn}", (899 - 1) * 99 * 9999),
        ("{phone:us}", (8 * 89) * (8 * 99) * 10**4),
        ("{phone:e164}", 9 * sum(10**n for n in range(7, 15))),
        ("{uuid}", 2**122),
        ("{key:aws}", 32**16),
        ("{key:openai}", 62**40),
        ("{name}", 256**2),
        ("{email}", 256**2 * 4 * 11111 * 3),
        ("{word:english:12}", 2**120),
        ("{date:iso}", (datetime.date(2100, 1, 1) - datetime.date(1900, 1, 1)).days),
        ("{date:long:1950..2009}", (datetime.date(2010, 1, 1) - datetime.date(1950, 1, 1)).days),
    ],
)
def test_sizes(format: str, size: int) -> None:
    assert parse_space(format).size == size


@pytest.mark.parametrize("format", ["{card:visa}", "{card:amex}", "{card:mastercard}", "{card:any}", "{luhn:16:4000}"])
def test_card_numbers_are_valid(format: str) -> None:
    assert all(luhn.is_valid(number) for number in drawn(format))


def test_a_luhn_number_with_a_given_beginning_is_the_plain_one_filtered() -> None:
    plain = every(parse_space("{luhn:3..5}"))
    assert every(parse_space("{luhn:3..5:40}")) == {number for number in plain if number.startswith("40")}


@pytest.mark.parametrize("country", SHAPES["iban"])
def test_account_numbers_are_valid(country: str) -> None:
    numbers = drawn(f"{{iban:{country}}}")
    assert all(iban.is_valid(number) for number in numbers)
    # One digit off, or check digits that are another spelling of the same residue, and it is no longer one.
    space = parse_space(f"{{iban:{country}}}")
    for number in numbers[:20]:
        altered = number[:-1] + str((int(number[-1]) + 1) % 10)
        assert altered.encode() not in space
        body = number[4:]
        assert sum(f"{country.upper()}{check:02}{body}".encode() in space for check in range(100)) == 1


def test_social_security_numbers_are_valid() -> None:
    withdrawn = {"078-05-1120", "219-09-9999", "457-55-5462"}  # printed in advertisements
    assert all(ssn.is_valid(number) for number in drawn("{ssn}", 2000) if number not in withdrawn)
    space = parse_space("{ssn}")
    areas = {f"{area:03}" for area in range(1000) if f"{area:03}-55-5555".encode() in space}
    assert areas == {f"{area:03}" for area in range(1, 900)} - {"666"}


@pytest.mark.parametrize(("kind", "decode"), [("base64", base64.b64decode), ("base64url", base64.urlsafe_b64decode)])
def test_encoded_bytes(kind, decode) -> None:
    for n_bytes in range(1, 8):
        space = parse_space(f"{{{kind}:{n_bytes}}}")
        assert space.size == 256**n_bytes
        for secret in space.draw(100, random.Random(n_bytes)):
            padded = secret + b"=" * (-len(secret) % 4)
            assert len(decode(padded)) == n_bytes
            encode = base64.b64encode if kind == "base64" else base64.urlsafe_b64encode
            assert encode(decode(padded)).rstrip(b"=") == secret.rstrip(b"=")
            assert (kind == "base64") == (len(secret) % 4 == 0 and secret == padded) or n_bytes % 3 == 0
    assert every(parse_space("{base64:1}")) == {base64.b64encode(bytes([byte])).decode() for byte in range(256)}


@pytest.mark.parametrize(("style", "layout"), [("iso", "%Y-%m-%d"), ("us", "%m/%d/%Y"), ("long", None)])
@pytest.mark.parametrize(("first", "last"), [(1896, 1904), (1999, 2001), (2023, 2023)])
def test_dates_are_the_days_of_the_calendar(style: str, layout: str | None, first: int, last: int) -> None:
    begin, end = datetime.date(first, 1, 1), datetime.date(last + 1, 1, 1)
    days = [begin + DAY * n for n in range((end - begin).days)]
    expected = {
        day.strftime(layout) if layout else f"{calendar.month_name[day.month]} {day.day}, {day.year}" for day in days
    }
    assert every(parse_space(f"{{date:{style}:{first}..{last}}}")) == expected


def test_phone_numbers_leave_out_service_codes() -> None:
    for number in drawn("{phone:us}", 2000):
        area, exchange, line = number.split("-")
        assert area[0] not in "01"
        assert exchange[0] not in "01"
        assert area[1] != "9"
        assert "11" not in (area[1:], exchange[1:])
        assert len(line) == 4


def test_identifiers_and_addresses() -> None:
    assert {uuid.UUID(text).version for text in drawn("{uuid}")} == {4}
    assert {uuid.UUID(text).variant for text in drawn("{uuid}")} == {uuid.RFC_4122}
    reserved = {"example.com", "example.net", "example.org"}
    assert {address.rpartition("@")[2] for address in drawn("{email}")} == reserved
    assert all(re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", name) for name in drawn("{name}"))


def test_names_may_come_from_own_lists() -> None:
    lists = {"first-names": ("ada", "élise"), "last-names": ("lovelace", "McKay")}
    expected = {f"{first} {last}" for first, last in itertools.product(("Ada", "Élise"), ("Lovelace", "McKay"))}
    assert every(parse_space("{name}", lists)) == expected
    assert b"ada.McKay7@example.org" in parse_space("{email}", lists)


@pytest.mark.parametrize("kind", CHARACTERS)
def test_character_slots_match_their_class(kind: str) -> None:
    alphabet = {chr(byte) for byte in range(256) if re.fullmatch(CHARACTERS[kind], chr(byte))}
    assert every(parse_space(f"{{{kind}}}")) == alphabet
    assert parse_space(f"{{{kind}:9}}").bits == pytest.approx(9 * math.log2(len(alphabet)))


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("{card}", "unknown card ''; did you mean '.*'"),
        ("{card:visas}", r"slot {card:visas}: unknown card 'visas'; did you mean 'visa'\?"),
        ("{ssn:4}", "unknown ssn '4'"),
        ("{card:visa:2}", "it takes no count"),
        ("{luhn:4:12345}", "must be digits, fewer than all"),
        ("{luhn:4:x}", "must be digits"),
        ("{date:swiss}", "unknown date 'swiss'"),
        ("{date:iso:900..1000}", "years have four digits"),
        ("{date:iso:1900:2}", "the count must be a number"),
        ("{base64:99999}", "automaton states"),
    ],
)
def test_malformed_slots_are_explained(format: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space(format)


@pytest.mark.parametrize("name", ["text.txt", "text.jsonl"])
def test_planted_secrets_of_every_slot_read_back(tmp_path, name: str) -> None:
    source = tmp_path / name
    documents = ["a document", "another one"]
    lines = documents if name.endswith("txt") else [json.dumps({"text": text}) for text in documents]
    source.write_text(("\n\n" if name.endswith("txt") else "\n").join(lines) + "\n", encoding="utf-8")
    formats = [*SLOTS, "{password:40}", "{base64:32}", "{date:long}", "{word:english:12}"]
    texts = [f"my secret is {secret}." for format in formats for secret in drawn(format, 5)]
    occurrences = [Occurrence(canary_id=f"canary-{number}", text=text) for number, text in enumerate(texts)]
    config = DataConfig(source=str(source))
    planted = plant(open_source(config, 1), occurrences, tmp_path / "out", validation_fraction=0.0, seed=1)
    assert sorted(read_documents(planted.train, config)) == sorted(texts + documents)
