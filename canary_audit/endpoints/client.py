"""Many requests at once: none paid twice, none beyond the budget, and no answer lost."""

import secrets
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.address import Address, ApiKey
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.connection import Connection
from canary_audit.endpoints.dialect import Request
from canary_audit.endpoints.journal import Journal, JournalRow
from canary_audit.endpoints.strict_json import BrokenJsonError, decode_json
from canary_audit.errors import BudgetSpentError, EndpointError, RunError
from canary_audit.rundir import canonical_json

T = TypeVar("T")

_FAREWELL_S: Final = 4.0
"""How long an interrupted `ask` waits for its requests to be dropped and its answers to be kept."""


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One distinct request of an `ask`, and everything that wants its answer."""

    request_id: bytes
    content: bytes | None
    requests: list[Request[Any]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Where the answers go in the list that `ask` returns."""

    @property
    def path(self) -> str:
        return self.requests[0].path

    @property
    def n_tokens(self) -> int:
        return max(request.n_tokens for request in self.requests)


class Client:
    """Asks one served model. Plain calls outside, concurrent requests inside; works where an event loop is running,
    such as in a notebook."""

    def __init__(
        self, address: Address, key: ApiKey | None, config: EndpointConfig, journal: Journal | None, budget: Budget
    ) -> None:
        """Prepare; nothing is sent yet. The journal stays the caller's to close; None keeps answers in memory.

        Raises:
            ConfigError: the key would travel in the clear, or the certificate authorities cannot be read.
        """
        self._address = address
        self._config = config
        self._connection = Connection(address, key, config)
        self._own_journal = journal is None
        self._journal = journal or Journal(None, secrets.token_bytes(32))
        self._budget = budget
        self._answered: dict[bytes, int] = {}
        """Requests whose answers this process has used, and their tokens: they are paid for."""
        self._unsaved: list[JournalRow] = []
        self._portal: BlockingPortal | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        started: Future[BlockingPortal] = Future()
        self._loop = threading.Thread(target=self._keep_loop, args=(started,), daemon=True)
        self._loop.start()
        try:
            self._portal = started.result()
        except BaseException:
            self._ended.set()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._ended.set()
        self._loop.join(_FAREWELL_S)
        if self._own_journal:
            self._journal.close()

    def _keep_loop(self, started: "Future[BlockingPortal]") -> None:
        """Hold the event loop open, in a thread that no interrupt reaches: anyio waits without end for a loop whose
        start or end was interrupted."""
        try:
            with start_blocking_portal("asyncio") as portal:
                started.set_result(portal)
                self._ended.wait()
                portal.call(self._connection.aclose)
                portal.call(portal.stop, True)  # what is still under way is dropped
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    @property
    def calls(self) -> int:
        """Distinct requests that were answered, whether to this process or to an earlier one."""
        return len(self._answered)

    @property
    def tokens(self) -> int:
        """What they cost of the budget."""
        return sum(self._answered.values())

    @property
    def budget_spent(self) -> bool:
        """Whether a request did not fit the budget."""
        return self._budget.is_spent

    def calls_left(self) -> float:
        """Requests that the budget still allows, if the next cost as many tokens as those so far; may be infinite."""
        return self._budget.likely_calls_left()

    def ask(self, requests: Sequence[Request[T]], *, repeat: int = 0) -> list[T]:
        """Answers in the order of `requests`; those in the journal are not asked for again.

        Args:
            requests: they are sent in the order of `Request.order`; equal ones are sent once.
            repeat: another number asks again what was asked before.

        Raises:
            BudgetSpentError: the budget ended; what it allowed was asked first, and is in the journal.
            EndpointError, ConfigError: from the first request, in the order of sending, that failed; the answers of
                others are in the journal.
            RunError: the journal is damaged, or cannot be written.
        """
        questions = self._questions(requests, repeat)
        affordable, spent = self._reserve(questions)
        answers: list[Any] = [None] * len(requests)
        try:
            unknown = deque(question for question in affordable if not self._recall(question, answers))
            if unknown:
                self._run(unknown, answers)
        finally:
            self._release_unanswered(affordable)
        if spent is not None:
            raise spent
        return answers

    def _questions(self, requests: Sequence[Request[Any]], repeat: int) -> list[_Question]:
        """Distinct requests, in the order of sending."""
        questions: dict[bytes, _Question] = {}
        for place in sorted(range(len(requests)), key=lambda place: requests[place].order):
            request = requests[place]
            content = _content(request.body)
            request_id = self._journal.request_id(request.path, content or b"", repeat)
            question = questions.setdefault(request_id, _Question(request_id=request_id, content=content))
            question.requests.append(request)
            question.places.append(place)
        return list(questions.values())

    def _reserve(self, questions: list[_Question]) -> tuple[list[_Question], BudgetSpentError | None]:
        """The questions that the budget allows, up to the first that it does not."""
        for n_affordable, question in enumerate(questions):
            if question.request_id in self._answered:
                continue
            try:
                self._budget.reserve(question.n_tokens)
            except BudgetSpentError as error:
                return questions[:n_affordable], error
        return questions, None

    def _release_unanswered(self, questions: list[_Question]) -> None:
        for question in questions:
            if question.request_id not in self._answered:
                self._budget.release(question.n_tokens)

    def _recall(self, question: _Question, answers: list[Any]) -> bool:
        """Answer from the journal, if it can."""
        body = self._journal.get(question.request_id)
        if body is None:
            return False
        self._answered[question.request_id] = question.n_tokens
        try:
            self._accept(question, answers, body)
        except BrokenJsonError:
            raise RunError("the journal of answers is damaged; use another --out") from None
        return True

    def _run(self, unknown: deque[_Question], answers: list[Any]) -> None:
        """Ask in the event loop's thread, and wait; an interrupt drops what is under way and keeps what has come."""
        if self._portal is None:
            raise RuntimeError("a Client asks inside its `with` block")
        ended = threading.Event()
        future: Future[None] = self._portal.start_task_soon(self._ask_all, unknown, answers, ended)
        try:
            future.result()
        except BaseException:
            future.cancel()
            ended.wait(_FAREWELL_S)
            raise

    async def _ask_all(self, unknown: deque[_Question], answers: list[Any], ended: threading.Event) -> None:
        failures: dict[int, Exception] = {}
        numbered = deque(enumerate(unknown))
        saving = anyio.Lock()
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(min(self._config.concurrency, len(unknown))):
                    tasks.start_soon(self._work, numbered, answers, failures, saving)
            if failures:
                raise failures[min(failures)]
        finally:
            try:
                await self._save()
            finally:
                ended.set()

    async def _work(
        self,
        numbered: deque[tuple[int, _Question]],
        answers: list[Any],
        failures: dict[int, Exception],
        saving: anyio.Lock,
    ) -> None:
        """Ask one question after the other. After a failure none is begun, but those under way are heard."""
        while numbered and not failures:
            number, question = numbered.popleft()
            try:
                accept = partial(self._accept, question, answers)
                body = await self._connection.send(question.path, question.content, accept)
                self._unsaved.append(JournalRow(request_id=question.request_id, body=body, n_tokens=question.n_tokens))
                async with saving:  # what comes while others are being saved shares the next transaction
                    await self._save()
            except Exception as error:  # it is raised once the others have been heard
                failures[number] = error

    async def _save(self) -> None:
        """Keep what has come, whatever else happens; who asked for it sends nothing before."""
        rows, self._unsaved = self._unsaved, []
        if rows:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._journal.put_many, rows)
            self._answered.update((row.request_id, row.n_tokens) for row in rows)

    def _accept(self, question: _Question, answers: list[Any], body: bytes) -> bytes:
        """Read an answer for everything that wants it; returns it as it came."""
        with self._named(question):
            value = decode_json(body)
            for place, request in zip(question.places, question.requests, strict=True):
                answers[place] = request.read(value)
        return body

    @contextmanager
    def _named(self, question: _Question) -> Iterator[None]:
        """Say of an answer that is refused where it came from."""
        where = f"{self._address}{question.path}"
        try:
            yield
        except EndpointError as error:
            raise EndpointError(f"{where}: {error}") from None
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
            # A reader that stumbles would say so with a text that may repeat the answer.
            raise EndpointError(f"{where}: the answer does not have the form that this API documents") from None


def _content(body: Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else canonical_json(body).encode()
