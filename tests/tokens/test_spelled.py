"""Given secrets as tokens, against the tree of their whole space."""

import random

import pytest
from tiny_tokenizers import KINDS
from worlds import digit_walk, naive_cost

from canary_audit.errors import SpaceError
from canary_audit.exposure.ranks import score_paths
from canary_audit.models.table import digit_tree
from canary_audit.spaces import parse_space
from canary_audit.tokens.choose import secret_walk
from canary_audit.tokens.spelled import spell_secrets
from canary_audit.vocabulary import ByteVocabulary

np = pytest.importorskip("numpy")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("format", "prefix", "suffix"),
    [
        ("{digit:3}", "my pin is ", ""),
        ("{digit:3}", "pin:", "."),
        ("{digit:2..3}", "my pin is ", " now"),
        ("{word:colors} {word:colors}", "the cat and ", ""),
        ("{letter:2}", "", "!"),
    ],
)
def test_secrets_have_the_tokens_of_their_leaves(kind, format, prefix, suffix):
    vocabulary, space = KINDS[kind](), parse_space(format)
    walk = secret_walk(space, vocabulary, prefix=prefix, suffix=suffix, lead=(7,))
    secrets = space.draw(30, random.Random(1))
    spelled = spell_secrets(secrets, vocabulary, prefix=prefix, suffix=suffix, lead=(7,), prefix_free=space.prefix_free)
    wanted = [(*walk.prompt, *path) for path in walk.paths(secrets)]
    assert [(*spelled.prompt, *path) for path in spelled.paths] == wanted
    behind = b"".join(map(vocabulary.spelled, spelled.prompt[1:]))
    assert f" {prefix}".encode().startswith(behind) or prefix.encode().startswith(behind)


def test_scores_are_those_of_the_tree():
    model, walk = digit_tree(4, np.random.default_rng(1)), digit_walk(4)
    secrets = [f"{number:04}".encode() for number in (7, 1234, 9999, 7)]
    spelled = spell_secrets(secrets, ByteVocabulary(), prefix="pin ")
    costs = score_paths(spelled.walk(), model, spelled.paths)
    assert costs.tolist() == score_paths(walk, model, walk.paths(secrets)).tolist()
    assert costs == pytest.approx([naive_cost(model, path) for path in spelled.paths])


def test_one_secret_alone_is_scored_too():
    spelled = spell_secrets([b"12"], ByteVocabulary(), prefix="pin ", suffix=".")
    assert spelled.prompt == tuple(b"pin ")
    assert spelled.paths == (tuple(b"12"),)


def test_a_tokenizer_that_rewrites_is_refused_without_telling_the_secret():
    class Rewriting(ByteVocabulary):
        def encode(self, text):
            return list(text.replace(b"7", b"1"))

    with pytest.raises(SpaceError, match="does not give back the text of a canary") as caught:
        spell_secrets([b"12", b"4711"], Rewriting(), prefix="pin ")
    assert "4711" not in str(caught.value)
