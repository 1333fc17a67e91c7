"""Spaces against brute force: what they hold, how they count it, and how they draw from it."""

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from stdnum import luhn

from canary_audit import patterns
from canary_audit.errors import SpaceError
from canary_audit.spaces import SecretSpace, parse_space
from canary_audit.wordlists import BUILTIN_WORD_LISTS


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


TINY_LISTS = {"ab": ("a", "ab", "b", "ba"), "pets": ("cat", "dog", "cat"), "accents": ("é", "ü")}
ALPHABETS = {"digit": "0123456789", "hex": "0123456789abcdef", "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}

# A part of a format beside everything it can spell, from which the oracle multiplies out the whole format.
Part = tuple[str, list[str]]


def repeated(alphabet: str, low: int, high: int) -> list[str]:
    return ["".join(text) for count in range(low, high + 1) for text in itertools.product(alphabet, repeat=count)]


def phrases(words: tuple[str, ...], count: int) -> list[str]:
    return [" ".join(text) for text in itertools.product(words, repeat=count)]


PARTS: list[Part] = [
    ("-", ["-"]),
    ("a", ["a"]),
    ("é", ["é"]),
    ("{{", ["{"]),
    ("}}", ["}"]),
    ("{digit}", repeated(ALPHABETS["digit"], 1, 1)),
    ("{digit:2}", repeated(ALPHABETS["digit"], 2, 2)),
    ("{digit:1..2}", repeated(ALPHABETS["digit"], 1, 2)),
    ("{hex:1}", repeated(ALPHABETS["hex"], 1, 1)),
    ("{upper:1}", repeated(ALPHABETS["upper"], 1, 1)),
    ("{luhn:2}", [text for text in repeated(ALPHABETS["digit"], 2, 2) if luhn.is_valid(text)]),
    ("{luhn:2..3}", [text for text in repeated(ALPHABETS["digit"], 2, 3) if luhn.is_valid(text)]),
    ("{word:ab}", list(TINY_LISTS["ab"])),
    ("{word:ab:2}", phrases(TINY_LISTS["ab"], 2)),
    ("{word:pets}", ["cat", "dog"]),
    ("{word:accents}", list(TINY_LISTS["accents"])),
]


def spelled_out(parts: list[Part]) -> list[bytes]:
    return sorted({"".join(pieces).encode() for pieces in itertools.product(*(texts for _, texts in parts))})


def tiny_space(parts: list[Part]) -> SecretSpace:
    return parse_space("".join(text for text, _ in parts), TINY_LISTS)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4))
def test_a_space_is_its_format_spelled_out(parts: list[Part]) -> None:
    assume(math.prod(len(texts) for _, texts in parts) <= 1000)
    secrets = spelled_out(parts)
    space = tiny_space(parts)
    assert space.size == len(secrets)
    assert [space.secret(index) for index in range(space.size)] == secrets
    assert [space.index(secret) for secret in secrets] == list(range(space.size))
    assert space.max_length == max(map(len, secrets))
    assert space.bits == pytest.approx(math.log2(len(secrets)))
    # In sorted order a prefix stands right before one of its extensions.
    assert space.prefix_free == (not any(b.startswith(a) for a, b in itertools.pairwise(secrets)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3), st.binary(max_size=4), st.data())
def test_membership(parts: list[Part], noise: bytes, data: st.DataObject) -> None:
    assume(math.prod(len(texts) for _, texts in parts) <= 1000)
    secrets = spelled_out(parts)
    space = tiny_space(parts)
    secret = data.draw(st.sampled_from(secrets))
    cut = data.draw(st.integers(0, len(secret)))
    for text in (secret, noise, secret[:cut], secret[:cut] + noise, secret + noise):
        assert space.contains(text) == (text in space) == (text in secrets)


@given(
    st.sampled_from(["{digit:9}", "{luhn:16}", "{alnum:3..40}", "{word:verbs} the {word:objects:3}", "{hex:64}"]),
    st.data(),
)
def test_large_spaces_round_trip(format: str, data: st.DataObject) -> None:
    space = parse_space(format)
    index = data.draw(st.integers(0, space.size - 1))
    assert space.index(space.secret(index)) == index
    assert space.secret(index) in space


def test_order_is_lexicographic_in_a_large_space() -> None:
    space = parse_space("{digit:4..6}-{letter:1..3}")
    indices = sorted(seeded(1).sample(range(space.size), 500))
    secrets = [space.secret(index) for index in indices]
    assert secrets == sorted(secrets)


