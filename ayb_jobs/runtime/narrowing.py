"""Writing many rows at once although some of them cannot be written."""

import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from ayb_jobs.storage.faults import may_be_the_rows, may_pass

Row = TypeVar("Row")
Done = TypeVar("Done")

# Rows that are refused one by one before the rest of a batch is left for later, so that one turn stays short.
MOST_REFUSED = 64
# After so many seconds the rest is left as well, once something was written or refused: each refusal may have waited
# for a lock.
MOST_S = 10.0
# How often in a row a statement is repeated whose error may pass by itself, before the rows are suspected.
PATIENCE = 5


class Patience:
    """Tells which errors the rows are blamed for, and counts those that may pass by themselves.

    A deadlock, a full disk or a lock that is not to be had passes mostly, and the statement is repeated. A trigger may
    raise the same error for one row each time: so after five in a row the rows are suspected.
    """

    def __init__(self) -> None:
        self._passing = 0

    def blames(self, error: BaseException) -> bool:
        """Tell whether the rows may be to blame for an error; one that may pass is counted."""
        if not may_pass(error):
            return may_be_the_rows(error)
        self._passing += 1
        return self._passing > PATIENCE

    def begin_anew(self) -> None:
        """Forget the errors that were counted: the rows were written, or the bad ones are known."""
        self._passing = 0


class Refused(NamedTuple, Generic[Row]):
    """A row that the database refuses by itself, and what it says."""

    row: Row
    error: Exception


class Narrowed(NamedTuple, Generic[Row, Done]):
    """What became of a batch: the answers of the statements that succeeded, and the rows that cannot be written.

    `left` rows were not tried, since too many were refused before them, or it took too long.
    """

    done: Sequence[Done]
    refused: Sequence[Refused[Row]]
    left: Sequence[Row] = ()


def narrowed(
    rows: Sequence[Row],
    write: Callable[[Sequence[Row]], Done],
    *,
    blames: Callable[[Exception], bool] = may_be_the_rows,
) -> Narrowed[Row, Done]:
    """Write rows in one call of `write`; if that fails, in halves, down to those that fail by themselves.

    `write` is one transaction: it writes all it is given, or nothing. An error that is no row's fault is raised: an
    outage, a deadlock. `blames` tells which errors may be the rows' fault.
    """
    done: list[Done] = []
    refused: list[Refused[Row]] = []
    waiting = [rows] if rows else []
    late = time.monotonic() + MOST_S
    while waiting and len(refused) < MOST_REFUSED and not ((done or refused) and time.monotonic() > late):
        batch = waiting.pop()
        try:
            done.append(write(batch))
        except Exception as error:
            if not blames(error):
                raise
            if len(batch) == 1:
                refused.append(Refused(batch[0], error))
            else:
                half = len(batch) // 2
                waiting += [batch[half:], batch[:half]]
    return Narrowed(done, refused, [row for batch in waiting for row in batch])
