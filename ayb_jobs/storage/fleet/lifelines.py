"""Lifelines: advisory locks that tell within milliseconds that a daemon's process has died."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection, Timeouts, bear_silence, connect_for_ourselves, shares_sessions
from ayb_jobs.storage.fleet.daemons import ALIVE_S, beat
from ayb_jobs.storage.own import Surroundings
from ayb_jobs.storage.rows import named, one_row

TAKE = "SELECT pg_try_advisory_lock(hashtextextended('_ayb_job_worker ' || %(worker_id)s, 0)) AS taken"

SET_GUARDED = "UPDATE _ayb_job_workers SET guarded = %(guarded)s, heartbeat_at = now() WHERE id = %(worker_id)s"

# If we can take a peer's lock, its process is gone. We hold the lock for this statement only; a peer that wants it
# meanwhile tries again. We judge only peers that announced a lifeline, and those that we declared dead a moment ago.
LOOK = """
    WITH others AS MATERIALIZED (
        SELECT id, heartbeat_at::text AS beat FROM _ayb_job_workers WHERE guarded AND id <> %(worker_id)s
        UNION ALL
        SELECT id, NULL
        FROM unnest(%(buried)s::text[]) AS buried (id)
        WHERE NOT EXISTS (SELECT FROM _ayb_job_workers AS risen WHERE risen.id = buried.id)
    )
    SELECT
        EXISTS (SELECT FROM _ayb_job_workers WHERE guarded AND id = %(worker_id)s) AS guarded,
        (SELECT true FROM _ayb_jobs WHERE state = 'running' ORDER BY lease_until DESC LIMIT 1) IS NOT NULL AS jobs_run,
        ARRAY(
            SELECT ARRAY[id, beat] FROM others
            WHERE pg_try_advisory_xact_lock(hashtextextended('_ayb_job_worker ' || id, 0))
        ) AS free
"""

# If a daemon cannot even beat, leasing and extending show that it lives: its last lease then ends later than before.
# A statement of its own, so that no lock of the one above is held meanwhile.
LAST_LEASES = """
    SELECT worker_id, max(lease_until)::text AS lease_until
    FROM _ayb_jobs
    WHERE state = 'running' AND worker_id = ANY (%(worker_ids)s::text[])
    GROUP BY worker_id
"""


class HeardDaemon(NamedTuple):
    """A daemon that was heard of within a minute, `silent_s` ago.

    If it `drains`, it takes no more jobs. If it `is_lifeless`, it announced a lifeline that nobody holds: it is dead,
    or was cut off a moment ago. `stuck_loops` are those of its loops that make no progress, and so many
    `stuck_slots` are held by handlers that were told to stop and did not. `aside` is what it says of rows that the
    database refuses to change, by table and id with the errors.
    """

    id: str
    host: str
    slots: int
    silent_s: float
    is_lifeless: bool
    drains: bool = False
    stuck_loops: Sequence[str] = ()
    aside: Mapping[str, Mapping[str, str]] = {}
    stuck_slots: int = 0


# Whether a row `daemon` announced a lifeline that nobody holds. Locks are read, not taken: whoever looks for the daemon
# of a lock must not find it held by a question.
IS_LIFELESS = """
        daemon.guarded AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_locks
            WHERE locktype = 'advisory' AND granted AND objsubid = 1
                AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                AND (classid::bigint << 32) | objid::bigint = hashtextextended('_ayb_job_worker ' || daemon.id, 0)
        )
