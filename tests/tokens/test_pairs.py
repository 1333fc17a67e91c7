"""Canonical pairs, worked out from the merges, against the tokenizer itself."""

import random

import numpy as np
import pytest
from tiny_tokenizers import KINDS

from canary_audit.tokens.merging import MergeTrees
from canary_audit.tokens.pairs import build_pairs

BYTE_LEVEL = ["gpt2", "llama3", "smollm2"]
"""Kinds that put no space before a text: a pair can be given to them as it is."""


def sample(vocabulary, alphabet, n):
    """Some tokens that are spelled in the alphabet, and all tokens' bytes."""
    words = [vocabulary.spelled(token) for token in range(vocabulary.size)]
    fitting = [token for token, word in enumerate(words) if word and not word.translate(None, alphabet)]
    return random.Random(3).sample(fitting, min(n, len(fitting))), words


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_a_token_forms_exactly_if_its_text_encodes_to_it(kind):
    vocabulary = KINDS[kind]()
    trees = MergeTrees(vocabulary.merges)
    tokens, words = sample(vocabulary, bytes(range(128)), 2000)
    encoded = vocabulary.encode_batch([words[token] for token in tokens])
    alone = [row == [token] for row, token in zip(encoded, tokens, strict=True)]
    assert [trees.forms(token) for token in tokens] == alone


@pytest.mark.parametrize("kind", BYTE_LEVEL)
@pytest.mark.parametrize("alphabet", [b"abcdefghijklmnopqrstuvwxyzABCD0123456789", b"abcdefghist '.,@"])
def test_pairs_agree_with_the_tokenizer(kind, alphabet):
    vocabulary = KINDS[kind]()
    trees = MergeTrees(vocabulary.merges)
    tokens, words = sample(vocabulary, alphabet, 150)
    pairs = build_pairs(trees, words, lefts=tokens, rights=tokens, alphabet=alphabet)
    found = pairs.canonical[np.ix_(pairs.left, pairs.right)]
    both = [(left, right) for left in tokens for right in tokens]
    encoded = vocabulary.encode_batch([words[left] + words[right] for left, right in both])
    expected = [row == [left, right] for row, (left, right) in zip(encoded, both, strict=True)]
    assert found.ravel().tolist() == expected
