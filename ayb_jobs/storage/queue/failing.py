"""Which types fail: those of which jobs failed lately, and those of which no attempt completes."""

from datetime import timedelta
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.failures import LOOK

MOST_TYPES = 50


class Failing(NamedTuple):
    """A type with jobs that failed lately and are failed still, beside those of it that completed meanwhile.

    `cut` tells that not all failed jobs were looked at: at least so many of at least so many types are.
    """

    type: str
    failed: int
    completed: int
    cut: bool


# The bounds are for rows that somebody wrote by hand.
LIST_FAILING = """
    WITH newest AS MATERIALIZED (
        SELECT type, updated_at FROM _ayb_jobs WHERE state = 'failed' ORDER BY created_at DESC, id DESC LIMIT %(look)s
    ), failed AS (
        SELECT type, count(*) AS jobs
        FROM newest
        WHERE updated_at > now() - %(span)s::interval
        GROUP BY type
    )
    SELECT failed.type, failed.jobs AS failed, coalesce(ended.completed, 0)::bigint AS completed,
        (SELECT count(*) FROM newest) >= %(look)s OR (SELECT count(*) FROM failed) > %(most)s AS cut
    FROM failed CROSS JOIN LATERAL (
        SELECT least(greatest(sum(completed), 0), 1000000000000000) AS completed
        FROM _ayb_job_minutes
        WHERE at > now() - %(span)s::interval AND at <= now() AND job_type = failed.type
    ) AS ended
    ORDER BY failed.jobs DESC, failed.type
    LIMIT %(most)s
"""


def list_failing(conn: Connection, *, span: timedelta) -> list[Failing]:
    """Return the types of the jobs that failed within `span` and are failed still, those with the most first."""
    with conn.cursor(row_factory=class_row(Failing)) as cursor:
        values = {"span": span, "look": LOOK, "most": MOST_TYPES}
        return cursor.execute(LIST_FAILING, values, prepare=False).fetchall()


class Retrying(NamedTuple):
    """A type of whose jobs no attempt completed within a span, and how many failed and are made again."""

    type: str
    attempts: int


LIST_RETRYING = """
    SELECT job_type AS type, least(sum(retried), 1000000000000000)::bigint AS attempts
    FROM _ayb_job_minutes
    WHERE at > now() - %(span)s::interval AND at <= now()
    GROUP BY job_type
    HAVING sum(retried) >= %(many)s AND max(completed) <= 0
    ORDER BY 2 DESC, 1
    LIMIT %(most)s
"""


def list_retrying(conn: Connection, *, span: timedelta, many: int) -> list[Retrying]:
    """Return types of which at least so many attempts failed within `span`, to be made again, and none completed."""
    with conn.cursor(row_factory=class_row(Retrying)) as cursor:
        values = {"span": span, "many": many, "most": MOST_TYPES}
        return cursor.execute(LIST_RETRYING, values, prepare=False).fetchall()
