"""Lease under limits.

A job of a limited type waits in the lanes 1 to 4 until a daemon meets it there and puts it under its limit (see
`beside_limits`), which moves it to the lanes 5 to 8; the function `_ayb_job_lease_limited` leases it from there. The
function locks the limit's row, and looks in a statement that begins behind the lock: so it sees every lease under the
limit that was committed before, and the limit is exact. What counts is rows that run. Nothing is counted in advance, so
nothing leaks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.array_text import text_array
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import (
    BY_INDEX,
    BY_TURN,
    NO_FLOOR,
    with_care,
)

# Where jobs wait under limits. Names are walked over by a loose scan, so that an idle queue is one probe of the index.
# A limit whose places or tokens are all taken is known by that, without its lock: whoever frees one looks afterwards.
# Only those are asked whose last look found nothing: to count what runs costs as much as a look.
FIND_WAITING_LIMITS = """
    WITH RECURSIVE waiting (name) AS (
        (SELECT limited_by FROM _ayb_jobs
        WHERE state = 'queued' AND limited_by IS NOT NULL ORDER BY limited_by LIMIT 1)
        UNION ALL
        SELECT (
            SELECT limited_by FROM _ayb_jobs
            WHERE state = 'queued' AND limited_by > waiting.name ORDER BY limited_by LIMIT 1
        )
        FROM waiting
        WHERE waiting.name IS NOT NULL
    )
    SELECT waiting.name::text, known.name IS NOT NULL,
        CASE
            WHEN waiting.name <> ALL (%(idle)s::text[]) THEN 0
            WHEN known.max_running <= (
                SELECT count(*)
                FROM (
                    SELECT FROM _ayb_jobs
                    WHERE state = 'running' AND limited_by = known.name AND execution_id >= known.running_from
                    ORDER BY execution_id LIMIT known.max_running
                ) AS running
            ) THEN 'infinity'::float8
            WHEN known.every IS NOT NULL AND known.tat <= now() + known.burst * known.every THEN greatest(
                0, extract(epoch FROM greatest(known.tat, now()) - (known.burst - 1) * known.every - now())
            )::float8
            ELSE 0
        END
    FROM waiting LEFT JOIN _ayb_job_limits AS known ON known.name = waiting.name
    WHERE waiting.name IS NOT NULL
"""


class Waiting(NamedTuple):
    """The limits under which jobs wait: those that may let one start, those that were removed, and those that are full.

    `wait_s` is how long until one that is full may let a job start by its rate.
    """

    limits: list[str]
    removed: list[str]
    full: list[str]
    wait_s: float


def find_waiting_limits(conn: Connection, *, idle: Iterable[str] = ()) -> Waiting:
    """Return under which limits jobs wait, due or not. Of those that are `idle` it tells whether they are full."""
    rows = conn.execute(FIND_WAITING_LIMITS, {"idle": list(idle)}).fetchall()
    known = {name: wait_s for name, is_known, wait_s in rows if is_known}
    return Waiting(
        limits=[name for name, wait_s in known.items() if wait_s == 0],
        removed=[name for name, is_known, _ in rows if not is_known],
        full=[name for name, wait_s in known.items() if wait_s > 0],
        wait_s=min((wait_s for wait_s in known.values() if wait_s > 0), default=math.inf),
    )


# Those of jobs under limits.
LIMITED_PRIORITIES = range(5, 9)
LEASE_LIMITED = """
    SELECT *
    FROM _ayb_job_lease_limited(
        %(name)s::text, %(room)s::int, %(types)s::text[], %(queues)s::text[], %(aside)s::uuid[], %(only)s::uuid[],
        %(after)s::text, %(worker_id)s::text, %(lease_s)s::float8, %(careful)s::boolean,
        %(wait_s)s::float8, current_setting('search_path'), %(floor_keys)s::text[], %(floor_run_ats)s::timestamptz[],
        %(floor_ids)s::uuid[], %(quick)s::boolean
    )