@pytest.mark.parametrize(
    ("format", "size", "prefix_free"),
    [
        ("{digit:9}", 10**9, True),
        ("{digit:3}-{digit:2}-{digit:4}", 10**9, True),
        ("{hex:32}", 16**32, True),
        ("{letter:8}", 26**8, True),
        ("{alnum:12}", 62**12, True),
        ("{luhn:16}", 10**15, True),
        ("{word:colors} {word:animals}", 80 * 128, True),
        ("{word:animals:3}", 128**3, True),
        ("{digit:4..6}", 10**4 + 10**5 + 10**6, False),
        ("{digit:4..6}.", 10**4 + 10**5 + 10**6, True),
        ("fixed", 1, True),
        # Every length from 2 to 6 is reached in several ways, and each string of digits counts once.
        ("{digit:1..3}{digit:1..3}", sum(10**n for n in range(2, 7)), False),
    ],
)
def test_sizes(format: str, size: int, prefix_free: bool) -> None:
    space = parse_space(format)
    assert (space.size, space.prefix_free) == (size, prefix_free)


@pytest.mark.parametrize(
    "format", ["{luhn:5}-{word:ab:1..3}!", "{word:pets:3}{digit:2}", "{word:ab}{word:ab}", "{email}"]
)
def test_every_edge_leads_to_a_lower_state(format: str) -> None:
    space = parse_space(format, TINY_LISTS)
    for state in range(space.n_states):
        assert all(target < state for target in space.edges(state).values())
        targets = sum(space.completions(target) for target in space.edges(state).values())
        assert space.completions(state) == space.accepts(state) + targets > 0


def test_a_long_list_stands_in_a_phrase_many_times_but_is_held_once() -> None:
    """The 8-word canaries of Carlini et al. (2019) have 144 bits, 18 a word; here at an eighth of their vocabulary."""
    words = tuple(f"{number:x}".translate(str.maketrans("0123456789", "ghijklmnop")) for number in range(2**15))
    space = parse_space("{word:many:8}", {"many": words})
    assert space.bits == 8 * 15
    assert len({id(link.automaton) for link in space._links}) == 2  # the list, and the space between two words
    for secret in space.draw(50, seeded(4)):
        assert len(secret.split()) == 8
        assert space.secret(space.index(secret)) == secret


def test_the_words_of_a_phrase_are_uniform_and_independent() -> None:
    space = parse_space("{word:ab:3}", TINY_LISTS)
    rng = seeded(12)
    counts = Counter(space.draw(1, rng)[0] for _ in range(12_800))
    assert len(counts) == 4**3
    assert chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize("format", ["{word:ab:1..2}", "{digit:4..6}", "{word:ab:3}"])
def test_a_suffix_must_end_the_secret(format: str) -> None:
    space = parse_space(format, TINY_LISTS)
    space.check_suffix(".")
    with pytest.raises(SpaceError, match="add a suffix"):
        space.check_suffix("")
    with pytest.raises(SpaceError, match=r"the suffix begins with '.', which may also continue a secret"):
        space.check_suffix(chr(min(space.continuations)))
    parse_space("{digit:4}").check_suffix("")


def test_the_automaton_is_minimal() -> None:
    assert parse_space("{digit:9}").n_states == 10
    assert parse_space("{digit:1..3}{digit:1..3}").n_states == 7
    # One state before each digit and each sum, the start and the end apart.
    assert parse_space("{luhn:16}").n_states == 15 * 10 + 2


def test_walking_the_edges_spells_the_secrets() -> None:
    space = parse_space("{luhn:3}|{word:ab:1..2}", TINY_LISTS)

    def walk(state: int, text: bytes) -> list[bytes]:
        assert list(space.edges(state)) == sorted(space.edges(state))
        found = [text] if space.accepts(state) else []
        for byte, target in space.edges(state).items():
            found += walk(target, text + bytes([byte]))
        assert len(found) == space.completions(state)
        return found

    assert walk(space.start, b"") == [space.secret(index) for index in range(space.size)]


LUHN_16 = parse_space("{luhn:16}")


@given(st.integers(0, 10**15 - 1))
def test_luhn_numbers_satisfy_an_independent_check(index: int) -> None:
    number = LUHN_16.secret(index).decode()
    assert len(number) == 16
    assert luhn.is_valid(number)


def test_draws_are_uniform() -> None:
    space = parse_space("{digit:3}")
    rng = seeded(20190814)
    counts = Counter(space.draw(1, rng)[0] for _ in range(100_000))
    assert len(counts) == 1000
    assert chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize("format", ["{digit:9}", "{digit:6}", "{luhn:12}"])
