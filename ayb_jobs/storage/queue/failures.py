"""Failed jobs grouped by type and error, read from the newest ones, with a bound."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.model.filters import Filter
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.matching import ALIKE_ERROR, MATCHING

# So many failed jobs, the newest created, are looked at, and so many of those that match are grouped: to make the
# numbers of an error alike takes ten times as long as to read it.
LOOK = 20_000
GROUPED = 5_000
BUCKETS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failed jobs of one type whose errors differ in numbers and ids alone; `error` has `<n>` for each of these.

    `buckets` counts them over the time that was asked about, the earliest first. `example` is the latest one's id.
    """

    type: str
    error: str
    jobs: int
    first_at: datetime
    last_at: datetime
    example: str
    buckets: Sequence[int]


class GroupedFailures(NamedTuple):
    """The largest groups; how many jobs failed and in how many groups, also those that are not among them.

    `cut` tells that not all failed jobs were looked at: at least so many failed, in at least so many groups. `buckets`
    counts them all over the time that was asked about, the earliest first.
    """

    groups: Sequence[FailureGroup]
    jobs: int
    group_count: int
    cut: bool
    last_at: datetime | None
    buckets: Sequence[int]


class _Part(NamedTuple):
    type: str | None
    error: str
    bucket: int
    jobs: int
    first_at: datetime
    last_at: datetime
    example: str
    all_jobs: int
    all_groups: int
    all_last_at: datetime | None
    all_buckets: Sequence[int]
    cut: bool


GROUP_FAILURES = f"""
    WITH failed AS MATERIALIZED (
        SELECT id, type, updated_at, coalesce({ALIKE_ERROR}, '') AS error
        FROM (
            SELECT *
            FROM (
                SELECT id, type, queue, idempotency_key, batch_id, updated_at, created_at, last_error
                FROM _ayb_jobs
                WHERE state = 'failed'
                ORDER BY created_at DESC, id DESC
                LIMIT %(look)s
            ) AS newest
            WHERE {MATCHING} AND (%(span)s::interval IS NULL OR updated_at > now() - %(span)s::interval)
            LIMIT %(grouped)s
        ) AS matching
    ), reach AS (
        SELECT coalesce(%(span)s::interval, now() - min(updated_at) FILTER (WHERE isfinite(updated_at)), interval '1 day')
            AS span
        FROM failed
    ), parts AS (
        SELECT type, error,
            CASE WHEN isfinite(updated_at) THEN least(%(buckets)s - 1, greatest(0, floor(
                %(buckets)s * (1 - extract(epoch FROM now() - updated_at)::float8
                    / greatest(extract(epoch FROM reach.span)::float8, 1))
            )))::int ELSE 0 END AS bucket,
            count(*) AS jobs, min(updated_at) AS first_at, max(updated_at) AS last_at,
            (array_agg(id::text ORDER BY updated_at DESC))[1] AS example
        FROM failed, reach
        GROUP BY type, error, bucket
    ), whole AS (
        SELECT (SELECT count(*) FROM failed) AS all_jobs,
            (SELECT count(*) FROM (SELECT DISTINCT type, error FROM parts) AS kinds) AS all_groups,
            (SELECT max(last_at) FROM parts) AS all_last_at,
            ARRAY(
                SELECT coalesce(sum(parts.jobs), 0)::bigint
                FROM generate_series(0, %(buckets)s - 1) AS at (bucket) LEFT JOIN parts ON parts.bucket = at.bucket
                GROUP BY at.bucket
                ORDER BY at.bucket
            ) AS all_buckets,
            (SELECT count(*) FROM failed) >= %(grouped)s OR EXISTS (
                SELECT FROM _ayb_jobs WHERE state = 'failed' ORDER BY created_at DESC, id DESC OFFSET %(look)s LIMIT 1
            ) AS cut
    )
    SELECT type, error, bucket, jobs, first_at, last_at, example, all_jobs, all_groups, all_last_at, all_buckets, cut
    FROM whole LEFT JOIN parts ON true
    ORDER BY sum(jobs) OVER (PARTITION BY type, error) DESC, type, error, bucket
    LIMIT %(limit)s * %(buckets)s
"""


def group_failures(
    conn: Connection,
    wanted: Filter,
    *,
    span: timedelta | None,
    limit: int = 100,
    look: int = LOOK,
    grouped: int = GROUPED,
) -> GroupedFailures:
    """Return up to `limit` groups of the jobs that failed within `span`, or ever, the largest first.

    They hold up to `grouped` jobs, the newest that match among the `look` newest that are failed.
    """
    values = {
        **wanted.values(),
        "span": span,
        "limit": limit,
        "look": look,
        "grouped": grouped,
        "buckets": BUCKETS,
    }
    with conn.cursor(row_factory=class_row(_Part)) as cursor:
        parts = cursor.execute(GROUP_FAILURES, values, prepare=False).fetchall()
    groups: dict[tuple[str, str], list[_Part]] = {}
    for part in parts:
        if part.type is not None:
            groups.setdefault((part.type, part.error), []).append(part)
    whole = parts[0]
    return GroupedFailures(
        groups=[_group(*name, of_one) for name, of_one in groups.items()][:limit],
        jobs=whole.all_jobs,
        group_count=whole.all_groups,
        cut=whole.cut,
        last_at=whole.all_last_at,
        buckets=whole.all_buckets,
    )


def _group(job_type: str, error: str, parts: Sequence[_Part]) -> FailureGroup:
    latest = max(parts, key=lambda part: part.last_at)
    counts = {part.bucket: part.jobs for part in parts}
    return FailureGroup(
        type=job_type,
        error=error,
        jobs=sum(part.jobs for part in parts),
        first_at=min(part.first_at for part in parts),
        last_at=latest.last_at,
        example=latest.example,
        buckets=[counts.get(bucket, 0) for bucket in range(BUCKETS)],
    )
