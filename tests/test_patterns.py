"""Patterns against Python's own regular expressions."""

import itertools
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from canary_audit import patterns
from canary_audit.automata import Automaton, words_automaton
from canary_audit.errors import SpaceError
from canary_audit.patterns import compile_node, parse_pattern

PETS = words_automaton([b"cat", b"cats", b"dog"])


def strings(automaton: Automaton) -> list[str]:
    found, pending = [], [(automaton.start, b"")]
    for state, text in pending:
        if automaton.accepts(state):
            found.append(text.decode())
        pending += [(target, text + bytes([byte])) for byte, target in automaton.edges(state)]
    return sorted(found)


def compiled(pattern: str) -> Automaton:
    return compile_node(parse_pattern(pattern, lambda name: {"pets": PETS}[name]), pattern)


ATOMS = st.sampled_from(["a", "b", "-", r"\.", "[ab]", "[a-b-]"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: f"({'|'.join(options)})"),
        inner.map(lambda group: f"({group})?"),
        st.tuples(inner, st.integers(0, 1), st.integers(1, 2)).map(lambda it: f"({it[0]}){{{it[1]},{it[2]}}}"),
        inner.map(lambda group: f"({group}){{2}}"),
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150)
@given(PATTERNS)
def test_a_pattern_means_what_it_means_to_python(pattern: str) -> None:
    automaton = compiled(pattern)
    assume(automaton.max_length <= 5)
    texts = ("".join(text) for n in range(automaton.max_length + 2) for text in itertools.product("ab-.", repeat=n))
    assert strings(automaton) == sorted(text for text in texts if re.fullmatch(pattern, text))


def test_words_of_a_list_stand_in_a_pattern() -> None:
    assert strings(compiled("(my )?<pets>s?")) == sorted(
        f"{my}{pet}" for my in ("", "my ") for pet in ("cat", "cats", "catss", "dog", "dogs")
    )


def test_large_patterns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MAX_STATES", 100)
    with pytest.raises(SpaceError, match="needs more than 100 automaton states"):
        compiled("[0-9]{101}")
    # Few states when read, but one for each set of 8 places when made deterministic.
    with pytest.raises(SpaceError, match="needs more than 100 automaton states"):
        compiled("[ab]{0,20}a[ab]{8}")
