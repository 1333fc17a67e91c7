"""Rows that documents are packed into; `stream` tells the rule."""

import sys
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class RowTable:
    """Rows as they are filled; each ends with an end token."""

    def __init__(self, context_tokens: int, start: int, end: int, *, small: bool) -> None:
        self.context_tokens = context_tokens
        self.start = start
        self.end = end
        self.typecode = "H" if small else "I"
        self._cells = array(self.typecode)
        self._lengths = array("i")

    @property
    def n_rows(self) -> int:
        return len(self._lengths)

    def room(self, row: int) -> int:
        """Tokens that still fit into a row."""
        return self.context_tokens - self._lengths[row]

    def new_row(self, first: int) -> int:
        """Begin a row with a token that is only read."""
        self._cells.extend([first] + [self.end] * self.context_tokens)
        self._lengths.append(0)
        return self.n_rows - 1

    def write(self, row: int, tokens: "array[int]") -> int:
        """Append as many of `tokens` to a row as fit; returns how many did."""
        written = tokens[: self.room(row)]
        begin = row * (self.context_tokens + 1) + 1 + self._lengths[row]
        self._cells[begin : begin + len(written)] = written
        self._lengths[row] += len(written)
        return len(written)

    def arrays(self) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int32]]:
        """Cells, shape (n_rows, context_tokens + 1), and lengths, shape (n_rows,)."""
        cells = np.array(self._cells, dtype=np.dtype(self.typecode))
        return cells.reshape(self.n_rows, self.context_tokens + 1), np.array(self._lengths, dtype=np.int32)


class OpenRows(Protocol):
    """Rows with room left; of those with equal room, the one that has waited longest is taken first."""

    def add(self, row: int, room: int) -> None:
        """Let a row wait for more documents."""

    def take(self, rooms: range) -> int | None:
        """A row with the first of `rooms` that any has; it waits no longer."""


class RowsByRoom:
    """Open rows by the room they have left: quick, whatever their number."""

    def __init__(self, context_tokens: int) -> None:
        self._rows: list[deque[int]] = [deque() for _ in range(context_tokens + 1)]

    def add(self, row: int, room: int) -> None:
        self._rows[room].append(row)

    def take(self, rooms: range) -> int | None:
        for room in rooms:
            if self._rows[room]:
                return self._rows[room].popleft()
        return None


class FewRows:
    """Open rows in one list: small, for the few rows of one user."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[tuple[int, int]] = []

    def add(self, row: int, room: int) -> None:
        self._rows.append((row, room))

    def take(self, rooms: range) -> int | None:
        usable = [place for place, (_, room) in enumerate(self._rows) if room in rooms]
        if not usable:
            return None
        return self._rows.pop(min(usable, key=lambda place: rooms.index(self._rows[place][1])))[0]


class Packer:
    """Places documents in rows that they share with one another, and with no other packer's."""

    __slots__ = ("_n_rows_left", "_open", "_table")

    def __init__(self, table: RowTable, open_rows: OpenRows, *, most_rows: int | None = None) -> None:
        self._table = table
        self._open = open_rows
        self._n_rows_left = sys.maxsize if most_rows is None else most_rows

    def add(self, tokens: Sequence[int]) -> None:
        """Place one document, cut at row ends only if no row could hold it; what finds no room is left out."""
        if not tokens:
            return
        table = self._table
        predicted = array(table.typecode, [*tokens, table.end])
        fits = len(predicted) <= table.context_tokens
        if table.start != table.end:
            predicted.insert(0, table.start)  # an open row ends with the end token only
        rooms = range(len(predicted), table.context_tokens + 1) if fits else range(table.context_tokens, 0, -1)
        row = self._open.take(rooms)
        if row is None:
            predicted = predicted[table.start != table.end :]
            row = self._new_row(table.start)
        placed = 0
        while row is not None:
            placed += table.write(row, predicted[placed:])
            if placed == len(predicted):
                break
            row = self._new_row(predicted[placed - 1])
        if row is not None and (room := table.room(row)):
            self._open.add(row, room)

    def _new_row(self, first: int) -> int | None:
        """A row that begins with this token, or None if this packer may have no more."""
        if not self._n_rows_left:
            return None
        self._n_rows_left -= 1
        return self._table.new_row(first)
