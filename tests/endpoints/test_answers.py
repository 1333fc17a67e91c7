"""Answers are read strictly: what is missing, misshapen or impossible is refused, and never repeated."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.endpoints.answers import (
    Field,
    checked_log_prob,
    checked_window,
    chosen_window,
    require_agreement,
    sanitized,
    tokens_sent,
    top_window,
)
from canary_audit.endpoints.prompts import names_at_once, prompt_of, spaced, text_of
from canary_audit.endpoints.token_names import TokenNames
from canary_audit.errors import EndpointError
from canary_audit.vocabulary import ByteVocabulary

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
FLOAT_LOWEST = -3.4028234663852886e38


class SharedNames:
    """A vocabulary in which texts are shared, as in tokenizers that fall back to bytes."""

    merges = None
    _spelled = (b"", b"1", b"2", b"1", b"\xe2\x82", b"\xac", b" the", b"the")
    size = len(_spelled)

    def spelled(self, token):
        return self._spelled[token]

    def encode(self, text):
        return {b" the1": [6, 1], b"1": [1]}.get(text, [])


def test_a_field_is_found_by_its_path():
    answer = Field(value={"choices": [{"logprobs": {"top_logprobs": [{"a": -1}]}}]})
    found = answer.at("choices", 0, "logprobs", "top_logprobs", 0)
    assert found.name == "choices[0].logprobs.top_logprobs[0]"
    assert found.members()["a"].log_prob() == -1.0


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("choices", 0, "text"), r"choices\[0\].text"),
        (("choices", 1), r"choices\[1\]"),
        (("usage", "n"), "usage is a string, not an object"),
        (("usage", 0), "usage is a string, not an array"),
        (("nothing",), "no nothing"),
    ],
)
def test_a_field_that_is_missing_or_misshapen_is_named_without_its_content(path, named):
    with pytest.raises(EndpointError, match=named) as error:
        Field(value={"choices": [{}], "usage": "the secret is 1234"}).at(*path)
    assert "1234" not in str(error.value)


@given(json_values)
def test_readers_of_values_raise_nothing_but_endpoint_errors(value):
    field = Field(value=value)
    for read in (field.text, field.integer, field.log_prob, field.places, field.members, field.require_null):
        try:
            read()
        except EndpointError:
            continue


@pytest.mark.parametrize("value", [0, -0.0, 1e-7, -3, -2.5, -8_999.0])
def test_a_log_probability_is_a_number_up_to_zero(value):
    assert checked_log_prob(value) == min(value, 0.0)


@pytest.mark.parametrize(
    "value",
    [True, None, "-1", [], 0.3, 1e-5, math.nan, math.inf, -math.inf, 10**400, -(10**400), -9_999.0, FLOAT_LOWEST],
)
def test_what_is_no_log_probability_is_refused(value):
    with pytest.raises(EndpointError):
        checked_log_prob(value)


@pytest.mark.parametrize("value", [-9_999.0, FLOAT_LOWEST, -math.inf])
def test_a_probability_of_zero_is_called_that(value):
    with pytest.raises(EndpointError, match="probability of zero"):
        checked_log_prob(value)


@pytest.mark.parametrize("value", [True, -1, 1.0, "1", None])
def test_a_count_is_a_whole_number_and_no_boolean(value):
    with pytest.raises(EndpointError):
        Field(value=value).integer()


def test_a_server_that_read_other_tokens_than_were_sent_is_refused():
    tokens_sent(None, 3)
    tokens_sent(Field(value=3), 3)
    for value in (4, 3.0, True, "3"):
        with pytest.raises(EndpointError, match="3 tokens were sent"):
            tokens_sent(Field(value=value), 3)


def test_a_window_names_no_token_twice_and_no_more_than_certainty():
    assert checked_window([(1, -1.0), (2, -1.0), (None, -5.0)]) == {1: -1.0, 2: -1.0}
    with pytest.raises(EndpointError, match="twice"):
        checked_window([(1, -1.0), (1, -1.0)])
    with pytest.raises(EndpointError, match="exceed one"):
        checked_window([(1, -0.5), (2, -0.5), (None, -0.5)])


def test_chosen_tokens_are_those_asked_for_and_the_drawn_one():
    assert chosen_window([(1, -1.0), (2, -2.0)], [2, 1], drawn=1).n_top == 0
    assert set(chosen_window([(1, -1.0), (9, -2.0)], [1], drawn=9).log_probs) == {1, 9}
    for pairs in ([(1, -1.0)], [(1, -1.0), (2, -2.0), (3, -3.0)], [(1, -1.0), (3, -3.0)]):
        with pytest.raises(EndpointError, match="ignores the choice"):
            chosen_window(pairs, [1, 2], drawn=1)


def test_a_drawn_token_beyond_the_likeliest_is_kept_and_not_counted():
    window = top_window([(9, -6.0), (1, -1.0), (2, -2.0)], 2, drawn=-6.0)
    assert window.n_top == 2
    assert window.is_top
    assert set(window.log_probs) == {1, 2, 9}


def test_a_drawn_token_that_may_have_displaced_another_is_not_counted():
    pairs = [(9, -6.0), (1, -1.0), (2, -2.0)]
    assert top_window(pairs, 3, drawn=-6.0, drawn_displaces=True).n_top == 2
    assert top_window(pairs, 3, drawn=-1.0, drawn_displaces=True).n_top == 3
    assert top_window(pairs, 3, drawn=-6.0).n_top == 3


def test_tokens_without_a_name_count_as_unseen():
    window = top_window([(1, -1.0), (None, -1.5), (2, -2.0)], 3)
    assert (window.n_top, set(window.log_probs)) == (2, {1, 2})
    assert not top_window([(None, -1.0)], 1).is_top


@pytest.mark.parametrize(
    ("pairs", "drawn", "match"),
    [
        ([(1, -1.0)], None, "1 likeliest tokens where 2"),
        ([(1, -1.0), (2, -2.0), (3, -3.0)], None, "3 likeliest tokens where 2"),
        ([(1, -1.0), (2, -2.0), (3, -3.0)], -1.0, "one token too many"),
        ([(1, -2.0), (2, -1.0)], None, "likeliest tokens first"),
    ],
)
def test_likeliest_tokens_come_in_the_promised_number_and_order(pairs, drawn, match):
    with pytest.raises(EndpointError, match=match):
        top_window(pairs, 2, drawn=drawn, ordered=True)


def test_two_numbers_for_one_token_must_agree():
    require_agreement(-1.0, -1.0005)
    with pytest.raises(EndpointError, match="two log-probabilities"):
        require_agreement(-1.0, -1.1)


def test_names_of_servers_are_short_and_printable():
    assert sanitized("a\x1b[31m\nb\u202eé" + "c" * 200) == "a[31mb" + "c" * 74


def test_a_name_tells_a_token_by_number_text_or_bytes():
    names = TokenNames(SharedNames())
    assert names.token("token_id:3", [3]) == 3
    assert names.token("2", [2]) == 2
    assert names.token("\u2581the", []) == 6
    assert names.token("bytes:\\xe2\\x82", [4]) == 4
    assert names.token("the", [7], b"the") == 7


def test_a_name_that_may_mean_a_wanted_token_and_another_is_refused():
    names = TokenNames(SharedNames())
    assert names.token("1", [2]) is None
    with pytest.raises(EndpointError, match="shares its text"):
        names.token("1", [3])
    assert names.token("\ufffd", [1]) is None
    with pytest.raises(EndpointError, match="shares its text"):
        names.token("\ufffd", [4])


def test_a_token_the_tokenizer_does_not_have_is_refused():
    with pytest.raises(EndpointError, match="--tokenizer"):
        TokenNames(SharedNames()).token("token_id:8", [])


def test_a_name_whose_bytes_are_another_s_is_refused():
    with pytest.raises(EndpointError, match="bytes of another"):
        TokenNames(ByteVocabulary()).token("a", [], b"b")


def test_an_echoed_token_may_be_named_in_any_way_it_is_written():
    names = TokenNames(SharedNames())
    assert names.is_name_of("1", 1)
    assert names.is_name_of("1", 3)
    assert names.is_name_of("token_id:3", 3)
    assert names.is_name_of("\ufffd", 4)
    assert names.is_name_of("<s>", 0)
    assert not names.is_name_of("2", 1)
    assert not names.is_name_of("token_id:1", 3)


def test_a_prefix_is_sent_as_the_text_that_is_tokenized_to_it():
    assert text_of([6, 1], SharedNames()) == " the1"
    assert text_of([0, 1], SharedNames()) == "1"
    assert text_of(b"caf\xc3\xa9", ByteVocabulary()) == "café"
    for tokens, vocabulary in (([3], SharedNames()), (b"caf\xc3", ByteVocabulary()), ([1], None)):
        with pytest.raises(EndpointError):
            text_of(tokens, vocabulary)


def test_prompts_have_a_token_and_seeds_of_requests_do_not_overlap():
    with pytest.raises(EndpointError, match="prefix"):
        prompt_of([])
    seeds = [spaced(seed, 4) + place for seed in range(5) for place in range(4)]
    assert len(set(seeds)) == len(seeds)


def test_no_more_tokens_are_asked_for_than_there_are():
    assert names_at_once(20, SharedNames()) == SharedNames.size
    assert names_at_once(20, None) == 20
