"""Writing what resolvers found, although the database refuses some rows and somebody has locked others."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from ayb_jobs.events import Emit
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.narrowing import Patience, narrowed

Row = TypeVar("Row")
Done = TypeVar("Done")

# A row that somebody has locked is left to the sweep.
LOCKED_S = 0.05


class CarefulWriting:
    """Writes rows of one table in one statement, or without those that it cannot write.

    A row that the database refuses is set aside under its id. One that somebody has locked is left: `write` says so by
    an exception of the class `locked`.
    """

    def __init__(self, emit: Emit, *, part: str, table: str, locked: type[Exception]) -> None:
        self._aside = Aside(emit, part=part, table=table)
        self._patience = Patience()
        self._locked = locked

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
        refused = [each for each in written.refused if not isinstance(each.error, self._locked)]
        self._aside.put_all([(id_of(each.row), each.error) for each in refused])
        return list(written.done)

    def was_written(self, id_: str) -> None:
        """Forget that a row was set aside."""
        self._aside.forget(id_)

    def begin_anew(self) -> None:
        """Forget the errors that may pass, which were counted in this turn."""
        self._patience.begin_anew()

    def _blames(self, error: Exception) -> bool:
        return isinstance(error, self._locked) or self._patience.blames(error)
