"""The scheduler's statements of planning: what is ahead, which schedules want a next run, and writing it."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.model.schedules.fires import Fire, Timing
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import named, one_row


class Unplanned(NamedTuple):
    """A schedule that was edited, enabled or disabled by whatever means since its next run was computed.

    `planned` is the timing for which it was, and `next_run_at` the next run, both None where there was none. That
    timing has been in force since `since`, and whoever edits the row may have overwritten the next run of it.
    `written_at` is when the row was made, or when its next run was written, if whoever wrote it says so.
    `was_broken` tells that it could not fire before it was edited. `now` is the database's clock.
    """

    id: str
    name: str
    timing: Timing
    enabled: bool
    planned: Timing | None
    next_run_at: datetime | None
    last_fire_at: datetime | None
    since: datetime
    written_at: datetime
    was_broken: bool
    now: datetime


class Plan(NamedTuple):
    """What planning found for a schedule: when it fires next, why it cannot, or that it has ended; none if disabled.

    `passed_over` are the fires that were due before it was edited or disabled.
    """

    id: str
    next_run_at: datetime | None
    error: str | None
    passed_over: Sequence[Fire] = ()
    has_ended: bool = False


# A disabled schedule has no next run in the past, so that enabling it by plain SQL makes up for nothing; nor has one
# whose next run lies so far back that it can only be a mistake. One that is enabled, not broken and not ended has one,
# and not at the end of time: it would never fire, and nobody would be told.
_UNPLANNED = """
    (enabled AND planned IS DISTINCT FROM concat_ws(' ', cron_expr, timezone, dst))
        OR (NOT enabled AND (next_run_at <= now() OR planned IS NOT NULL))
        OR (enabled AND next_run_at IS NULL AND last_error IS NULL AND ended_at IS NULL)
        OR (enabled AND next_run_at = 'infinity')
        OR next_run_at < now() - interval '10 years'
"""
# The latest first, here and in firing: one that lies far back has many fires behind it, and must not hold up the
# others.
LOCK_UNPLANNED = f"""
    SELECT id::text, name, cron_expr, timezone, dst, enabled, planned, next_run_at, last_fire_at,
        greatest(last_fire_at, watched_since) AS since, greatest(created_at, updated_at) AS written_at,
        last_error IS NOT NULL AS was_broken, now() AS now
    FROM _ayb_job_schedules
    WHERE ({_UNPLANNED}) AND id <> ALL (%(aside)s::uuid[])
        AND (%(only)s::uuid[] IS NULL OR id = ANY (%(only)s::uuid[]))
    ORDER BY next_run_at DESC NULLS FIRST
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
"""


def lock_unplanned(
    conn: Connection, limit: int, *, aside: Sequence[str] = (), only: Sequence[str] | None = None
) -> list[Unplanned]:
    """Return schedules that were inserted, edited or switched by whatever means, locked for `save_plans`.

    But for those whose ids are `aside`; of those whose ids are in `only`, if it is given.
    """
    values = {"limit": limit, "aside": list(aside), "only": None if only is None else list(only)}
    return [
        Unplanned(
            id=row.id,
            name=row.name,
            timing=Timing(row.cron_expr, row.timezone, row.dst),
            enabled=row.enabled,
            planned=Timing(*row.planned.rsplit(" ", 2)) if row.planned and row.planned.count(" ") > 1 else None,
            next_run_at=row.next_run_at,
            last_fire_at=row.last_fire_at,
            since=row.since,
            written_at=row.written_at,
            was_broken=row.was_broken,
            now=row.now,
        )
        for row in named(conn).execute(LOCK_UNPLANNED, values, prepare=False)
    ]


FIND_BROKEN = """
    SELECT id::text FROM _ayb_job_schedules WHERE enabled AND next_run_at IS NULL AND last_error IS NOT NULL
"""


def find_broken(conn: Connection) -> list[str]:
    """Return the ids of broken schedules."""
    return [row[0] for row in conn.execute(FIND_BROKEN)]


RETRY_BROKEN = """
    WITH broken AS MATERIALIZED (
        SELECT id
        FROM _ayb_job_schedules
        WHERE id = ANY (%(ids)s::uuid[]) AND enabled AND next_run_at IS NULL AND last_error IS NOT NULL
        FOR NO KEY UPDATE
    ), retried AS (
        UPDATE _ayb_job_schedules AS schedule SET planned = NULL
        FROM broken
        WHERE schedule.id = broken.id
        RETURNING schedule.id, schedule.planned
    )
    SELECT id::text FROM broken
    WHERE NOT EXISTS (SELECT FROM retried WHERE retried.id = broken.id AND retried.planned IS NULL)
