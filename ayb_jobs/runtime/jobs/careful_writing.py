"""Writing what resolvers found, although the database refuses some rows and somebody has locked others."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar

from ayb_jobs.events import Emit
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.narrowing import Patience, narrowed

Row = TypeVar("Row")
Done = TypeVar("Done")

# A row that somebody has locked is left to the sweep.
LOCKED_S = 0.05
# Nor is it told, unless it stays locked.
LONG_LOCKED_S = 30.0
FORGOTTEN_S = 300.0
LOCKED = "somebody has locked the row"


class CarefulWriting:
    """Writes rows of one table in one statement, or without those that it cannot write.

    A row that the database refuses is set aside under its id. One that somebody has locked is left, and set aside if it
    stays so: `write` says so by an exception of the class `locked`.
    """

    def __init__(self, emit: Emit, *, part: str, table: str, locked: type[Exception]) -> None:
        self._aside = Aside(emit, part=part, table=table)
        self._patience = Patience()
        self._locked = locked
        self._locked_since: dict[str, float] = {}

    def aside(self) -> set[str]:
        """Return the ids that are not to be tried yet."""
        return set(self._aside.ids())

    def write(
        self,
        rows: Sequence[Row],
        write: Callable[[Sequence[Row], float], Done],
        *,
        id_of: Callable[[Row], str],
        patience_s: float,
    ) -> list[Done]:
        """Return what `write` returned for the rows that it could write.

        It is called with rows and the seconds that it may wait for a lock, and writes all of them or none.
        """
        try:
            return [write(rows, patience_s)]
        except Exception as error:
            if not self._blames(error):
                raise
        written = narrowed(rows, lambda some: write(some, LOCKED_S), blames=self._blames)
        refused = [(id_of(each.row), each.error) for each in written.refused]
        locked = {id_ for id_, error in refused if isinstance(error, self._locked)}
        self._aside.put_all([(id_, error) for id_, error in refused if id_ not in locked])
        self._aside.put_all([(id_, LOCKED) for id_ in self._long_locked(locked)])
        return list(written.done)

    def _long_locked(self, ids: AbstractSet[str]) -> list[str]:
        """Return those of these rows that were found locked half a minute ago as well."""
        now = time.monotonic()
        self._locked_since = {
            id_: since for id_, since in self._locked_since.items() if now - since < FORGOTTEN_S or id_ in ids
        }
        return [id_ for id_ in ids if now - self._locked_since.setdefault(id_, now) >= LONG_LOCKED_S]

    def was_written(self, id_: str) -> None:
        """Forget that a row was set aside."""
        self._locked_since.pop(id_, None)
        self._aside.forget(id_)

    def begin_anew(self) -> None:
        """Forget the errors that may pass, which were counted in this turn."""
        self._patience.begin_anew()

    def _blames(self, error: Exception) -> bool:
        return isinstance(error, self._locked) or self._patience.blames(error)
