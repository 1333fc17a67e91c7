"""Token walks: as many paths as secrets, each the tokenizer's own, for every kind of format."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from canary_audit.errors import SpaceError
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.tokens.trie import TrieWalk
from canary_audit.tokens.walk import LEAF
from canary_audit.vocabulary import ByteVocabulary, Vocabulary, vocabulary_of

TEXT = [
    "the cat sat on the mat and the dog ran after the red fox",
    "my pin is 1234 and my red fox is here 42 times",
] * 20


def train(*, split_digits: bool) -> Vocabulary:
    """A small byte-level BPE that merges letters, and digits unless told otherwise."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        if split_digits
        else byte_level
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT + [str(i) for i in range(100)] * 3, trainer)
    return vocabulary_of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>"))


@pytest.fixture(scope="module")
def digit_splitting() -> Vocabulary:
    return train(split_digits=True)


@pytest.fixture(scope="module")
def merging() -> Vocabulary:
    return train(split_digits=False)


def all_paths(walk: CanonicalWalk) -> list[tuple[int, ...]]:
    """Every leaf's tokens, by plain recursion."""

    def below(state: int, path: tuple[int, ...]) -> list[tuple[int, ...]]:
        branch = walk.children(state)
        found = []
        for token, child in zip(branch.tokens.tolist(), branch.states.tolist(), strict=True):
            found += [(*path, token)] if child == LEAF else below(child, (*path, token))
        return found

    return below(walk.root, ())


FORMATS = [
    ("{digit:3}", "the pin is ", ""),
    ("{digit:3}", "the pin is", ""),
    ("{digit:2}-{digit:2}", "my pin: ", " and"),
    ("{hex:2}", "key ", ""),
    ("{letter:2}", "the ", ""),
    ("{letter:2}", "the", "er"),
    ("{upper:1}{digit:2}", "", " times"),
    ("{word:colors}", "the ", " fox"),
    ("{luhn:4}", "card ", "."),
    ("{digit:1..3}", "pin ", "."),
    ("{alnum:2}", "pass ", "\n"),
]


@pytest.mark.parametrize(("spelling", "prefix", "suffix"), FORMATS)
@pytest.mark.parametrize("kind", ["digit_splitting", "merging"])
def test_each_secret_is_one_path_and_the_tokenizers_own(kind, spelling, prefix, suffix, request):
    vocabulary = request.getfixturevalue(kind)
    space = parse_space(spelling)
    walk = CanonicalWalk(space, vocabulary, prefix=prefix, suffix=suffix, lead=(0,))
    paths = all_paths(walk)
    assert len(paths) == len(set(paths)) == space.size
    assert {walk.secret(path) for path in paths} == {space.secret(index) for index in range(space.size)}
    for path in random.Random(1).sample(paths, min(200, len(paths))):
        secret = walk.secret(path)
        whole = vocabulary.encode(prefix.encode() + secret + suffix.encode())
        assert walk.path(secret) == path
        assert [0, *whole][: len(walk.prompt) + len(path)] == [*walk.prompt, *path]


@pytest.mark.parametrize("kind", ["digit_splitting", "merging"])
def test_no_path_begins_another(kind, request):
    walk = CanonicalWalk(parse_space("{digit:1..3}"), request.getfixturevalue(kind), prefix="pin ", suffix=".")
    paths = set(all_paths(walk))
    assert not any(path[:cut] in paths for path in paths for cut in range(len(path)))


def test_completions_count_the_leaves_below(merging):
    walk = CanonicalWalk(parse_space("{digit:4}"), merging, prefix="my pin is ", suffix="", lead=(0,))
    branch = walk.children(walk.root)
    assert branch.completions.sum() == 10_000
    assert len({len(path) for path in all_paths(walk)}) > 1  # some tokens hold several digits


def test_a_variable_length_space_needs_a_suffix_that_ends_it(digit_splitting):
    with pytest.raises(SpaceError, match="add a suffix"):
        CanonicalWalk(parse_space("{digit:1..3}"), digit_splitting, prefix="pin ")
    with pytest.raises(SpaceError, match="change its first character"):
        CanonicalWalk(parse_space("{digit:1..3}"), digit_splitting, prefix="pin ", suffix="7")


def test_a_tokenizer_that_rewrites_digits_is_refused(digit_splitting):
    class Poisoned(ByteVocabulary):
        def encode(self, text):
            return list(text.replace(b"7", b"1"))

    with pytest.raises(SpaceError):
        CanonicalWalk(parse_space("{digit:3}"), Poisoned(), prefix="pin ")


def test_a_secret_outside_the_space_has_no_path(digit_splitting):
    walk = CanonicalWalk(parse_space("{digit:3}"), digit_splitting, prefix="pin ")
    with pytest.raises(SpaceError, match="not in the space"):
        walk.path(b"12a")


def test_trie_walk_holds_just_its_paths():
    walk = TrieWalk((9,), [(1, 2), (1, 3), (4,)], bytes)
    root = walk.children(walk.root)
    assert root.tokens.tolist() == [1, 4]
    assert root.completions.tolist() == [2.0, 1.0]
    assert root.states.tolist()[1] == LEAF
    assert walk.size == 3


@pytest.mark.parametrize("paths", [[(1,), (1, 2)], [(1, 2), (1,)], [(1, 2), (1, 2)]])
def test_trie_walk_refuses_paths_that_begin_others(paths):
    with pytest.raises(SpaceError):
        TrieWalk((), paths, bytes)
