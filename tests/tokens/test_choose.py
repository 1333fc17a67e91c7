"""Which walk a space gets, and what is refused."""

import pytest
from tiny_tokenizers import KINDS, llama3
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from canary_audit.errors import SpaceError
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.tokens.choose import secret_walk
from canary_audit.tokens.enumerated import EnumeratedWalk
from canary_audit.vocabulary import ByteVocabulary, vocabulary_of


class Rewriting(ByteVocabulary):
    """A normalizer that makes each 7 a 1, in this package's terms."""

    def encode(self, text):
        return list(text.replace(b"7", b"1"))


class OtherRules(ByteVocabulary):
    """Byte pairs that its merges do not know of: 00 is one token."""

    size = 257

    def spelled(self, token):
        return b"00" if token == 256 else bytes([token])

    def encode(self, text):
        tokens = []
        while text:
            tokens.append(256 if text.startswith(b"00") else text[0])
            text = text[2 if text.startswith(b"00") else 1 :]
        return tokens


def test_a_large_space_without_pairs_is_refused_with_the_reason():
    with pytest.raises(SpaceError, match="too many to tokenize one by one"):
        secret_walk(parse_space("{digit:9}"), KINDS["unigram"](), prefix="pin ")


def test_a_small_space_without_pairs_is_written_out_with_a_notice():
    walk = secret_walk(parse_space("{digit:3}"), KINDS["unigram"](), prefix="pin ")
    assert isinstance(walk, EnumeratedWalk)
    assert "all 1,000 secrets" in walk.notice


def test_the_two_walks_are_one_tree():
    space, vocabulary = parse_space("{digit:2}{letter:1}"), KINDS["gpt2"]()
    lazy = CanonicalWalk(space, vocabulary, prefix="the pin is ", suffix=" times", lead=(0,))
    written = EnumeratedWalk(space, vocabulary, prefix="the pin is ", suffix=" times", lead=(0,))
    secrets = [space.secret(index) for index in range(space.size)]
    whole = [(*lazy.prompt, *path) for path in lazy.paths(secrets)]
    assert whole == [(*written.prompt, *path) for path in written.paths(secrets)]


def test_pairs_that_disagree_with_the_tokenizer_decide_nothing():
    walk = secret_walk(parse_space("{digit:3}"), OtherRules(), prefix="pin ")
    assert isinstance(walk, EnumeratedWalk)
    assert walk.path(b"001") == (256, ord("1"))


@pytest.mark.parametrize("factory", [CanonicalWalk, EnumeratedWalk, secret_walk])
def test_a_tokenizer_that_rewrites_secrets_is_refused(factory):
    with pytest.raises(SpaceError, match="rewrites"):
        factory(parse_space("{digit:3}"), Rewriting(), prefix="pin ")


@pytest.mark.parametrize("normalizer", [normalizers.Lowercase(), normalizers.Replace("7", "1")])
def test_a_normalizer_that_rewrites_text_is_refused_by_name(normalizer):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=llama3()._tokenizer.backend_tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizer
    with pytest.raises(SpaceError, match=r"normalizer \((Lowercase|Replace)\) rewrites"):
        vocabulary_of(tokenizer)


def test_a_normalizer_that_leaves_plain_text_alone_is_served():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=llama3()._tokenizer.backend_tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    assert secret_walk(parse_space("{digit:9}"), vocabulary_of(tokenizer), prefix="pin ").notice is None


@pytest.mark.parametrize("kind", ["gpt2", "unigram"])
def test_a_secret_outside_the_space_has_no_path(kind):
    walk = secret_walk(parse_space("{digit:3}"), KINDS[kind](), prefix="pin ")
    for secret in (b"12a", b"12", b"1234"):
        with pytest.raises(SpaceError, match="not in the space"):
            walk.path(secret)
