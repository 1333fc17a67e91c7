"""Steps cut into forward passes, with fewer rows a pass once memory runs out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from canary_audit.errors import ModelError
from canary_audit.models.interface import Children, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows `start` to `stop` of a step, and the children of those rows."""

    start: int
    stop: int
    asked: IntArray
    """Rows with children, in order, counted from `start`: shape (n_asked,)."""
    places: IntArray
    """For each child, the index of its row in `asked`: shape (n_children,)."""
    tokens: IntArray
    """Token of each child: shape (n_children,)."""


class ForwardPasses:
    """Runs steps in forward passes of at most `batch_rows` rows.

    When one runs out of memory it is repeated with half its rows, and so are all later ones: `batch_rows` then says how
    many, and `notices` that it happened.
    """

    def __init__(self, batch_rows: int, notices: list[str]) -> None:
        self.batch_rows = batch_rows
        self.notices = notices

    def run(self, n_rows: int, children: Children, read: Callable[[Chunk], FloatArray]) -> FloatArray:
        """Score a step of `n_rows` rows; `read` scores a chunk and keeps nothing of one that raises.

        Returns the log-probabilities of `children`, in their own order.

        Raises:
            ValueError: there are no rows, or the children are not ordered by row, or name rows or tokens that cannot
                exist.
            ModelError: memory runs out on a single row.
        """
        _check_children(n_rows, children)
        scores: list[FloatArray] = []
        start = 0
        while start < n_rows:
            chunk = _cut(start, min(start + self.batch_rows, n_rows), children)
            scored = _within_memory(read, chunk)
            if scored is None:
                self._halve(chunk.stop - chunk.start)
                continue
            scores.append(scored)
            start = chunk.stop
        return np.concatenate(scores)

    def _halve(self, n_rows: int) -> None:
        if n_rows == 1:
            raise ModelError(
                "memory ran out on a forward pass of a single row: free memory, or audit on a larger machine"
            )
        self.batch_rows = n_rows // 2
        self.notices.append(
            f"memory ran out on a forward pass of {n_rows} rows; it was repeated with {self.batch_rows}, and so were "
            "all later ones, so the last digits can differ from those of a run with more memory"
        )


def _within_memory(read: Callable[[Chunk], FloatArray], chunk: Chunk) -> FloatArray | None:
    """The chunk's scores; None if memory ran out. The error is dropped here: its frames would hold the memory."""
    try:
        return read(chunk)
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as error:
        if "not enough memory" in str(error):  # the processor's allocator has no error of its own
            return None
        raise


def _check_children(n_rows: int, children: Children) -> None:
    rows = children.rows
    if n_rows < 1:
        raise ValueError("a step needs at least one row")
    if rows.shape != children.tokens.shape or (np.diff(rows) < 0).any():
        raise ValueError("children need one row and one token each, ordered by row")
    if len(rows) and (rows[0] < 0 or rows[-1] >= n_rows or children.tokens.min() < 0):
        raise ValueError(f"children outside the {n_rows} rows of the step, or with a negative token")


def _cut(start: int, stop: int, children: Children) -> Chunk:
    first, last = np.searchsorted(children.rows, [start, stop])
    own = children.rows[first:last] - start
    is_new = np.diff(own, prepend=-1) > 0
    return Chunk(
        start=start,
        stop=stop,
        asked=own[is_new],
        places=np.cumsum(is_new) - 1,
        tokens=children.tokens[first:last],
    )
