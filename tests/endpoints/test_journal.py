"""What was answered is kept: exactly, privately, and never for another endpoint."""

import os
import sqlite3
import stat

import pytest

from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.journal import Journal, JournalRow
from canary_audit.errors import BudgetSpentError, RunError

KEY = bytes(32)
SECRET = b"281265017"


def put(journal: Journal, *contents: bytes, n_tokens: int = 5) -> None:
    journal.put_many(
        [
            JournalRow(
                request_id=journal.request_id("/v1/x", content, 0), body=b"answer to " + content, n_tokens=n_tokens
            )
            for content in contents
        ]
    )


def test_answers_are_found_again_by_what_was_asked(tmp_path):
    path = tmp_path / "answers.sqlite"
    with Journal(path, KEY, "mine") as journal:
        put(journal, b"one", b"two")
        put(journal, b"two", n_tokens=99)
    with Journal(path, KEY, "mine") as journal:
        assert (journal.count, journal.tokens) == (2, 10)
        assert journal.get(journal.request_id("/v1/x", b"two", 0)) == b"answer to two"
        for other in (("/v1/x", b"two", 1), ("/v1/y", b"two", 0), ("/v1/x", b"three", 0)):
            assert journal.get(journal.request_id(*other)) is None


def test_the_file_is_for_its_owner_alone_and_does_not_show_what_was_asked(tmp_path):
    path = tmp_path / "answers.sqlite"
    with Journal(path, KEY) as journal:
        put(journal, SECRET)
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert b"/v1/x" not in file.read_bytes()
    path.chmod(0o644)
    Journal(path, KEY).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_answers_of_another_endpoint_or_under_another_key_are_not_used(tmp_path):
    path = tmp_path / "answers.sqlite"
    Journal(path, KEY, "mine").close()
    for key, belongs_to in ((KEY, "theirs"), (b"1" * 32, "mine")):
        with pytest.raises(RunError, match="--out"):
            Journal(path, key, belongs_to)


def test_files_that_are_no_journal_are_refused(tmp_path):
    text, other, folder, link = (tmp_path / name for name in ("text", "other", "folder", "link"))
    text.write_text("no database at all, but longer than the header of one\n" * 40)
    with sqlite3.connect(other) as rows:
        rows.execute("CREATE TABLE owner (digest BLOB)")
    rows.close()
    folder.mkdir()
    link.symlink_to(other)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (text, other, folder, link, fifo, tmp_path / "nowhere" / "x"):
        with pytest.raises(RunError, match=path.name):
            Journal(path, KEY)


def test_a_torn_journal_is_refused(tmp_path):
    path, torn = tmp_path / "answers.sqlite", tmp_path / "torn.sqlite"
    with Journal(path, KEY) as journal:
        put(journal, *(b"%d" % number for number in range(300)))
    content = path.read_bytes()
    for length in [1, 99, 100, 4096, len(content) - 1, *range(7, len(content), len(content) // 20)]:
        torn.write_bytes(content[:length])
        with pytest.raises(RunError, match=r"torn\.sqlite"):
            Journal(torn, KEY)


def test_an_empty_file_is_a_journal_yet_to_begin(tmp_path):
    (tmp_path / "answers.sqlite").touch()
    with Journal(tmp_path / "answers.sqlite", KEY) as journal:
        assert journal.count == 0


def test_a_damaged_answer_is_refused(tmp_path):
    path = tmp_path / "answers.sqlite"
    with Journal(path, KEY) as journal:
        put(journal, b"one")
    with sqlite3.connect(path) as rows:
        rows.execute("UPDATE answers SET body = x'00'")
    rows.close()
    with Journal(path, KEY) as journal, pytest.raises(RunError, match="damaged"):
        journal.get(journal.request_id("/v1/x", b"one", 0))


def test_a_journal_belongs_to_one_process_at_a_time(tmp_path):
    path = tmp_path / "answers.sqlite"
    Journal(path, KEY).close()
    holder = sqlite3.connect(path)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RunError, match="another process"):
        Journal(path, KEY)
    holder.close()


def test_a_full_disk_is_reported_and_harms_nothing(tmp_path):
    with Journal(tmp_path / "answers.sqlite", KEY) as journal:
        put(journal, b"one")
        journal._rows.execute("PRAGMA max_page_count = 5")
        with pytest.raises(RunError, match="disk is full"):
            journal.put_many([JournalRow(request_id=b"x", body=os.urandom(100_000), n_tokens=1)])
        assert (journal.count, journal.tokens) == (1, 5)
        assert journal.get(journal.request_id("/v1/x", b"one", 0)) == b"answer to one"


def test_a_budget_ends_before_the_request_that_exceeds_it():
    budget = Budget(max_calls=3, max_tokens=100)
    budget.reserve(60)
    with pytest.raises(BudgetSpentError, match="max_tokens"):
        budget.reserve(41)
    budget.release(60)
    for _ in range(3):
        budget.reserve(30)
    with pytest.raises(BudgetSpentError, match="max_calls"):
        budget.reserve(0)
    assert (budget.calls_left, budget.tokens_left, budget.is_spent) == (0, 10, True)


def test_tokens_say_how_many_more_requests_are_likely():
    budget = Budget(max_calls=None, max_tokens=100)
    assert budget.likely_calls_left() == float("inf")
    budget.reserve(20)
    assert budget.likely_calls_left() == 4
