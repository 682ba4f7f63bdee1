"""Schedules whose next run is too late: the database's clock was set back, or somebody wrote it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ayb_jobs.model.schedules.fires import Timing, expected_fire, honest_fire
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import named

NO_ID = "00000000-0000-0000-0000-000000000000"


class Planned(NamedTuple):
    """A schedule and its next run, as found; `seen` is that run as the database's text.

    `now` is the database's clock.
    """

    id: str
    name: str
    timing: Timing
    next_run_at: datetime
    seen: str
    last_fire_at: datetime | None
    now: datetime


class Righted(NamedTuple):
    """A schedule whose next run is to be put right."""

    planned: Planned
    next_at: datetime


# One that never fired here and was written before now may have a next run of AYB's making, which is kept.
LIST_PLANNED = """
    SELECT id::text, name, cron_expr, timezone, dst, next_run_at, next_run_at::text AS seen, last_fire_at, now() AS now
    FROM _ayb_job_schedules
    WHERE id > %(after)s::uuid AND id <> ALL (%(aside)s::uuid[])
        AND enabled AND next_run_at > now() AND isfinite(next_run_at)
        AND planned = concat_ws(' ', cron_expr, timezone, dst)
        AND (last_fire_at IS NOT NULL OR greatest(created_at, updated_at, watched_since) > now())
    ORDER BY id
    LIMIT %(limit)s
"""


def list_planned(conn: Connection, *, after: str = NO_ID, limit: int, aside: Sequence[str] = ()) -> list[Planned]:
    """Return up to `limit` enabled schedules that are not due, in the order of their ids, behind the id `after`.

    Those whose ids are `aside` are left out.
    """
    values = {"after": after, "limit": limit, "aside": list(aside)}
    return [_planned(row) for row in named(conn).execute(LIST_PLANNED, values)]


def _planned(row: Any) -> Planned:
    return Planned(
        id=row.id,
        name=row.name,
        timing=Timing(row.cron_expr, row.timezone, row.dst),
        next_run_at=row.next_run_at,
        seen=row.seen,
        last_fire_at=row.last_fire_at,
        now=row.now,
    )


def righted(planned: Planned) -> Righted | None:
    """Return the next run that a schedule should have, if it has a later one. One that cannot be read is planning's."""
    next_at = _expected(planned.timing, planned.now, planned.last_fire_at)
    return Righted(planned, next_at) if next_at is not None and planned.next_run_at > next_at else None


# Schedules of one timing have one next fire after the present, so that it is reckoned once for all of them.
LIST_TIMINGS = """
    SELECT cron_expr, timezone, dst, now() AS now
    FROM _ayb_job_schedules
    WHERE enabled AND next_run_at > now() AND isfinite(next_run_at)
        AND planned = concat_ws(' ', cron_expr, timezone, dst)
        AND (last_fire_at IS NOT NULL OR greatest(created_at, updated_at, watched_since) > now())
        AND (NOT %(ahead_of_clock)s OR greatest(last_fire_at, created_at, updated_at, watched_since) > now())
    GROUP BY cron_expr, timezone, dst
"""
LIST_BEYOND = """
    SELECT id::text, name, cron_expr, schedule.timezone, schedule.dst, next_run_at, next_run_at::text AS seen,
        last_fire_at, now() AS now
    FROM _ayb_job_schedules AS schedule
    JOIN unnest(%(crons)s::text[], %(timezones)s::text[], %(dsts)s::text[], %(next_ats)s::timestamptz[])
            AS timing (cron, timezone, dst, next_at)
        ON schedule.cron_expr = timing.cron AND schedule.timezone = timing.timezone AND schedule.dst = timing.dst
    WHERE enabled AND next_run_at > timing.next_at AND isfinite(next_run_at)
        AND planned = concat_ws(' ', cron_expr, schedule.timezone, schedule.dst)
        AND (last_fire_at IS NOT NULL OR greatest(created_at, updated_at, watched_since) > now())
        AND (NOT %(ahead_of_clock)s OR greatest(last_fire_at, created_at, updated_at, watched_since) > now())
    ORDER BY id
"""


