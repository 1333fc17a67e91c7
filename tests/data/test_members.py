"""Drawing documents that differ in nothing but training."""

from collections import Counter

import pytest

from canary_audit.data.members import draw_members
from canary_audit.errors import DataError

TRAINED = [f"trained {number}" for number in range(40)]
HELD_OUT = [f"held out {number}" for number in range(30)]


def draw(trained=TRAINED, held_out=HELD_OUT, *, excluded=frozenset(), n=10, seed=1):
    return draw_members(lambda: iter(trained), lambda: iter(held_out), excluded=excluded, n=n, seed=seed)


def test_ids_and_sides():
    members = draw()
    assert list(members.trained) == [f"in-{number:02d}" for number in range(1, 11)]
    assert list(members.held_out) == [f"out-{number:02d}" for number in range(1, 11)]
    assert (
        len(set(members.trained.values()) & set(TRAINED)) == len(set(members.held_out.values()) & set(HELD_OUT)) == 10
    )
    assert members.texts == {**members.trained, **members.held_out}


def test_repeated_texts_are_left_out_on_both_sides():
    repeated = [*TRAINED[:5], "both", "both"]
    members = draw([*TRAINED, *repeated], [*HELD_OUT, "both", HELD_OUT[0], TRAINED[7]], n=100)
    assert set(members.trained.values()) == set(TRAINED[5:]) - {TRAINED[7]}
    assert set(members.held_out.values()) == set(HELD_OUT[1:])


def test_planted_and_blank_texts_are_left_out():
    members = draw([*TRAINED, "canary", " \n"], [*HELD_OUT, ""], excluded={"canary"}, n=100)
    assert set(members.trained.values()) == set(TRAINED)
    assert set(members.held_out.values()) == set(HELD_OUT)


def test_the_draw_depends_on_texts_and_seed_alone():
    assert draw() == draw(TRAINED[::-1], HELD_OUT[::-1])
    assert draw(seed=2).texts.values() != draw().texts.values()
    assert set(draw(n=5).trained.values()) <= set(draw(n=10).trained.values())


def test_every_document_is_as_likely():
    counts = Counter(text for seed in range(400) for text in draw(seed=seed).trained.values())
    assert set(counts) == set(TRAINED)
    chi_square = sum((counts[text] - 100) ** 2 / (100 * 0.75) for text in TRAINED)
    assert chi_square < 100  # 39 expected; above 100 once in 10^6 draws


@pytest.mark.parametrize("held_out", [[], [TRAINED[0]], ["twice", "twice"]])
def test_a_side_without_documents_is_refused(held_out):
    with pytest.raises(DataError, match="0 held-out documents"):
        draw(held_out=held_out)
