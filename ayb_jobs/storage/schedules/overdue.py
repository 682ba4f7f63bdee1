"""Which schedules did not do what was expected of them; true even if no scheduler is alive."""

from datetime import datetime
from functools import lru_cache
from typing import Literal

from psycopg.rows import class_row

from ayb_jobs.frozen import frozen
from ayb_jobs.model.words import quoted, span_words
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import named, one_row
from ayb_jobs.storage.schedules.leaps import Righted, list_too_late
from ayb_jobs.storage.schedules.schedules import unreadable

Reason = Literal["broken", "unserved", "no_success", "not_fired", "too_late"]


@frozen
class Overdue:
    """A schedule that is overdue `at` an instant: why, and since when. `last_error` is set if it is broken.

    `paused` is such as `queue reports`, if its jobs do not start for now.
    """

    at: datetime
    schedule_id: str
    name: str
    reason: Reason
    since: datetime
    last_success_at: datetime | None
    next_run_at: datetime | None
    expect_success_within_s: float | None
    last_error: str | None
    paused: str | None = None

    @property
    def told(self) -> str:
        """What the schedule did not do; without an instant, since each reader has a zone of their own."""
        name = quoted(self.name)
        match self.reason:
            case "broken":
                return f"{name} cannot fire"
            case "unserved":
                return f"{name} has a job that no live daemon can run"
            case "no_success":
                within = span_words(self.expect_success_within_s or 0)
                if self.last_success_at is None:
                    return f"{name} has never succeeded; it is expected within {within}"
                silent = span_words((self.at - self.last_success_at).total_seconds())
                return f"{name} has not succeeded for {silent}; it is expected within {within}"
            case "not_fired":
                return f"{name} is due, and no scheduler has fired it"
            case "too_late":
                return f"{name} is to fire later than its expression says"

    @property
    def words(self) -> str:
        """The same with its error and instants, and whether a pause may be why, for those who get nothing else."""
        return f"{self.told}{self._detail}{f'; its {self.paused} is paused' if self.paused else ''}"

    @property
    def _detail(self) -> str:
        match self.reason:
            case "broken":
                return f": {self.last_error}"
            case "unserved":
                return f"; it has been due since {self.since:%F %T} UTC"
            case "no_success":
                return f"; the last success was at {self.last_success_at:%F %T} UTC" if self.last_success_at else ""
            case "not_fired":
                return f"; it was due at {self.next_run_at:%F %T} UTC"
            case "too_late":
                return (
                    f", at {self.next_run_at:%F %T} UTC: the database's clock was set back, or somebody wrote it;"
                    " a scheduler puts it right within a minute"
                )


# A schedule that no scheduler has planned yet: what keeps it from firing is found out here.
LIST_UNPLANNED = """
    SELECT now() AS at, id::text, name, cron_expr, timezone, updated_at, next_run_at, expect_success_within_s
    FROM _ayb_job_schedules
    WHERE enabled AND last_error IS NULL AND planned IS DISTINCT FROM concat_ws(' ', cron_expr, timezone, dst)
"""
LIST_OVERDUE = """
    SELECT now() AS at, schedule_id::text, name, reason, since, last_success_at, next_run_at, expect_success_within_s,
        left(last_error, 2000) AS last_error,
        (
            SELECT pause.kind || ' ' || pause.name
            FROM _ayb_job_schedules AS schedule
            JOIN _ayb_job_pauses AS pause ON pause.kind = 'queue' AND pause.name = schedule.queue
                OR pause.kind = 'type' AND pause.name = schedule.job_type
            WHERE schedule.id = overdue.schedule_id AND (pause.until IS NULL OR pause.until > now())
            LIMIT 1
        ) AS paused
    FROM _ayb_job_overdue AS overdue
    ORDER BY since, name
    LIMIT %(limit)s
"""


def list_overdue(conn: Connection, *, limit: int = 1000) -> list[Overdue]:
    """Return up to `limit` overdue schedules, the longest overdue first."""
    unread = _unreadable(conn)
    seen = {each.schedule_id for each in unread}
    with conn.cursor(row_factory=class_row(Overdue)) as cursor:
        found = cursor.execute(LIST_OVERDUE, {"limit": limit}).fetchall()
    found = [*unread, *(each for each in found if each.schedule_id not in seen)]
    seen = {each.schedule_id for each in found}
    found += [each for each in _too_late(conn) if each.schedule_id not in seen]
    return sorted(found, key=lambda each: each.since)[:limit]


# Daemons of older versions do not say whether they have a scheduler; workers, whose version is `sql`, have none.
IS_ANY_PLANNED = """
    SELECT EXISTS (
        SELECT FROM _ayb_job_workers
        WHERE heartbeat_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
            AND has_scheduler IS NOT FALSE AND version <> 'sql' AND drain_requested_at IS NULL
    ) AS planned
"""


def _list_too_late(conn: Connection) -> list[Righted]:
    """Return schedules whose next run is too late.

    There may be as many timings as schedules, and a living scheduler puts right what is too late. So while a daemon
    with a scheduler lives, only those count that were fired or written ahead of the clock.
    """
    return list_too_late(conn, ahead_of_clock=one_row(named(conn).execute(IS_ANY_PLANNED)).planned)


def _too_late(conn: Connection) -> list[Overdue]:
    return [
        Overdue(
            at=planned.now,
            schedule_id=planned.id,
            name=planned.name,
            reason="too_late",
            since=planned.now,
            last_success_at=None,
            next_run_at=planned.next_run_at,
            expect_success_within_s=None,
            last_error=None,
        )
        for planned, _ in _list_too_late(conn)
    ]


def _unreadable(conn: Connection) -> list[Overdue]:
    read = lru_cache(maxsize=None)(unreadable)  # many schedules may have one timing
    return [
        Overdue(
            at=row.at,
            schedule_id=row.id,
            name=row.name,
            reason="broken",
            since=row.updated_at,
            last_success_at=None,
            next_run_at=row.next_run_at,
            expect_success_within_s=row.expect_success_within_s,
            last_error=error,
        )
        for row in named(conn).execute(LIST_UNPLANNED)
        if (error := read(row.cron_expr, row.timezone)) is not None
    ]


COUNT_OVERDUE = "SELECT count(*) FROM _ayb_job_overdue WHERE schedule_id <> ALL (%(others)s::uuid[])"


def count_overdue(conn: Connection) -> int:
    """Return how many schedules are overdue."""
    others = {each.schedule_id for each in _unreadable(conn)} | {each.planned.id for each in _list_too_late(conn)}
    return len(others) + int(one_row(conn.execute(COUNT_OVERDUE, {"others": list(others)}))[0])