"""


class Limited(NamedTuple):
    """What a look under one limit brought.

    `after` is the key to go on behind, and `more` tells whether there may be more to lease at once. `wait_s` is how
    long until a rate, the limit's or a key's, allows the next start, or those who share the limit leave places; None if
    no job waits for that. `unchanged` are jobs
    that a trigger kept from being leased, without an error. `missed` tells that there was no look: somebody holds the
    limit, or it was removed. `keys` are those of the leased jobs, by id.
    """

    leased: list[LeasedJob]
    after: str = ""
    wait_s: float | None = None
    more: bool = False
    unchanged: Sequence[str] = ()
    missed: bool = False
    keys: Mapping[str, str] = MappingProxyType({})


Floors = Mapping[int, tuple[str, str]]


def lease_limited(
    conn: Connection,
    name: str,
    *,
    room: int,
    types: Sequence[str],
    queues: Sequence[str],
    worker_id: str,
    lease_s: float,
    after: str = "",
    aside: Sequence[str] = (),
    only: Sequence[str] | None = None,
    wait_s: float = 1.0,
    floors: Mapping[str, Floors] = MappingProxyType({}),
    quick: bool = False,
) -> Limited:
    """Lease up to `room` due jobs of these types and queues under a limit: no more than it has places and tokens for.

    Keys share alike: those whose jobs run least come first. It waits for whoever looks under the same limit, for
    `wait_s` at most: then nothing is leased. `floors` are keys of which jobs are looked for only behind a place, with
    the place's `run_at` and id for each priority. If jobs are `quick`, those who share the limit take turns.
    """
    places = [of_key.get(priority, NO_FLOOR) for of_key in floors.values() for priority in LIMITED_PRIORITIES]
    values: dict[str, Any] = {
        "name": name,
        "room": room,
        "types": list(types),
        "queues": list(queues),
        "aside": plain_array(aside),
        "only": None if only is None else plain_array(only),
        "after": after,
        "worker_id": worker_id,
        "lease_s": lease_s,
        "wait_s": wait_s,
        "floor_keys": list(floors),
        "floor_run_ats": text_array([run_at for run_at, _ in places]),
        "floor_ids": plain_array([job_id for _, job_id in places]),
        "quick": quick,
    }
    rows = with_care(conn, lambda care: conn.execute(LEASE_LIMITED, values | {"careful": care}).fetchall())
    if not rows:
        return Limited([], after, missed=True)
    told = rows[-1]
    jobs = [LeasedJob._make(row[4:-1]) for row in rows[:-1]]
    leased = [job for job in jobs if job.lease_id]
    unchanged = set(told[3] or ()).difference(job.id for job in leased)
    return Limited(
        sorted(leased, key=BY_TURN),
        told[0],
        told[1],
        bool(told[2]),
        sorted(unchanged),
        keys={row[4]: row[-1] for row in rows[:-1]},
    )


# The first jobs that wait under a limit, as leasing meets them: of each key the first, then of each the next. The keys
# are walked as `_ayb_job_lease_limited` walks them, and of each no more jobs are read than twice its share.
FIND_FIRST_LIMITED = """
    WITH RECURSIVE keys (key, wrapped) AS (
        (SELECT start.* FROM (
            (SELECT job.limited_key AS key, false AS wrapped FROM _ayb_jobs AS job
            WHERE job.state = 'queued' AND job.limited_by = %(name)s::text AND job.limited_key < %(after)s::text
            ORDER BY job.limited_key DESC LIMIT 1)
            UNION ALL
            (SELECT job.limited_key, true FROM _ayb_jobs AS job
            WHERE job.state = 'queued' AND job.limited_by = %(name)s::text AND job.limited_key >= %(after)s::text
            ORDER BY job.limited_key DESC LIMIT 1)
        ) AS start LIMIT 1)
        UNION ALL
        SELECT next.* FROM keys CROSS JOIN LATERAL (
            (SELECT job.limited_key, keys.wrapped FROM _ayb_jobs AS job
            WHERE job.state = 'queued' AND job.limited_by = %(name)s::text AND job.limited_key < keys.key
                AND job.limited_key >= CASE WHEN keys.wrapped THEN %(after)s::text ELSE '' END
            ORDER BY job.limited_key DESC LIMIT 1)
            UNION ALL
            (SELECT job.limited_key, true FROM _ayb_jobs AS job
            WHERE NOT keys.wrapped AND job.state = 'queued' AND job.limited_by = %(name)s::text
                AND job.limited_key >= %(after)s::text
            ORDER BY job.limited_key DESC LIMIT 1)
            LIMIT 1
        ) AS next
    ), seen AS MATERIALIZED (
        SELECT first.key, row_number() OVER () AS place FROM (SELECT keys.key FROM keys LIMIT 1000) AS first
    ), share AS MATERIALIZED (
        SELECT ceil(2.0 * %(limit)s / greatest(1, count(*)))::int AS each FROM seen
    )
    SELECT job.id::text
    FROM seen CROSS JOIN share CROSS JOIN LATERAL (
        SELECT first.id, row_number() OVER (ORDER BY first.priority, first.run_at, first.id) AS rank
        FROM (
            SELECT next.* FROM generate_series(5, 8) AS level (priority) CROSS JOIN LATERAL (
                SELECT waiting.id, waiting.priority, waiting.run_at
                FROM _ayb_jobs AS waiting
                WHERE waiting.state = 'queued' AND waiting.limited_by = %(name)s::text AND waiting.limited_key = seen.key
                    AND waiting.priority = level.priority AND waiting.run_at <= now()
                    AND waiting.type = ANY (%(types)s::text[]) AND waiting.queue = ANY (%(queues)s::text[])
                    AND waiting.id <> ALL (%(aside)s::uuid[])
                ORDER BY waiting.run_at, waiting.id
                LIMIT share.each
            ) AS next
            LIMIT share.each
        ) AS first
    ) AS job
    ORDER BY job.rank, seen.place
    LIMIT %(limit)s
"""


def find_first_limited(
    conn: Connection,
    name: str,
    *,
    types: Sequence[str],
    queues: Sequence[str],
    after: str,
    aside: Sequence[str],
    limit: int,
) -> list[str]:
    """Return the ids of up to `limit` due jobs under a limit: of the keys that a look behind `after` meets first."""
    values = {
        "name": name,
        "types": list(types),
        "queues": list(queues),
        "after": after,
        "aside": plain_array(aside),
        "limit": limit,
    }
    with conn.transaction():
        conn.execute(BY_INDEX)
        return [row[0] for row in conn.execute(FIND_FIRST_LIMITED, values, prepare=False)]


FIND_LIMITS_OF = """
    SELECT id::text, limited_by::text
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued' AND limited_by IS NOT NULL
"""


def find_limits_of(conn: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return under which limits those of these jobs wait that wait under any."""
    return dict(conn.execute(FIND_LIMITS_OF, {"ids": plain_array(ids)}, prepare=False).fetchall())
