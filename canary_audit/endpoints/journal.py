"""The journal of a long measurement: every answer that was paid for, found again by what was asked.

A SQLite file beside the run's key. What was asked stands in it only as an HMAC, but answers are stored as they came
and may hold secret text: the file is as secret as the folder it lies in.
"""

import contextlib
import hmac
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from canary_audit.errors import RunError

_APPLICATION: Final = 0x43414A31
"""Marks the SQLite file as ours."""
_HEADER_BYTES: Final = 100
"""Every SQLite file begins with as many."""
_TABLES: Final = (
    f"PRAGMA application_id = {_APPLICATION}",
    "CREATE TABLE owner (digest BLOB NOT NULL)",
    "CREATE TABLE answers (key BLOB PRIMARY KEY, body BLOB NOT NULL, tokens INTEGER NOT NULL)",
)


@dataclass(frozen=True, kw_only=True)
class JournalRow:
    """One answered request."""

    request_id: bytes
    body: bytes
    """The answer, as it came."""
    n_tokens: int
    """What the request cost of the budget."""


class Journal:
    """Answers on disk, for one endpoint and one ledger. One process at a time; one thread at a time."""

    def __init__(self, path: Path | None, key: bytes, belongs_to: str = "") -> None:
        """Open the journal, or begin one; the folder is there, and closed to others.

        Args:
            path: the file; None for a journal that lasts as long as this object.
            key: the ledger's key, without which no row can be tied to a request.
            belongs_to: digest of what the answers are about: address, API, model, ledger.

        Raises:
            RunError: the file belongs to something else, is another program's, damaged, in use, or cannot be written.
        """
        self._path = path
        self._key = key
        self._count = self._tokens = 0
        if path is not None:
            _create_private(path)
        with self._explained():
            self._rows = sqlite3.connect(path or ":memory:", timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(hmac.digest(key, b"owner" + belongs_to.encode(), "sha256"))
        except BaseException:
            self._rows.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Nothing is lost without it."""
        self._rows.close()

    @property
    def count(self) -> int:
        """Answers in it, those of earlier processes included."""
        return self._count

    @property
    def tokens(self) -> int:
        """What they cost together."""
        return self._tokens

    def request_id(self, path: str, content: bytes, repeat: int) -> bytes:
        """The name of a request in the journal, 32 bytes. `repeat` tells requests apart that are asked again on
        purpose."""
        return hmac.digest(self._key, b"%d %s\0%s" % (repeat, path.encode(), content), "sha256")

    def get(self, request_id: bytes) -> bytes | None:
        """The answer to a request, or None if it is yet to be asked.

        Raises:
            RunError: the file is damaged.
        """
        with self._explained():
            row = self._rows.execute("SELECT body FROM answers WHERE key = ?", (request_id,)).fetchone()
            return None if row is None else zlib.decompress(row[0])

    def put_many(self, rows: Sequence[JournalRow]) -> None:
        """Keep answers, in one transaction: when it returns, they survive a power cut. Known requests stay as they are.

        Raises:
            RunError: they cannot be written; earlier answers are unharmed.
        """
        packed = [(row.request_id, zlib.compress(row.body, 1), row.n_tokens) for row in rows]
        with self._explained(), self._transaction():
            for values in packed:
                added = self._rows.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", values).rowcount
                self._count += added
                self._tokens += added * values[2]

    def _prepare(self, owner: bytes) -> None:
        with self._explained():
            self._rows.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._keep_a_write_ahead_log()
            self._rows.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                if self._is_empty():
                    for statement in _TABLES:
                        self._rows.execute(statement)
                    self._rows.execute("INSERT INTO owner VALUES (?)", (owner,))
            self._check(owner)
            count, tokens = self._rows.execute("SELECT count(*), coalesce(sum(tokens), 0) FROM answers").fetchone()
        self._count, self._tokens = int(count), int(tokens)

    def _keep_a_write_ahead_log(self) -> None:
        """Commits cost one write instead of several; a file system that cannot do it keeps a rollback journal."""
        try:
            self._rows.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise
            self._rows.execute("PRAGMA journal_mode = DELETE").fetchone()

    def _is_empty(self) -> bool:
        return bool(self._rows.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,))

    def _check(self, owner: bytes) -> None:
        application = self._rows.execute("PRAGMA application_id").fetchone()
        if application != (_APPLICATION,):
            raise RunError(f"{self._path}: not a journal of answers; use another --out")
        if self._is_torn() or self._rows.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError
        found = self._rows.execute("SELECT digest FROM owner").fetchall()
        if len(found) != 1 or not hmac.compare_digest(found[0][0], owner):
            raise RunError(
                f"{self._path}: holds answers of another endpoint, model or ledger, which are never mixed; use another "
                "--out"
            )

    def _is_torn(self) -> bool:
        """Whether the end is missing. SQLite reads zeros there, which may well pass for an answer."""
        if self._path is None:
            return False
        self._rows.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        (n_pages,), (page_bytes,) = (
            self._rows.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        return self._path.stat().st_size != int(n_pages) * int(page_bytes)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        counters = self._count, self._tokens
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._rows.execute("COMMIT")
        except BaseException:
            self._count, self._tokens = counters
            if self._rows.in_transaction:
                self._rows.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite as `RunError`; their own texts are left out."""
        try:
            yield
        except (sqlite3.Error, zlib.error, TypeError, ValueError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            raise RunError(f"{self._path}: {_EXPLANATIONS.get(code, _EXPLANATIONS[sqlite3.SQLITE_CORRUPT])}") from None


_IN_USE: Final = "another process uses this journal of answers; wait until it ends, or use another --out"
_EXPLANATIONS: Final = {
    sqlite3.SQLITE_CORRUPT: "the journal of answers is damaged; delete it to ask again, or use another --out",
    sqlite3.SQLITE_NOTADB: "not a journal of answers; use another --out",
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_LOCKED: _IN_USE,
    sqlite3.SQLITE_FULL: "the disk is full; earlier answers are safe: make space, and run the same command again",
    sqlite3.SQLITE_IOERR: "the disk failed; earlier answers are safe: see to it, and run the same command again",
    sqlite3.SQLITE_READONLY: "the journal of answers cannot be written; see to its permissions, or use another --out",
    sqlite3.SQLITE_CANTOPEN: "the journal of answers cannot be opened; is its folder there, and writable?",
}


def _create_private(path: Path) -> None:
    """Make sure that a regular file of ours is there, and that nobody else can read it."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RunError(f"{path}: not a regular file; use another --out")
            if 0 < status.st_size < _HEADER_BYTES:  # SQLite would take it for empty, and begin anew
                raise RunError(f"{path}: not a journal of answers; use another --out")
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(f"{path}: the journal of answers cannot be opened: {error.strerror}") from None