"""

# What a row `daemon` tells of rows that are set aside, and nothing else that plain SQL may have written there.
ASIDE = """
            SELECT coalesce(jsonb_object_agg(told.name, told.rows), '{}')
            FROM (
                SELECT each_table.key AS name, jsonb_object_agg(left(each_row.key, 100), left(each_row.value #>> '{}', 500)) AS rows
                FROM jsonb_each(
                    CASE WHEN jsonb_typeof(daemon.aside) = 'object' AND pg_column_size(daemon.aside) < 1000000 THEN daemon.aside END
                ) AS each_table, LATERAL (
                    SELECT key, value
                    FROM jsonb_each(CASE WHEN jsonb_typeof(each_table.value) = 'object' THEN each_table.value END)
                    WHERE jsonb_typeof(value) = 'string'
                    LIMIT 100
                ) AS each_row
                WHERE length(each_table.key) <= 100
                GROUP BY each_table.key
                LIMIT 20
            ) AS told
"""

LOOK_AT_FLEET = f"""
    SELECT id, host,
        concurrency::bigint + greatest(isolated_slots, 0) + greatest(async_slots, 0) AS slots, greatest(extract(epoch FROM now() - heartbeat_at), 0)::float8 AS silent_s,
        ({IS_LIFELESS}) AS is_lifeless, drain_requested_at IS NOT NULL AS drains,
        ARRAY(SELECT name FROM unnest(stuck_loops) AS name WHERE name IS NOT NULL) AS stuck_loops,
        ({ASIDE}) AS aside,
        least(greatest(stuck_slots, 0), greatest(concurrency, 0))::bigint
            + least(greatest(stuck_async_slots, 0), greatest(async_slots, 0)) AS stuck_slots
    FROM _ayb_job_workers AS daemon
    WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    ORDER BY started_at, id
"""


def look_at_fleet(conn: Connection) -> list[HeardDaemon]:
    """Return the daemons that were heard of within a minute, in the order of their start."""
    with conn.cursor(row_factory=class_row(HeardDaemon)) as cursor:
        return cursor.execute(LOOK_AT_FLEET, {"alive_s": ALIVE_S}).fetchall()


class Sign(NamedTuple):
    """A daemon's last signs of life, as the database's text.

    Its heartbeat (None if it is forgotten), and when the last of its leases runs out (None if it has none).
    """

    heartbeat_at: str | None
    lease_until: str | None


class Look(NamedTuple):
    """What a look at the lifelines found.

    Whether the others know that this daemon holds its own, whether any job runs, and whose lifeline is free, each with
    the last signs of life.
    """

    guarded: bool
    jobs_run: bool
    free: Mapping[str, Sign]


class Lifeline:
    """A direct connection that holds a daemon's lifeline for as long as the process and the connection live.

    A daemon that is cut off keeps its lifeline for `lease_s`, since it works on, and its jobs are its own until then.
    Raises `DatabaseError` if there is no connection, and psycopg's errors if it broke.
    """

    def __init__(
        self,
        url: str,
        daemon: DaemonRecord,
        *,
        name: str,
        lease_s: float,
        timeouts: Timeouts,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._daemon = daemon
        self._conn = connect_for_ourselves(url, name=name, timeouts=timeouts, surroundings=surroundings)
        self.possible = not shares_sessions(self._conn)  # through a pooler no session is our own
        try:
            if self.possible:
                bear_silence(self._conn, lease_s)
        except Exception:
            self._conn.close()
            raise

    def take(self) -> bool:
        """Take the lifeline and tell everyone.

        False if that has to wait until the server notices that the connection before this one is gone.
        """
        if not one_row(named(self._conn).execute(TAKE, {"worker_id": self._daemon.id})).taken:
            return False
        if not set_guarded(self._conn, self._daemon.id, guarded=True):
            beat(self._conn, self._daemon)
            set_guarded(self._conn, self._daemon.id, guarded=True)
        return True

    def look(self, buried: Iterable[str] = ()) -> Look:
        """Look at the lifelines of the others, and at those of the dead that were `buried`: forgotten since."""
        seen = one_row(named(self._conn).execute(LOOK, {"worker_id": self._daemon.id, "buried": list(buried)}))
        last = self._last_leases([worker_id for worker_id, _ in seen.free]) if seen.free else {}
        signs = {worker_id: Sign(beat_at, last.get(worker_id)) for worker_id, beat_at in seen.free}
        return Look(seen.guarded, seen.jobs_run, signs)

    def _last_leases(self, worker_ids: list[str]) -> dict[str, str | None]:
        rows = named(self._conn).execute(LAST_LEASES, {"worker_ids": worker_ids})
        return {row.worker_id: row.lease_until for row in rows}

    def close(self) -> None:
        """Close the connection, and so let go of the lifeline."""
        self._conn.close()


def set_guarded(conn: Connection, worker_id: str, *, guarded: bool) -> bool:
    """Say whether a daemon holds its lifeline, which is a sign of life as well; False if it has no row."""
    return conn.execute(SET_GUARDED, {"worker_id": worker_id, "guarded": guarded}).rowcount > 0
