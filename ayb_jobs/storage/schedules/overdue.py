"""Which schedules did not do what was expected of them; true even where no scheduler is alive."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg.rows import TupleRow

from ayb_jobs.storage.database import Connection

Reason = Literal["broken", "no_success", "not_fired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A schedule that is overdue: why, and since when. `last_error` is set where it is broken."""

    schedule_id: str
    name: str
    reason: Reason
    since: datetime
    last_success_at: datetime | None
    next_run_at: datetime | None
    expect_success_within_s: float | None
    last_error: str | None

    @property
    def words(self) -> str:
        """What is wrong, as a sentence for people."""
        match self.reason:
            case "broken":
                return f"it cannot fire: {self.last_error}"
            case "no_success":
                last = f"{self.last_success_at:%F %T} UTC" if self.last_success_at else "never"
                return f"no success within {self.expect_success_within_s:g} s; the last was {last}"
            case "not_fired":
                return f"it was due at {self.next_run_at:%F %T} UTC, and no scheduler fired it"


LIST_OVERDUE = """
    SELECT schedule_id::text, name, reason, since, last_success_at, next_run_at, expect_success_within_s, last_error
    FROM _ayb_job_overdue
    ORDER BY since
    LIMIT %(limit)s
"""


def list_overdue(conn: Connection, *, limit: int = 1000) -> list[Overdue]:
    """Return up to `limit` overdue schedules, the longest overdue first."""
    return [as_overdue(row) for row in conn.execute(LIST_OVERDUE, {"limit": limit})]


def as_overdue(row: TupleRow) -> Overdue:
    """Return a row of `LIST_OVERDUE`'s columns as an overdue schedule."""
    schedule_id, name, reason, since, last_success_at, next_run_at, expect_success_within_s, last_error = row
    return Overdue(
        schedule_id=schedule_id,
        name=name,
        reason=reason,
        since=since,
        last_success_at=last_success_at,
        next_run_at=next_run_at,
        expect_success_within_s=expect_success_within_s,
        last_error=last_error,
    )


COUNT_OVERDUE = "SELECT count(*) FROM _ayb_job_overdue"


def count_overdue(conn: Connection) -> int:
    """Return how many schedules are overdue."""
    row = conn.execute(COUNT_OVERDUE).fetchone()
    return int(row[0]) if row else 0
