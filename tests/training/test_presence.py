import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import CONTEXT, sentences, tiny_tokenizer
from tokenizers import normalizers

from canary_audit.errors import DataError, SpaceError
from canary_audit.training.presence import check_presence, check_representable, count_canaries
from canary_audit.training.stream import TokenRows, pack_documents

TOKENIZER = tiny_tokenizer()
TEXTS = {"a-1": "pin 4711", "a-2": "pin 1234", "control-1": "pin 9999"}
PLAN = {"a-1": 8, "a-2": 1, "control-1": 0}


def packed(documents):
    return pack_documents(documents, TOKENIZER, CONTEXT)


def planted(counts):
    return sentences() + [TEXTS[canary] for canary, count in counts.items() for _ in range(count)]


def test_counts_are_exact():
    assert count_canaries(packed(planted(PLAN)), TOKENIZER, TEXTS) == PLAN


@given(st.lists(st.text(alphabet="ab ©ü", min_size=1, max_size=12), min_size=1, max_size=12), st.integers(0, 3))
def test_counts_equal_those_in_the_text(documents, place):
    canary = documents[place % len(documents)]
    rows = pack_documents(documents, TOKENIZER, 64)
    assert count_canaries(rows, TOKENIZER, {"x": canary}) == {"x": sum(text.count(canary) for text in documents)}


def test_presence_is_reported():
    check = check_presence(packed(planted(PLAN)), TOKENIZER, texts=TEXTS, planned=PLAN)
    assert (check.planned, check.seen, check.deduplicated) == (9, 9, False)


def test_deduplication_without_leave_is_an_error_that_names_ids_and_counts_only():
    rows = packed(dict.fromkeys(planted(PLAN)))
    with pytest.raises(DataError, match="a-1: planned 8, seen 1") as error:
        check_presence(rows, TOKENIZER, texts=TEXTS, planned=PLAN)
    assert not any(text in str(error.value) for text in ("4711", "1234", "9999"))
    assert "a-2" not in str(error.value)


def test_deduplication_with_leave_expects_each_planted_canary_once():
    rows = packed(dict.fromkeys(planted(PLAN)))
    check = check_presence(rows, TOKENIZER, texts=TEXTS, planned=PLAN, deduplicated=True)
    assert (check.planned, check.seen, check.deduplicated) == (2, 2, True)
    with pytest.raises(DataError, match="a-1: planned 1, seen 8"):
        check_presence(packed(planted(PLAN)), TOKENIZER, texts=TEXTS, planned=PLAN, deduplicated=True)


def test_a_missing_canary_and_an_inserted_control_are_errors():
    rows = packed(planted({"a-1": 8, "control-1": 1}))
    with pytest.raises(DataError, match="a-2: planned 1, seen 0; control-1: planned 0, seen 1"):
        check_presence(rows, TOKENIZER, texts=TEXTS, planned=PLAN)


def test_a_canary_that_a_row_end_cuts_does_not_count():
    text = "the old clock draws 7 5 3 1 9 7 5 3 1 2 4 6 8"
    assert len(TOKENIZER.encode(text)) >= CONTEXT
    assert count_canaries(packed([text]), TOKENIZER, {"long": text}) == {"long": 0}


def test_a_canary_does_not_span_two_documents():
    rows = packed(["pin ", "4711"])
    assert rows.n_rows == 1
    assert count_canaries(rows, TOKENIZER, TEXTS)["a-1"] == 0


def test_the_token_two_rows_share_counts_where_it_is_predicted():
    ids = TOKENIZER.encode("pin 4711")
    cells = np.zeros((1, CONTEXT + 1), dtype=np.uint16)
    cells[0, : len(ids)] = ids
    rows = TokenRows(tokens=cells, lengths=np.array([len(ids) - 1], dtype=np.int32))
    assert count_canaries(rows, TOKENIZER, TEXTS)["a-1"] == 0


def test_canaries_survive_the_built_in_tokenizer():
    check_representable(TOKENIZER, {**TEXTS, "odd": " ü\t😀 <|endoftext|>\n"})


def test_a_tokenizer_that_rewrites_digits_is_refused():
    poisoned = tiny_tokenizer()
    poisoned.backend_tokenizer.normalizer = normalizers.Replace("471", "411")
    with pytest.raises(DataError, match="canary not representable") as error:
        check_representable(poisoned, TEXTS)
    assert "a-1" in str(error.value)
    assert "a-2" not in str(error.value)
    assert "4711" not in str(error.value)


def test_a_tokenizer_that_rewrites_only_amid_other_text_is_refused():
    poisoned = tiny_tokenizer()
    poisoned.backend_tokenizer.normalizer = normalizers.Replace(" pin", " pen")
    with pytest.raises(DataError, match="canary not representable"):
        check_representable(poisoned, TEXTS)


def test_a_tokenizer_of_another_library_is_refused():
    class Words:
        all_special_ids = ()

        def __len__(self):
            return 2

        def convert_ids_to_tokens(self, ids):
            return [f"word{number}" for number in ids]

    with pytest.raises(SpaceError, match="fast tokenizer"):
        check_representable(Words(), TEXTS)
