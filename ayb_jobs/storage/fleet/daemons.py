"""Who is alive: each daemon's row, kept fresh while it runs."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import args_row, kwargs_row

from ayb_jobs.model.daemons import DaemonRecord, SeenDaemon
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import one_row

# A daemon that was silent for so long is no longer shown as alive.
ALIVE_S = 60.0
# So many jobs that a daemon runs are named.
MOST_RUNNING = 1000


# What an idle daemon would have to ask now and then is asked here at once.
BEAT = """
    WITH daemon AS (
        INSERT INTO _ayb_job_workers AS daemon (id, host, pid, version, concurrency, queues, types, aside, clock_ahead_s,
            isolated_types, isolated_slots, async_types, async_slots, capped_queues, capped_slots, has_scheduler, stuck_loops,
            stuck_slots, stuck_async_slots, drain_requested_at)
        VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(concurrency)s, %(queues)s, %(types)s, %(aside)s::jsonb,
            %(clock)s::float8 - extract(epoch FROM clock_timestamp()),
            %(isolated_types)s::text[], %(isolated_slots)s, %(async_types)s::text[], %(async_slots)s,
            %(capped_queues)s::text[], %(capped_slots)s::int[], %(has_scheduler)s, %(stuck_loops)s::text[],
            %(stuck_slots)s, %(stuck_async_slots)s,
            CASE WHEN %(drains)s THEN now() END)
        ON CONFLICT (id) DO UPDATE
        SET heartbeat_at = now(), concurrency = excluded.concurrency, queues = excluded.queues, types = excluded.types,
            aside = CASE WHEN %(tells)s THEN excluded.aside ELSE daemon.aside END, clock_ahead_s = excluded.clock_ahead_s,
            isolated_types = excluded.isolated_types, isolated_slots = excluded.isolated_slots,
            async_types = excluded.async_types, async_slots = excluded.async_slots,
            capped_queues = excluded.capped_queues, capped_slots = excluded.capped_slots,
            has_scheduler = excluded.has_scheduler,
            stuck_loops = CASE WHEN %(tells)s THEN excluded.stuck_loops ELSE daemon.stuck_loops END,
            stuck_slots = CASE WHEN %(tells)s THEN excluded.stuck_slots ELSE daemon.stuck_slots END,
            stuck_async_slots = CASE WHEN %(tells)s THEN excluded.stuck_async_slots ELSE daemon.stuck_async_slots END,
            drain_requested_at = coalesce(daemon.drain_requested_at, excluded.drain_requested_at)
        RETURNING pauses_confirmed, limits_confirmed, drain_requested_at
    )
    SELECT coalesce(max(id), 0) IS NOT DISTINCT FROM (SELECT pauses_confirmed FROM daemon), count(*),
        (SELECT coalesce(max(id), 0) FROM _ayb_job_limits) IS NOT DISTINCT FROM (SELECT limits_confirmed FROM daemon),
        (SELECT count(*) FROM _ayb_job_limits),
        (SELECT drain_requested_at IS NOT NULL FROM daemon),
        NOT EXISTS (SELECT FROM _ayb_job_limits)
            AND EXISTS (SELECT FROM _ayb_jobs WHERE state = 'queued' AND limited_by IS NOT NULL),
        EXISTS (
            SELECT FROM (
                SELECT child_id FROM _ayb_job_dependencies WHERE is_open ORDER BY child_id, parent_id LIMIT 1
            ) AS edge
        ),
        EXISTS (
            SELECT FROM (
                SELECT id FROM _ayb_job_batches WHERE done_at IS NULL AND sealed_at IS NOT NULL ORDER BY id LIMIT 1
            ) AS batch
        )
    FROM _ayb_job_pauses
"""


class Heard(NamedTuple):
    """What a daemon hears as it beats.

    Whether it has confirmed the newest pause and the newest limit, how many there are of both, and whether it is to
    drain. Whether jobs wait under limits that are no more, for other jobs (`edges`), or in a sealed batch.
    """

    confirmed: bool
    total: int
    limits_confirmed: bool
    limits: int
    drains: bool
    left_under: bool
    edges: bool
    batches: bool


class Troubles(NamedTuple):
    """The rows that a daemon has set aside, by table and id with the errors, and its loops that make no progress.

    And how many of its slots, and of those of asynchronous handlers, are held by handlers that did not stop when told.
    """

    aside: Mapping[str, Mapping[str, str]] = {}
    stuck_loops: Sequence[str] = ()
    stuck_slots: int = 0
    stuck_async_slots: int = 0


def beat(conn: Connection, daemon: DaemonRecord, troubles: Troubles | None = None) -> Heard:
    """Say that a daemon is alive now, and return what has become of pauses and limits, and whether it is to drain.

    Whoever does not know of its troubles leaves them as they were told.
    """
    told = troubles or Troubles()
    values = {
        "id": daemon.id,
        "host": daemon.host[:255],
        "pid": daemon.pid,
        "version": daemon.version,
        "concurrency": daemon.concurrency,
        "queues": list(daemon.queues),
        "types": list(daemon.types),
        "isolated_types": list(daemon.isolated_types),
        "isolated_slots": daemon.isolated_slots,
        "async_types": list(daemon.async_types),
        "async_slots": daemon.async_slots,
        "capped_queues": list(daemon.queue_slots),
        "capped_slots": list(daemon.queue_slots.values()),
        "has_scheduler": daemon.has_scheduler,
        "stuck_loops": list(told.stuck_loops),
        "stuck_slots": told.stuck_slots,
        "stuck_async_slots": told.stuck_async_slots,
        "tells": troubles is not None,
        "drains": daemon.drains,
        "clock": time.time(),
        "aside": json.dumps(told.aside) if told.aside else None,
    }
    with conn.cursor(row_factory=args_row(Heard)) as cursor:
        return one_row(cursor.execute(BEAT, values))


FIND_SILENT = """
    SELECT id FROM _ayb_job_workers
    WHERE (heartbeat_at < now() - interval '1 day' OR heartbeat_at > now() + interval '1 day')
        AND id <> ALL (%(aside)s::varchar[])
    LIMIT 100
