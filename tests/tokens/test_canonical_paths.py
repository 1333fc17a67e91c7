"""Every tokenizer kind with every kind of format: as many paths as secrets, and each path the tokenizer's own."""

import random

import pytest
from tiny_tokenizers import KINDS

from canary_audit.spaces import parse_space
from canary_audit.tokens.choose import secret_walk
from canary_audit.tokens.walk import LEAF

FORMATS = [
    ("{digit:3}", "the pin is ", ""),
    ("{digit:3}", "the pin is", " times"),
    ("{digit:3}", "my pin is 12", "42 times"),
    ("{digit:2}-{digit:1}", "my pin: ", " and"),
    ("{digit:2..3}", "pin ", ", she's here"),
    ("{hex:2}", "key 0x", ""),
    ("{hex:2}", "key='", "' and"),
    ("{letter:2}", "the ", ""),
    ("{letter:2}", "it's th", "er cat"),
    ("{letter:2}", "", " fox"),
    ("{alnum:2}", "pass: ", "\n\nthe cat"),
    ("{alnum:1}x", "'", "'s red"),
    ("{word:colors} x{digit:1}", "the ", " fox"),
    ("{word:animals}", "the", ""),
    ("{letter:1}{digit:1}@mail.com", "mail: ", " and"),
    ("{luhn:4}", "card  ", "."),
]
WRITTEN_OUT = {"unigram"}


def all_paths(walk):
    """Every leaf's tokens, and the completions of each child compared with the leaves below it."""

    def below(state, path):
        branch = walk.children(state)
        found = []
        rows = zip(branch.tokens.tolist(), branch.states.tolist(), branch.completions.tolist(), strict=True)
        for token, child, completions in rows:
            leaves = [(*path, token)] if child == LEAF else below(child, (*path, token))
            assert len(leaves) == completions
            found += leaves
        return found

    return below(walk.root, ())


@pytest.mark.parametrize(
    ("kind", "spelling", "prefix", "suffix"),
    # The unigram tokenizer has no line break, so it cannot read such a text at all.
    [(kind, *format) for kind in KINDS for format in FORMATS if kind != "unigram" or "\n" not in format[2]],
)
def test_each_secret_is_one_path_and_the_tokenizers_own(kind, spelling, prefix, suffix):
    vocabulary = KINDS[kind]()
    space = parse_space(spelling)
    walk = secret_walk(space, vocabulary, prefix=prefix, suffix=suffix, lead=(0,))
    assert (walk.notice is not None) == (kind in WRITTEN_OUT)
    paths = all_paths(walk)
    assert len(paths) == len(set(paths)) == walk.size == space.size
    secrets = [walk.secret(path) for path in paths]
    assert len(set(secrets)) == space.size
    assert walk.paths(secrets) == paths
    wholes = vocabulary.encode_batch([prefix.encode() + secret + suffix.encode() for secret in secrets])
    for path, secret, whole in zip(paths, secrets, wholes, strict=True):
        assert secret in space
        assert [0, *whole][: len(walk.prompt) + len(path)] == [*walk.prompt, *path]
    for path in random.Random(1).sample(paths, 20):
        assert walk.path(walk.secret(path)) == path
