"""Automata against sets of strings."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from canary_audit.automata import Automaton, Checksum, minimal, restricted, words_automaton

WORDS = st.sets(st.text("abc", min_size=1, max_size=5).map(str.encode), min_size=1, max_size=30)


def spelled(automaton: Automaton, state: int | None = None, text: bytes = b"") -> list[bytes]:
    state = automaton.start if state is None else state
    found = [text] if automaton.accepts(state) else []
    for byte, target in automaton.edges(state):
        assert target < state
        found += spelled(automaton, target, text + bytes([byte]))
    assert len(found) == automaton.n_completions[state]
    return found


def trie(words: set[bytes]) -> tuple[list[dict[int, int]], list[bool]]:
    edges: list[dict[int, int]] = [{}]
    accepting = [False]
    for word in words:
        state = 0
        for byte in word:
            if byte not in edges[state]:
                edges[state][byte] = len(edges)
                edges.append({})
                accepting.append(False)
            state = edges[state][byte]
        accepting[state] = True
    return edges, accepting


@given(WORDS)
def test_words(words: set[bytes]) -> None:
    automaton = words_automaton(words)
    assert spelled(automaton) == sorted(words)
    assert automaton.size == len(words)
    assert automaton.max_length == max(map(len, words))
    assert automaton.continuations == {
        longer[len(word)] for word in words for longer in words if longer.startswith(word) and longer != word
    }


@given(WORDS)
def test_both_constructions_are_minimal(words: set[bytes]) -> None:
    """A minimal automaton has one state for each distinct set of completions."""
    heads = {word[:cut] for word in words for cut in range(len(word) + 1)}
    completions = {frozenset(word[len(head) :] for word in words if word.startswith(head)) for head in heads}
    assert words_automaton(words).n_states == minimal(*trie(words)).n_states == len(completions)
    assert spelled(minimal(*trie(words))) == sorted(words)


@given(WORDS, st.integers(1, 3), st.integers(0, 2))
def test_a_checksum_keeps_the_strings_that_satisfy_it(words: set[bytes], modulus: int, residue: int) -> None:
    kept = [word for word in sorted(words) if sum(word) % modulus == residue]
    assume(kept)
    checksum = Checksum(
        start=0, step=lambda total, byte: (total + byte) % modulus, accepts=lambda total: total == residue
    )
    sizes: list[int] = []
    assert spelled(restricted(words_automaton(words), checksum, sizes.append)) == kept
    assert sizes == list(range(2, len(sizes) + 2))


def test_states_are_shared_between_ends_of_words() -> None:
    words = {f"{stem}ing".encode() for stem in ("walk", "talk", "sing", "read")}
    assert words_automaton(words).n_states < sum(map(len, words))


@pytest.mark.slow
def test_a_vocabulary_of_18_bits() -> None:
    words = {f"{number:x}".encode()[::-1] for number in range(2**18)}
    automaton = words_automaton(words)
    assert automaton.size == 2**18
