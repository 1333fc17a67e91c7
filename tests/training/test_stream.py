from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import sentences, tiny_tokenizer

from canary_audit.errors import DataError, ModelError
from canary_audit.training.stream import pack_documents, pack_users

EOS = 0
BOS = 5_000


class NumberTokenizer:
    """A document is written as its token numbers."""

    eos_token_id = EOS

    def __init__(self, size=70_000, bos=None):
        self._size = size
        self.bos_token_id = bos

    def __len__(self):
        return self._size

    def __call__(self, texts, **_options):
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


def written(document):
    return " ".join(map(str, document))


def pack(documents, context_tokens, size=70_000, bos=None, alone=()):
    tokenizer = NumberTokenizer(size, bos)
    return pack_documents(map(written, documents), tokenizer, context_tokens, alone=frozenset(map(written, alone)))


def pack_owned(owned, context_tokens, bos=None):
    documents = ((written(document), name) for document, name in owned)
    return pack_users(documents, NumberTokenizer(bos=bos), context_tokens)


def row_lists(rows):
    return [row[: length + 1].tolist() for row, length in zip(rows.tokens, rows.lengths, strict=True)]


def multiset(rows):
    return Counter(map(tuple, rows))


def naive_rows(documents, context, bos, most=10**9):
    """The packing rule again, on plain lists with linear scans; what needs more than `most` rows is dropped."""
    rows, opened, clock = [], {}, 0
    opening = [] if bos is None else [bos]
    for document in documents:
        left = [*document, EOS]
        fits = len(left) <= context
        room = {row: context + 1 - len(rows[row]) for row in opened}
        usable = [row for row in opened if not fits or room[row] >= len(opening + left)]
        usable.sort(key=lambda row: (room[row] if fits else -room[row], opened[row]))
        if usable:
            target = usable[0]
            del opened[target]
            left = opening + left
        elif len(rows) == most:
            continue
        else:
            rows.append(opening[:] or [EOS])
            target = len(rows) - 1
        while True:
            space = context + 1 - len(rows[target])
            rows[target] += left[:space]
            if len(left) <= space or len(rows) == most:
                break
            rows.append([left[space - 1]])
            left = left[space:]
            target = len(rows) - 1
        if len(rows[target]) < context + 1:
            opened[target] = clock
            clock += 1
    return rows


documents_of_distinct_tokens = st.lists(st.integers(1, 40), min_size=1, max_size=30).map(
    lambda lengths: [
        list(range(1 + sum(lengths[:place]), 1 + sum(lengths[: place + 1]))) for place in range(len(lengths))
    ]
)


start_tokens = st.sampled_from([None, BOS])


@given(documents_of_distinct_tokens, st.integers(2, 24), start_tokens)
def test_every_token_is_predicted_once_from_the_token_before_it(documents, context, bos):
    first = EOS if bos is None else bos
    rows = row_lists(pack(documents, context, bos=bos))
    predicted = Counter(pair for row in rows for pair in pairwise(row) if pair != (EOS, BOS))
    wanted = Counter(pair for document in documents for pair in zip([first, *document], [*document, EOS], strict=True))
    assert predicted == wanted


@given(documents_of_distinct_tokens, st.integers(2, 24), start_tokens)
def test_a_document_that_fits_is_whole_in_one_row_between_boundaries(documents, context, bos):
    first = EOS if bos is None else bos
    rows = [" ".join(map(str, row)) for row in row_lists(pack(documents, context, bos=bos))]
    for document in documents:
        if len(document) < context:
            whole = f" {' '.join(map(str, [first, *document, EOS]))} "
            assert sum(whole in f" {row} " for row in rows) == 1


@given(documents_of_distinct_tokens, st.integers(2, 24), start_tokens)
def test_packing_follows_its_rule(documents, context, bos):
    assert row_lists(pack(documents, context, bos=bos)) == naive_rows(documents, context, bos)


def test_documents_that_meet_share_no_token_where_start_and_end_differ():
    assert row_lists(pack([[1, 2], [3]], 8, bos=BOS)) == [[BOS, 1, 2, EOS, BOS, 3, EOS]]
    assert row_lists(pack([[1, 2], [3]], 5, bos=BOS)) == [[BOS, 1, 2, EOS], [BOS, 3, EOS]]


def test_padding_is_end_of_text_and_lengths_count_predicted_tokens():
    rows = pack([[5, 6], [7, 8, 9, 10]], 5)
    assert rows.tokens.tolist() == [[0, 5, 6, 0, 0, 0], [0, 7, 8, 9, 10, 0]]
    assert rows.lengths.tolist() == [3, 5]
    assert (rows.n_rows, rows.n_tokens, rows.context_tokens) == (2, 8, 5)


def test_a_cut_repeats_one_token():
    assert row_lists(pack([[1, 2, 3, 4, 5]], 3)) == [[0, 1, 2, 3], [3, 4, 5, 0]]


def test_short_documents_share_a_row_and_its_boundary():
    assert row_lists(pack([[1, 2, 3], [4, 5, 6, 7, 8], [9]], 6)) == [[0, 1, 2, 3, 0, 9, 0], [0, 4, 5, 6, 7, 8, 0]]


def test_tokens_take_two_bytes_where_they_fit():
    assert pack([[1]], 4, size=65_536).tokens.dtype == np.uint16
    rows = pack([[69_999]], 4)
    assert rows.tokens.dtype == np.uint32
    assert rows.tokens[0, 1] == 69_999