"""


def retry_broken(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Have these broken schedules planned again; return the ids of those that a trigger keeps as they are."""
    return [row[0] for row in conn.execute(RETRY_BROKEN, {"ids": list(ids)})]


# What a trigger keeps as it is would be planned, or found to be broken, again and again.
SAVE_PLANS = f"""
    WITH plan AS MATERIALIZED (
        SELECT *
        FROM unnest(%(ids)s::uuid[], %(next_run_ats)s::timestamptz[], %(errors)s::text[], %(ended)s::boolean[],
                    %(passed_ats)s::timestamptz[])
            AS plan (id, next_run_at, error, has_ended, passed_at)
    ), saved AS (
        UPDATE _ayb_job_schedules AS schedule
        SET next_run_at = plan.next_run_at, last_error = plan.error,
            planned = CASE WHEN schedule.enabled THEN concat_ws(' ', schedule.cron_expr, schedule.timezone, schedule.dst) END,
            ended_at = CASE WHEN plan.has_ended THEN now() END,
            last_fire_at = greatest(schedule.last_fire_at, plan.passed_at),
            watched_since = CASE WHEN plan.error = schedule.last_error THEN schedule.watched_since ELSE now() END
        FROM plan
        WHERE schedule.id = plan.id
        RETURNING schedule.*, plan.next_run_at AS wanted
    )
    SELECT id::text
    FROM saved
    WHERE NOT coalesce({_UNPLANNED}, false)
        AND (coalesce(next_run_at > now(), false) OR next_run_at IS NOT DISTINCT FROM wanted)
"""


def save_plans(conn: Connection, plans: Sequence[Plan]) -> list[str]:
    """Write the next runs, or the errors, of schedules that this transaction has locked.

    Returns the ids of those that a trigger of the application's keeps as they are.
    """
    values = {
        "ids": [plan.id for plan in plans],
        "next_run_ats": [plan.next_run_at for plan in plans],
        "errors": [plan.error for plan in plans],
        "ended": [plan.has_ended for plan in plans],
        "passed_ats": [plan.passed_over[-1].fire_at if plan.passed_over else None for plan in plans],
    }
    saved = {row[0] for row in conn.execute(SAVE_PLANS, values)}
    for plan in plans:
        if plan.id in saved:
            record_passed_over(conn, plan.id, plan.passed_over)
    return [plan.id for plan in plans if plan.id not in saved]


RECORD_PASSED_OVER = """
    INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, reason)
    SELECT %(id)s, fire_at, 'skipped', %(reason)s FROM unnest(%(fire_ats)s::timestamptz[]) AS fire_at
    ON CONFLICT DO NOTHING
"""


def record_passed_over(conn: Connection, schedule_id: str, fires: Sequence[Fire]) -> None:
    """Write fires that were skipped because their schedule was edited or disabled before they were made."""
    if fires:
        values = {"id": schedule_id, "reason": fires[0].reason, "fire_ats": [fire.fire_at for fire in fires]}
        conn.execute(RECORD_PASSED_OVER, values)


# Those that another scheduler is just planning or advancing are counted all the same.
LOOK_AHEAD = f"""
    SELECT
        count(*) FILTER (WHERE {_UNPLANNED}) > 0 AS unplanned,
        extract(epoch FROM min(next_run_at) FILTER (WHERE enabled AND isfinite(next_run_at)) - clock_timestamp())::float8
            AS due_in_s,
        extract(epoch FROM clock_timestamp())::float8 AS clock_s
    FROM _ayb_job_schedules
    WHERE id <> ALL (%(aside)s::uuid[])
"""


FIND_DUE = f"""
    SELECT id::text
    FROM _ayb_job_schedules
    WHERE ((enabled AND next_run_at <= now()) OR ({_UNPLANNED})) AND id <> ALL (%(aside)s::uuid[])
    LIMIT %(limit)s
"""


def find_due(conn: Connection, limit: int, *, aside: Sequence[str] = ()) -> list[str]:
    """Return the ids of schedules that are due or to be planned, but for those that are `aside`."""
    return [row[0] for row in conn.execute(FIND_DUE, {"limit": limit, "aside": list(aside)}, prepare=False)]


class Ahead(NamedTuple):
    """What schedules have ahead: whether any is to be planned, and the seconds until the next one is due.

    By the database's clock; negative if one is due, None if none will be. `clock_s` is what that clock says.
    """

    unplanned: bool
    due_in_s: float | None
    clock_s: float


def look_ahead(conn: Connection, aside: Sequence[str] = ()) -> Ahead:
    """Tell whether there is anything to do for schedules, but for those that are `aside`, and when there will be."""
    with conn.cursor(row_factory=class_row(Ahead)) as cursor:
        return one_row(cursor.execute(LOOK_AHEAD, {"aside": list(aside)}))
