"""Spaces far too large to write out, under a real vocabulary of 49,152 tokens."""

import random
from pathlib import Path

import numpy as np
import pytest

from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.tokens.walk import LEAF
from canary_audit.vocabulary import vocabulary_of

TOKENIZER = Path(__file__).parents[2] / "models" / "smollm2" / "tokenizer.json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TOKENIZER.is_file(), reason="models/smollm2 is missing: run `make models`"),
]


@pytest.fixture(scope="module")
def vocabulary():
    from transformers import PreTrainedTokenizerFast

    return vocabulary_of(PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER)))


@pytest.mark.parametrize("spelling", ["{digit:9}", "{hex:32}", "{letter:8}", "{alnum:12}"])
@pytest.mark.parametrize(("prefix", "suffix"), [("The password is ", ""), ("my key='", "' and it's mine")])
def test_random_paths_are_the_tokenizers_own(vocabulary, spelling, prefix, suffix):
    space = parse_space(spelling)
    walk = CanonicalWalk(space, vocabulary, prefix=prefix, suffix=suffix)
    rng = random.Random(1)
    for _ in range(50):
        state, path = walk.root, []
        while state != LEAF:
            branch = walk.children(state)
            child = rng.randrange(len(branch.tokens))
            path.append(int(branch.tokens[child]))
            state = int(branch.states[child])
        secret = walk.secret(path)
        assert secret in space
        assert walk.path(secret) == tuple(path)
    assert np.isclose(walk.children(walk.root).completions.sum(), float(space.size))
