"""Retention on a database that was adopted: what was there before is not removed without a day's notice."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from ayb_jobs.config import Retention
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.pruning import holds_old_jobs


class Kept(NamedTuple):
    """For how many hours the jobs of a final state are kept, and whether the configuration says so itself."""

    state: JobState
    hours: int
    is_explicit: bool


class Deferred(NamedTuple):
    """Jobs of a state that retention will remove once the day's notice is over."""

    state: JobState
    hours: int
    begins_in_s: float

    @property
    def words(self) -> str:
        """The notice, as a sentence for people."""
        return (
            f"{self.state} jobs that ended more than {self.hours} h ago will be removed in {self.begins_in_s / 3600:.1f} h;"
            f" set retention.{self.state}_h to decide otherwise (-1 keeps them)"
        )


def kept_jobs(retention: Retention) -> Iterator[Kept]:
    """Yield each final state whose jobs are not kept for ever."""
    kept = {
        JobState.COMPLETED: retention.completed_h,
        JobState.CANCELED: retention.canceled_h,
        JobState.FAILED: retention.failed_h,
    }
    for state, hours in kept.items():
        if hours >= 0:
            yield Kept(state, hours, f"{state}_h" in retention.model_fields_set)


# An adoption lies ahead if the clock was set back since. One that lies far ahead would hold retention up for ever.
NOTICE_LEFT = """
    SELECT extract(epoch FROM applied_at + interval '1 day' - now())::float8
    FROM _ayb_jobs_migrations
    WHERE version = 1 AND applied_at BETWEEN now() - interval '1 day' AND now() + interval '1 day'
"""


def notice_left_s(conn: Connection) -> float:
    """Return the seconds until retention applies to what was there before the database was adopted; 0 if it does."""
    row = conn.execute(NOTICE_LEFT).fetchone()
    return row[0] if row else 0.0


def deferred_retention(conn: Connection, retention: Retention) -> list[Deferred]:
    """Return what retention will remove once the day's notice is over.

    What the configuration itself sets applies at once. Jobs that we made cannot be a day old yet.
    """
    left_s = notice_left_s(conn)
    if not left_s:
        return []
    return [
        Deferred(state, hours, left_s)
        for state, hours, is_explicit in kept_jobs(retention)
        if not is_explicit and holds_old_jobs(conn, state=state, keep=timedelta(hours=hours))
    ]