def test_first_and_last_digits_of_a_joint_draw_are_uniform(format: str) -> None:
    space = parse_space(format)
    secrets = space.draw(100_000, seeded(7))
    assert len(set(secrets)) == 100_000
    for place in (0, -1):
        counts = Counter(secret[place] for secret in secrets)
        assert len(counts) == 10
        assert chisquare(list(counts.values())).pvalue > 1e-4


def test_every_ordered_choice_is_equally_likely() -> None:
    space = parse_space("{word:ab}", TINY_LISTS)
    rng = seeded(3)
    counts = Counter(tuple(space.draw(3, rng)) for _ in range(24_000))
    assert len(counts) == 24
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_drawing_a_whole_space_shuffles_it() -> None:
    space = parse_space("{digit:2}")
    drawn = space.draw(100, seeded(5))
    assert sorted(drawn) == [b"%02d" % number for number in range(100)]
    assert drawn != sorted(drawn)


def test_draws_from_spaces_beyond_machine_integers() -> None:
    space = parse_space("{digit:30}")
    secrets = space.draw(20_000, seeded(11))
    assert len(set(secrets)) == 20_000
    counts = Counter(secret[:1] for secret in secrets)
    assert chisquare(list(counts.values())).pvalue > 1e-4
    assert space.draw(5, seeded(2)) == space.draw(5, seeded(2))


@pytest.mark.parametrize("n", [101, -1])
def test_a_draw_larger_than_the_space_is_refused(n: int) -> None:
    with pytest.raises(SpaceError, match=r"cannot draw -?\d+ distinct secrets from '\{digit:2\}', which holds 100"):
        parse_space("{digit:2}").draw(n, seeded(0))


def test_wrong_indices_and_secrets_are_refused_without_repeating_them() -> None:
    space = parse_space("{digit:2}")
    for index in (-1, 100):
        with pytest.raises(SpaceError, match="holds 100"):
            space.secret(index)
    with pytest.raises(SpaceError, match="3 bytes") as caught:
        space.index(b"777")
    assert "777" not in str(caught.value)


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("", "the secret format is empty"),
        ("pin {digit:4", r"'pin {digit:4': unmatched '{' at character 4; a literal brace is doubled"),
        ("a}", "unmatched '}' at character 1"),
        ("{digits:3}", r"'{digits:3}': slot {digits:3}: unknown kind 'digits'; did you mean 'digit'\?"),
        ("{}", "unknown kind ''"),
        (
            "{word:color}",
            r"slot {word:color}: unknown word list 'color'; did you mean 'colors'\? Known: colors, animals",
        ),
        ("{word}", "unknown word list ''"),
        ("{digit:0}", "a count is at least 1"),
        ("{digit:6..4}", "a range ends no lower than it starts"),
        ("{digit:x}", "the count must be a number"),
        ("{digit:4:5}", "the count must be a number"),
        ("{luhn}", "a Luhn number has at least 2 digits"),
        ("{word:colors:99999}", f"needs more than {patterns.MAX_STATES} automaton states"),
        ("{digit:999999}", f"needs more than {patterns.MAX_STATES} automaton states"),
    ],
)
def test_malformed_formats_are_explained(format: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space(format)


def test_own_word_lists() -> None:
    assert parse_space("{word:pets}", TINY_LISTS).size == 2
    with pytest.raises(SpaceError, match="is empty or holds an empty word"):
        parse_space("{word:none}", {"none": ()})
    assert parse_space("{word:colors}", {"colors": ("red", "green")}).size == 2
    assert parse_space("{word:colors} {word:pets}", TINY_LISTS).word_lists == {"colors", "pets"}


def test_the_limit_also_holds_for_the_deterministic_automaton(monkeypatch: pytest.MonkeyPatch) -> None:
    format = "{letter:1..8}{word:pets}{letter:1..8}"
    monkeypatch.setattr(patterns, "MAX_STATES", 30)  # more than the parts need one by one
    with pytest.raises(SpaceError, match="automaton states"):
        parse_space(format, TINY_LISTS)


@pytest.mark.parametrize("words", BUILTIN_WORD_LISTS.values(), ids=BUILTIN_WORD_LISTS.keys())
def test_builtin_words(words: tuple[str, ...]) -> None:
    assert list(words) == sorted(set(words))
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert 64 <= len(words) <= 1024
    assert not any(longer.startswith(word) for word, longer in itertools.pairwise(words))