"""


def find_silent(conn: Connection, *, aside: Sequence[str] = ()) -> list[str]:
    """Return up to 100 daemons that have been silent for a day, but for those that were set `aside`."""
    return [row[0] for row in conn.execute(FIND_SILENT, {"aside": list(aside)})]


FORGET_DAEMONS = "DELETE FROM _ayb_job_workers WHERE id = ANY (%(ids)s::varchar[])"


def forget_daemons(conn: Connection, worker_ids: Sequence[str]) -> None:
    """Remove the rows of daemons that stop or are gone."""
    conn.execute(FORGET_DAEMONS, {"ids": list(worker_ids)})


LIST_DAEMONS = """
    SELECT id, host, pid, version, concurrency,
        ARRAY(SELECT name FROM unnest(queues) AS name WHERE name IS NOT NULL) AS queues,
        ARRAY(SELECT name FROM unnest(types) AS name WHERE name IS NOT NULL) AS types,
        ARRAY(SELECT name FROM unnest(isolated_types) AS name WHERE name IS NOT NULL) AS isolated_types,
        ARRAY(SELECT name FROM unnest(async_types) AS name WHERE name IS NOT NULL) AS async_types,
        greatest(isolated_slots, 0) AS isolated_slots, greatest(async_slots, 0) AS async_slots,
        started_at, heartbeat_at, drain_requested_at,
        greatest(extract(epoch FROM now() - heartbeat_at), 0)::float8 AS silent_s,
        ARRAY(SELECT name FROM unnest(stuck_loops) AS name WHERE name IS NOT NULL) AS stuck_loops,
        coalesce(greatest(stuck_slots, 0), 0)::bigint + coalesce(greatest(stuck_async_slots, 0), 0) AS stuck_slots,
        ARRAY(
            SELECT job.id::text FROM _ayb_jobs AS job
            WHERE job.state = 'running' AND job.worker_id = daemon.id
            ORDER BY job.id
            LIMIT %(most)s + 1
        ) AS running
    FROM _ayb_job_workers AS daemon
    WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
        AND (%(only)s::text IS NULL OR id = %(only)s::text)
    ORDER BY started_at, id
"""


def list_daemons(conn: Connection, *, alive_s: float = ALIVE_S) -> list[SeenDaemon]:
    """Return the daemons that were heard of within `alive_s` seconds, in the order of their start."""
    with conn.cursor(row_factory=kwargs_row(as_seen)) as cursor:
        return cursor.execute(LIST_DAEMONS, {"alive_s": alive_s, "only": None, "most": MOST_RUNNING}).fetchall()


def find_daemon(conn: Connection, worker_id: str) -> SeenDaemon | None:
    """Return a live daemon; None if there is none of this id."""
    with conn.cursor(row_factory=kwargs_row(as_seen)) as cursor:
        return cursor.execute(LIST_DAEMONS, {"alive_s": ALIVE_S, "only": worker_id, "most": MOST_RUNNING}).fetchone()


def as_seen(
    *,
    started_at: datetime,
    heartbeat_at: datetime,
    drain_requested_at: datetime | None,
    silent_s: float,
    running: Sequence[str],
    stuck_loops: Sequence[str],
    stuck_slots: int,
    **daemon: Any,
) -> SeenDaemon:
    """Return a row of `LIST_DAEMONS` as a daemon."""
    return SeenDaemon(
        daemon=DaemonRecord(**daemon),
        started_at=started_at,
        heartbeat_at=heartbeat_at,
        drain_requested_at=drain_requested_at,
        silent_s=silent_s,
        running=running[:MOST_RUNNING],
        cut=len(running) > MOST_RUNNING,
        stuck_loops=stuck_loops,
        stuck_slots=stuck_slots,
    )


IS_THERE = "SELECT to_regclass('_ayb_job_workers') IS NOT NULL"
WAS_HEARD = """
    SELECT EXISTS (
        SELECT FROM _ayb_job_workers
        WHERE heartbeat_at > now() - interval '1 day' AND (%(host)s::text IS NULL OR host = %(host)s::text)
    )
"""


def daemon_was_heard(conn: Connection, *, host: str | None) -> bool:
    """Tell whether a daemon, of one host if it is named, was heard of within a day and did not say that it stops.

    Works without our tables, too.
    """
    there = bool(one_row(conn.execute(IS_THERE))[0])
    return there and bool(one_row(conn.execute(WAS_HEARD, {"host": host}))[0])