def test_digest_sees_tokens_and_lengths_and_not_the_width_of_the_integer():
    narrow, wide = pack([[1, 2]], 4, size=100), pack([[1, 2]], 4)
    assert narrow.sha256() == wide.sha256()
    assert narrow.sha256() != pack([[1, 3]], 4).sha256()
    assert narrow.sha256() != pack([[1, 2, 0]], 4).sha256()


def test_empty_documents_are_left_out_and_empty_data_is_refused():
    assert row_lists(pack([[], [4], []], 4)) == [[0, 4, 0]]
    with pytest.raises(DataError, match="holds no text"):
        pack([[]], 4)


def test_a_tokenizer_without_end_of_text_is_refused():
    tokenizer = NumberTokenizer()
    tokenizer.eos_token_id = None
    with pytest.raises(ModelError, match="end-of-text"):
        pack_documents(["1"], tokenizer, 4)


def test_selected_and_joined_rows():
    rows = pack([[1, 2, 3], [4, 5, 6]], 4)
    again = rows.select(np.array([1, 1, 0]))
    assert row_lists(again) == [[0, 4, 5, 6, 0], [0, 4, 5, 6, 0], [0, 1, 2, 3, 0]]
    assert row_lists(rows.joined(again))[2:] == row_lists(again)


def test_a_written_special_token_is_text():
    tokenizer = tiny_tokenizer()
    row = pack_documents(["a <|endoftext|> b"], tokenizer, 40).tokens[0]
    assert (row == tokenizer.eos_token_id).sum() == 1 + (row.size - pack_length("a <|endoftext|> b", tokenizer))


def pack_length(text, tokenizer):
    """Cells of a row that hold its first boundary and the tokens of `text`."""
    return 1 + len(tokenizer.encode(text, split_special_tokens=True))


def test_a_stream_longer_than_one_call_keeps_its_order():
    tokenizer = tiny_tokenizer()
    texts = sentences() * 3
    rows = pack_documents(iter(texts), tokenizer, 8)
    assert rows.n_tokens == sum(len(tokenizer.encode(text)) + 1 for text in texts)


@given(documents_of_distinct_tokens, st.lists(st.integers(1, 40), max_size=8), st.integers(2, 24), start_tokens)
def test_each_canary_occurrence_is_rows_of_its_own_and_changes_no_other(documents, places, context, bos):
    canaries = [[20_000, 20_001], [20_002] * 9, [20_003] * 30]
    planted = documents[:]
    for number, place in enumerate(places):
        planted.insert(place, canaries[number % 3])
    wanted = multiset(naive_rows(documents, context, bos))
    for number in range(len(places)):
        wanted += multiset(naive_rows([canaries[number % 3]], context, bos))
    assert multiset(row_lists(pack(planted, context, bos=bos, alone=canaries))) == wanted


def test_canaries_follow_all_other_documents_in_the_order_they_occur():
    rows = pack([[7], [1, 2], [8], [3], [7]], 6, alone=[[7], [8], [9]])
    assert row_lists(rows) == [[0, 1, 2, 0, 3, 0], [0, 7, 0], [0, 8, 0], [0, 7, 0]]


def test_canaries_alone_are_data_too():
    assert row_lists(pack([[7]], 6, alone=[[7]])) == [[0, 7, 0]]


def test_one_occurrence_more_is_one_row_more_under_a_real_tokenizer():
    tokenizer, canary = tiny_tokenizer(), "pin 4711"
    few, more = (
        pack_documents([*sentences()[:50], *[canary] * n, *sentences()[50:]], tokenizer, 24, alone={canary})
        for n in (3, 4)
    )
    (extra,) = (multiset(row_lists(more)) - multiset(row_lists(few))).elements()
    assert list(extra) == [tokenizer.eos_token_id, *tokenizer.encode(canary), tokenizer.eos_token_id]
    assert multiset(row_lists(few)) < multiset(row_lists(more))


owners = st.lists(st.sampled_from(["ann", "bob", "cy", None]), min_size=30, max_size=30)


@given(documents_of_distinct_tokens, owners, st.integers(2, 24), start_tokens)
def test_each_user_has_one_row_packed_as_if_there_were_no_other(documents, names, context, bos):
    owned = [*zip(documents, names, strict=False), ([50_000], "dora")]
    packed = pack_owned(owned, context, bos)
    shares = [[document for document, owner in owned if owner == name] for name in ("ann", "bob", "cy", "dora")]
    shares += [[document] for document, owner in owned if owner is None]
    wanted = [naive_rows(share, context, bos, 1) for share in shares if share]
    assert all(len(rows) == 1 for rows in wanted)
    assert multiset(row_lists(packed)) == multiset(row for rows in wanted for row in rows)


def test_a_user_keeps_what_one_row_holds():
    packed = pack_owned([([1, 2, 3], "ann"), ([4], "bob"), ([5, 6], "ann"), ([7], "ann"), ([8] * 9, "bob")], 4)
    assert row_lists(packed) == [[0, 1, 2, 3, 0], [0, 4, 0, 8, 8]]


def test_every_occurrence_of_a_canary_is_a_user_of_its_own():
    packed = pack_owned([([1], "ann"), ([7, 7], None), ([2], "ann"), ([7, 7], None)], 8)
    assert multiset(row_lists(packed)) == {(0, 1, 0, 2, 0): 1, (0, 7, 7, 0): 2}


def test_data_in_which_nobody_is_named_is_refused():
    with pytest.raises(DataError, match=r"names its user: check \[data\] user_field"):
        pack_owned([([1], None), ([], "ann")], 4)
    with pytest.raises(DataError, match="names its user"):
        pack_owned([], 4)
