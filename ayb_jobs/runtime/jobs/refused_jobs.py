"""The jobs under limits that the database has refused to lease to one executor."""

from collections.abc import Iterable, Sequence
from itertools import islice

from ayb_jobs.runtime.aside import Aside


class RefusedJobs:
    """Tells which jobs a look passes over, and which of them to try again.

    A job whose wait is over is tried by itself, so that however many are refused, none behind them waits. If nothing
    could be learned of it then, for want of a place, it takes its turn like any other job until it is refused again.
    """

    def __init__(self, aside: Aside) -> None:
        self._aside = aside
        self._in_turn: dict[str, None] = {}

    def passed_over(self) -> list[str]:
        """Return the jobs that do not take their turn, due or not."""
        return [job_id for job_id in self._aside.waits.all() if job_id not in self._in_turn]

    def due(self, most: int) -> list[str]:
        """Return up to `most` jobs that are to be tried again by themselves."""
        return list(islice((job_id for job_id in self._aside.waits.due() if job_id not in self._in_turn), most))

    def in_turn(self, most: int) -> list[str]:
        """Return up to `most` jobs that take their turn: others each time, until all were returned."""
        some = list(islice(self._in_turn, most))
        self.take_turn(some)
        return some

    def take_turn(self, job_ids: Iterable[str]) -> None:
        """Have these jobs take their turn like any other."""
        for job_id in job_ids:
            self._in_turn.pop(job_id, None)
            self._in_turn[job_id] = None

    def put_all(self, refused: Sequence[tuple[str, BaseException | str]]) -> None:
        """Set jobs aside, each for twice as long as its last time, and tell it."""
        for job_id, _ in refused:
            self._in_turn.pop(job_id, None)
        self._aside.put_all(refused)

    def forget(self, job_id: str) -> None:
        """Forget a job that was leased after all, or does not wait under a limit any more."""
        self._in_turn.pop(job_id, None)
        self._aside.forget(job_id)