def list_too_late(conn: Connection, *, ahead_of_clock: bool = False) -> list[Righted]:
    """Return every schedule whose next run is later than its expression says.

    If `ahead_of_clock`, only those that were fired or written at a time that has not come. Fires are reckoned once for
    each timing; only schedules that may be too late are looked at.
    """
    values: dict[str, Any] = {"ahead_of_clock": ahead_of_clock}
    rows = named(conn).execute(LIST_TIMINGS, values)
    timings = [(Timing(row.cron_expr, row.timezone, row.dst), row.now) for row in rows]
    nexts = {timing: at for timing, now in timings if (at := _expected(timing, now, None)) is not None}
    if not nexts:
        return []
    values |= {
        "crons": [timing.cron for timing in nexts],
        "timezones": [timing.timezone for timing in nexts],
        "dsts": [timing.dst for timing in nexts],
        "next_ats": list(nexts.values()),
    }
    known: dict[tuple[Timing, datetime | None], datetime | None] = {}
    found: list[Righted] = []
    for planned in map(_planned, named(conn).execute(LIST_BEYOND, values, prepare=False)):
        fired = honest_fire(planned.last_fire_at, planned.now)
        key = (planned.timing, fired if fired is not None and fired > planned.now else None)
        if key not in known:
            known[key] = _expected(planned.timing, planned.now, key[1])
        next_at = known[key]
        if next_at is not None and planned.next_run_at > next_at:
            found.append(Righted(planned, next_at))
    return found


def _expected(timing: Timing, now: datetime, last_fire_at: datetime | None) -> datetime | None:
    """Return the latest that a next run may be; None if the timing has ended, or cannot be read: that is planning's."""
    try:
        return expected_fire(timing, now, last_fire_at)
    except Exception:  # noqa: BLE001 - whatever is wrong with one schedule, the others are looked at
        return None


# What the ledger holds from the new next run on is of a time that has not come: those fires are made again. A job of
# that time which still waits would wait until it comes.
PUT_RIGHT = """
    WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest(%(ids)s::uuid[], %(seen)s::timestamptz[], %(next_ats)s::timestamptz[])
            AS wanted (id, seen, next_at)
    ), held AS MATERIALIZED (
        SELECT schedule.id
        FROM _ayb_job_schedules AS schedule JOIN wanted ON wanted.id = schedule.id
        WHERE schedule.next_run_at = wanted.seen AND schedule.enabled
        ORDER BY schedule.id
        FOR NO KEY UPDATE OF schedule SKIP LOCKED
    ), written AS (
        UPDATE _ayb_job_schedules AS schedule
        SET next_run_at = wanted.next_at,
            last_fire_at = CASE
                WHEN schedule.last_fire_at >= wanted.next_at THEN (
                    SELECT max(fire_at) FROM _ayb_job_fires AS fire
                    WHERE fire.schedule_id = schedule.id AND fire.fire_at < wanted.next_at
                )
                ELSE schedule.last_fire_at
            END
        FROM held JOIN wanted ON wanted.id = held.id
        WHERE schedule.id = held.id
        RETURNING schedule.id, wanted.next_at, schedule.next_run_at
    ), righted AS (
        SELECT id, next_at FROM written WHERE next_run_at <= next_at
    ), forgotten AS (
        DELETE FROM _ayb_job_fires AS fire USING righted
        WHERE fire.schedule_id = righted.id AND fire.fire_at >= righted.next_at
    ), due AS (
        UPDATE _ayb_jobs AS job
        SET run_at = now(), updated_at = now()
        FROM righted
        WHERE job.schedule_id = righted.id AND job.state = 'queued' AND job.scheduled_for >= righted.next_at
            AND job.run_at > now()
    )
    SELECT held.id::text, righted.id IS NOT NULL FROM held LEFT JOIN righted ON righted.id = held.id
"""


class PutRight(NamedTuple):
    """The ids of schedules that were put right, and of those that a trigger keeps as they are."""

    ids: Sequence[str] = ()
    unchanged: Sequence[str] = ()


def put_right(conn: Connection, wanted: Sequence[Righted]) -> PutRight:
    """Give schedules another next run, unless theirs has changed since it was seen, or somebody has the row locked."""
    values = {
        "ids": [each.planned.id for each in wanted],
        "seen": [each.planned.seen for each in wanted],
        "next_ats": [each.next_at for each in wanted],
    }
    rows = conn.execute(PUT_RIGHT, values, prepare=False).fetchall()
    return PutRight([id_ for id_, is_right in rows if is_right], [id_ for id_, is_right in rows if not is_right])
