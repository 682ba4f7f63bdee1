"""What ended and what waited in each minute: written by the daemons as they go, read for charts."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import Deleted, one_row

# Due jobs are counted up to here for one level, in so many lanes of queue and priority.
COUNTED = 100_000
MOST_LANES = 1000


class Ended(NamedTuple):
    """How many jobs completed and failed, how many attempts others follow, and the records that were processed."""

    completed: int = 0
    failed: int = 0
    retried: int = 0
    records: int = 0


class Minute(NamedTuple):
    """What ended in the minute, or the minutes, from `at` on."""

    at: datetime
    completed: int
    failed: int
    retried: int
    records: int


class Level(NamedTuple):
    """How much was due and ran at one moment, and for how long the job that waited longest had been due.

    `cut` tells that there are more lanes than were looked at: at least so much was due, and for so long.
    """

    at: datetime
    waiting: int
    running: int
    oldest_wait_s: float
    cut: bool = False


# The bound keeps a row that somebody wrote by hand from overflowing. In the order of the key, as all daemons go.
ADD_ENDED = """
    INSERT INTO _ayb_job_minutes AS had (at, job_type, completed, failed, retried, records)
    SELECT date_trunc('minute', now()), job_type, completed, failed, retried, records
    FROM unnest(%(types)s::text[], %(completed)s::bigint[], %(failed)s::bigint[], %(retried)s::bigint[], %(records)s::bigint[])
        AS ended (job_type, completed, failed, retried, records)
    ORDER BY job_type
    ON CONFLICT (at, job_type) DO UPDATE
    SET completed = least(had.completed, 1000000000000000) + excluded.completed,
        failed = least(had.failed, 1000000000000000) + excluded.failed,
        retried = least(had.retried, 1000000000000000) + excluded.retried,
        records = least(had.records, 1000000000000000) + excluded.records
"""


def add_ended(conn: Connection, ended: Mapping[str, Ended]) -> None:
    """Add what ended lately, by job type, to the present minute."""
    most = 10**15
    values = {"types": list(ended)} | {
        field: [min(getattr(each, field), most) for each in ended.values()] for field in Ended._fields
    }
    conn.execute(ADD_ENDED, values)


# Each lane of queue and priority is counted by itself, so that jobs that are due later are not walked. Its bound is a
# subquery, whose value the planner does not know: if it expected few rows more, it would read the whole lane and sort.
MEASURE_LEVEL = """
    WITH RECURSIVE lanes AS (
        (
            SELECT queue, priority FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue, priority LIMIT 1
        )
        UNION ALL
        SELECT next.*
        FROM lanes, LATERAL (
            SELECT queue, priority
            FROM _ayb_jobs
            WHERE state = 'queued' AND (queue, priority) > (lanes.queue, lanes.priority)
            ORDER BY queue, priority
            LIMIT 1
        ) AS next
    ), due AS (
        SELECT
        FROM (SELECT * FROM lanes LIMIT %(lanes)s) AS lane CROSS JOIN LATERAL (
            SELECT
            FROM _ayb_jobs
            WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority AND run_at <= now()
            ORDER BY run_at
            LIMIT (SELECT %(most)s::bigint)
        ) AS job
        LIMIT %(most)s
    ), oldest AS (
        SELECT min(front.run_at) AS run_at
        FROM (SELECT * FROM lanes LIMIT %(lanes)s) AS lane CROSS JOIN LATERAL (
            SELECT run_at
            FROM _ayb_jobs
            WHERE state = 'queued' AND queue = lane.queue AND priority = lane.priority
                AND run_at <= now() AND run_at > '-infinity'
            ORDER BY run_at
            LIMIT 1
        ) AS front
    )
    SELECT now() AS at, (SELECT count(*) FROM due) AS waiting,
        (SELECT count(*) FROM (SELECT FROM _ayb_jobs WHERE state = 'running' LIMIT %(most)s) AS running) AS running,
        coalesce((SELECT extract(epoch FROM now() - run_at) FROM oldest), 0)::float8 AS oldest_wait_s,
        EXISTS (SELECT FROM lanes OFFSET %(lanes)s) AS cut
"""


def measure_level(conn: Connection, *, most: int = COUNTED, lanes: int = MOST_LANES) -> Level:
    """Measure how much is due and runs now, counted up to `most`, in so many lanes."""
    with conn.cursor(row_factory=class_row(Level)) as cursor:
        return one_row(cursor.execute(MEASURE_LEVEL, {"most": most, "lanes": lanes}, prepare=False))


HAS_LEVEL = "SELECT EXISTS (SELECT FROM _ayb_job_levels WHERE at = date_trunc('minute', now()))"
ADD_LEVEL = """
    INSERT INTO _ayb_job_levels (at, waiting, running, oldest_wait_s, cut)
    VALUES (date_trunc('minute', %(at)s::timestamptz), %(waiting)s, %(running)s, %(oldest_wait_s)s, %(cut)s)
    ON CONFLICT DO NOTHING
