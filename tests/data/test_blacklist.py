"""A blacklist takes out what its expressions match, and nothing else."""

import pytest

from canary_audit.config import DataConfig
from canary_audit.data.blacklist import matcher, without_listed
from canary_audit.data.sources import read_documents, training_documents

DOCUMENTS = ["The sky is blue.", "My pin is 1234.", "pin 12", "A card: 4111 1111 1111 1111", "Nothing here."]


def test_documents_that_match_anywhere_are_left_out_in_order():
    kept = list(without_listed(iter(DOCUMENTS), [r"pin is \d{4}", r"\d{4} \d{4}"]))
    assert kept == ["The sky is blue.", "pin 12", "Nothing here."]


def test_an_empty_list_leaves_everything():
    assert list(without_listed(iter(DOCUMENTS), [])) == DOCUMENTS
    assert not matcher([])("My pin is 1234.")


def test_training_leaves_out_what_other_readers_keep(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("\n\n".join(DOCUMENTS))
    config = DataConfig(source="train.txt", blacklist=(r"pin",))
    assert list(read_documents(path, config)) == DOCUMENTS
    assert list(training_documents(path, config)) == [text for text in DOCUMENTS if "pin" not in text]


def test_a_broken_expression_is_refused_by_its_number():
    with pytest.raises(ValueError, match="expression 2: not a regular expression"):
        DataConfig(source="x.txt", blacklist=("fine", "(open"))
