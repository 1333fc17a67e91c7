import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.models.tokenizer import END_OF_TEXT, train_tokenizer

CORPUS = [f"The random number is {n} and the other one is {n * 7919}.\nDon't look." for n in range(200)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS, 320, 64)


@given(text=st.text())
def test_every_text_comes_back_unchanged(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(digits=st.text("0123456789", min_size=1), before=st.text(), after=st.text())
def test_digits_are_never_merged(tokenizer, digits, before, after):
    names = tokenizer.convert_ids_to_tokens(tokenizer.encode(before + digits + after))
    assert all(len(name) == 1 for name in names if any(digit in name for digit in "0123456789"))


def test_a_frequent_word_is_one_token(tokenizer):
    assert len(tokenizer.encode(" number")) == 1


def test_one_special_token_that_encoding_never_adds(tokenizer):
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 0)
    assert tokenizer.all_special_ids == [0]
    assert tokenizer.encode("") == []
    assert tokenizer.encode("a", add_special_tokens=True) == tokenizer.encode("a", add_special_tokens=False)


def test_the_special_token_is_not_read_out_of_a_document(tokenizer):
    assert 0 not in tokenizer.encode(END_OF_TEXT)


def test_a_small_corpus_gives_a_small_vocabulary():
    assert len(train_tokenizer([], 512, 64)) == 257


def test_the_same_corpus_gives_the_same_tokenizer_in_another_process():
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_tokenizer import CORPUS, train_tokenizer\n"
        "print(train_tokenizer(CORPUS, 320, 64).backend_tokenizer.to_str())"
    )
    expected = train_tokenizer(CORPUS, 320, 64).backend_tokenizer.to_str()
    environment = os.environ | {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "2"}
    arguments = [sys.executable, "-c", program, os.path.dirname(__file__), os.getcwd()]  # noqa: PTH109, PTH120
    found = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.rstrip("\n") == expected