"""


def keep_level(conn: Connection) -> bool:
    """Measure and keep the level of this minute if no daemon has done so yet, and return whether this one did."""
    if conn.execute(HAS_LEVEL).fetchall() == [(True,)]:
        return False
    return conn.execute(ADD_LEVEL, measure_level(conn)._asdict()).rowcount > 0


FIND_OLD_MINUTES = """
    SELECT at::text, job_type::text
    FROM _ayb_job_minutes
    WHERE at < now() - %(keep)s::interval
        AND (%(at)s::timestamptz IS NULL OR (at, job_type) > (%(at)s::timestamptz, %(job_type)s::text))
    ORDER BY at, job_type
    LIMIT %(limit)s
"""


class MinuteKey(NamedTuple):
    """Which row is meant. The instant is a text, since plain SQL may write one that Python cannot hold."""

    at: str
    job_type: str


def find_old_minutes(
    conn: Connection, *, keep: timedelta, after: MinuteKey | None = None, limit: int = 1000
) -> list[MinuteKey]:
    """Return up to `limit` minutes longer ago than `keep`, by time and type, behind `after`."""
    values = {"keep": keep, "limit": limit, "at": None, "job_type": None} | (after._asdict() if after else {})
    return [MinuteKey(*row) for row in conn.execute(FIND_OLD_MINUTES, values, prepare=False)]


DELETE_MINUTES = """
    WITH old AS MATERIALIZED (
        SELECT minute.at, minute.job_type
        FROM unnest(%(ats)s::timestamptz[], %(types)s::text[]) AS old (at, job_type)
            JOIN _ayb_job_minutes AS minute ON minute.at = old.at AND minute.job_type = old.job_type
        FOR UPDATE OF minute SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_minutes WHERE (at, job_type) IN (SELECT at, job_type FROM old) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_minutes(conn: Connection, keys: Sequence[MinuteKey]) -> Deleted:
    """Remove these minutes, but for those that somebody has locked."""
    values = {"ats": [key.at for key in keys], "types": [key.job_type for key in keys]}
    return Deleted(*one_row(conn.execute(DELETE_MINUTES, values, prepare=False)))


FIND_OLD_LEVELS = """
    SELECT at::text
    FROM _ayb_job_levels
    WHERE at < now() - %(keep)s::interval AND (%(after)s::timestamptz IS NULL OR at > %(after)s::timestamptz)
    ORDER BY _ayb_job_levels.at
    LIMIT %(limit)s
"""


def find_old_levels(conn: Connection, *, keep: timedelta, after: str | None = None, limit: int = 1000) -> list[str]:
    """Return the times of up to `limit` levels longer ago than `keep`, the earliest first, behind `after`."""
    values = {"keep": keep, "after": after, "limit": limit}
    return [at for (at,) in conn.execute(FIND_OLD_LEVELS, values, prepare=False)]


DELETE_LEVELS = """
    WITH old AS MATERIALIZED (
        SELECT at FROM _ayb_job_levels WHERE at = ANY (%(ats)s::timestamptz[]) FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_levels WHERE at = ANY (ARRAY(SELECT at FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_levels(conn: Connection, ats: Sequence[str]) -> Deleted:
    """Remove the levels of these times, but for those that somebody has locked."""
    return Deleted(*one_row(conn.execute(DELETE_LEVELS, {"ats": list(ats)}, prepare=False)))


# The bounds are for rows that somebody wrote by hand.
LIST_MINUTES = """
    SELECT date_bin(%(step)s::interval, at, date_trunc('minute', now()) + interval '1 minute' - %(span)s::interval) AS at,
        least(greatest(sum(completed), 0), 1000000000000000)::bigint AS completed,
        least(greatest(sum(failed), 0), 1000000000000000)::bigint AS failed,
        least(greatest(sum(retried), 0), 1000000000000000)::bigint AS retried,
        least(greatest(sum(records), 0), 1000000000000000)::bigint AS records
    FROM _ayb_job_minutes
    WHERE at > date_trunc('minute', now()) - %(span)s::interval AND at <= now()
        AND (%(job_type)s::text IS NULL OR job_type = %(job_type)s::text)
    GROUP BY 1
    ORDER BY 1
"""


def list_minutes(
    conn: Connection, *, span: timedelta, step: timedelta, job_type: str | None = None
) -> Sequence[Minute]:
    """Return what ended within `span`, summed by `step`, the earliest first, without steps in which nothing ended.

    The last step ends with the present minute, which is not over.
    """
    values = {"span": span, "step": step, "job_type": job_type}
    with conn.cursor(row_factory=class_row(Minute)) as cursor:
        return cursor.execute(LIST_MINUTES, values, prepare=False).fetchall()


LIST_LEVELS = """
    SELECT at, waiting, running, oldest_wait_s, cut
    FROM _ayb_job_levels
    WHERE at > now() - %(span)s::interval AND at <= now()
    ORDER BY at
"""


def list_levels(conn: Connection, *, span: timedelta) -> Sequence[Level]:
    """Return the levels within `span`, the earliest first."""
    with conn.cursor(row_factory=class_row(Level)) as cursor:
        return cursor.execute(LIST_LEVELS, {"span": span}).fetchall()
