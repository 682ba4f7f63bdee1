"""The ledger of fires: reading it, and letting old rows go."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.frozen import frozen
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import Deleted, one_row

PRUNE_BATCH = 5000


@frozen
class LedgerRow:
    """What became of one nominal fire. `job_id` is the job made for it, which may have been pruned since."""

    schedule: str
    fire_at: datetime
    outcome: str
    reason: str | None
    job_id: str | None
    recorded_at: datetime


LIST_FIRES = """
    SELECT schedule.name AS schedule, fire.fire_at, fire.outcome, fire.reason, fire.job_id::text, fire.recorded_at
    FROM _ayb_job_fires AS fire JOIN _ayb_job_schedules AS schedule ON schedule.id = fire.schedule_id
    WHERE fire.schedule_id = %(schedule_id)s
    ORDER BY fire.fire_at DESC
    LIMIT %(limit)s
"""
LIST_ALL_FIRES = """
    SELECT schedule.name AS schedule, fire.fire_at, fire.outcome, fire.reason, fire.job_id::text, fire.recorded_at
    FROM _ayb_job_fires AS fire JOIN _ayb_job_schedules AS schedule ON schedule.id = fire.schedule_id
    ORDER BY fire.recorded_at DESC, fire.fire_at DESC
    LIMIT %(limit)s
"""


def list_fires(conn: Connection, *, schedule_id: str | None = None, limit: int = 50) -> list[LedgerRow]:
    """Return up to `limit` fires: of one schedule, the latest first; of all, those recorded last first."""
    statement = LIST_ALL_FIRES if schedule_id is None else LIST_FIRES
    with conn.cursor(row_factory=class_row(LedgerRow)) as cursor:
        return cursor.execute(statement, {"schedule_id": schedule_id, "limit": limit}).fetchall()


# A schedule's `last_fire_at` keeps what is removed here from being fired again.
PRUNE_FIRES = """
    WITH old AS MATERIALIZED (
        SELECT schedule_id, fire_at
        FROM _ayb_job_fires
        WHERE recorded_at < now() - %(keep)s
        ORDER BY recorded_at
        LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_fires WHERE (schedule_id, fire_at) IN (SELECT schedule_id, fire_at FROM old) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def prune_fires(conn: Connection, *, keep: timedelta, batch: int = PRUNE_BATCH) -> Deleted:
    """Remove up to `batch` fires recorded longer ago than `keep`, fewer at the end."""
    return Deleted(*one_row(conn.execute(PRUNE_FIRES, {"keep": keep, "batch": batch})))


FIND_OLD_FIRES = """
    SELECT schedule_id::text, fire_at::text
    FROM _ayb_job_fires
    WHERE recorded_at < now() - %(keep)s::interval
        AND (%(schedule_id)s::uuid IS NULL OR (schedule_id, fire_at) > (%(schedule_id)s::uuid, %(fire_at)s::timestamptz))
    ORDER BY schedule_id, fire_at
    LIMIT %(limit)s
"""


class FireKey(NamedTuple):
    """Which fire is meant. The instant is a text, since plain SQL may write one that Python cannot hold."""

    schedule_id: str
    fire_at: str


def find_old_fires(
    conn: Connection, *, keep: timedelta, after: FireKey | None = None, limit: int = 1000
) -> list[FireKey]:
    """Return up to `limit` fires recorded longer ago than `keep`, in the order of their keys, behind `after`."""
    values = {"keep": keep, "limit": limit, "schedule_id": None, "fire_at": None} | (after._asdict() if after else {})
    return [FireKey(*row) for row in conn.execute(FIND_OLD_FIRES, values, prepare=False)]


DELETE_FIRES = """
    WITH old AS MATERIALIZED (
        SELECT fire.schedule_id, fire.fire_at
        FROM unnest(%(schedule_ids)s::uuid[], %(fire_ats)s::timestamptz[]) AS old (schedule_id, fire_at)
            JOIN _ayb_job_fires AS fire ON fire.schedule_id = old.schedule_id AND fire.fire_at = old.fire_at
        FOR UPDATE OF fire SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_fires WHERE (schedule_id, fire_at) IN (SELECT schedule_id, fire_at FROM old) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_fires(conn: Connection, keys: Sequence[FireKey]) -> Deleted:
    """Remove these fires, but for those that somebody has locked."""
    values = {"schedule_ids": [key.schedule_id for key in keys], "fire_ats": [key.fire_at for key in keys]}
    return Deleted(*one_row(conn.execute(DELETE_FIRES, values, prepare=False)))


PRUNE_ALERTS = """
    WITH old AS MATERIALIZED (
        SELECT id FROM _ayb_job_alerts
        WHERE at < now() - %(keep)s
        ORDER BY at
        LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_alerts WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def prune_alerts(conn: Connection, *, keep: timedelta, batch: int = PRUNE_BATCH) -> Deleted:
    """Remove up to `batch` alerts made longer ago than `keep`, fewer at the end."""
    return Deleted(*one_row(conn.execute(PRUNE_ALERTS, {"keep": keep, "batch": batch})))


FIND_OLD_ALERTS = """
    SELECT id::text
    FROM _ayb_job_alerts
    WHERE at < now() - %(keep)s::interval AND (%(after)s::uuid IS NULL OR id > %(after)s::uuid)
    ORDER BY id
    LIMIT %(limit)s
"""


def find_old_alerts(conn: Connection, *, keep: timedelta, after: str | None = None, limit: int = 1000) -> list[str]:
    """Return up to `limit` ids of alerts made longer ago than `keep`, in their order, behind `after`."""
    values = {"keep": keep, "after": after, "limit": limit}
    return [id_ for (id_,) in conn.execute(FIND_OLD_ALERTS, values, prepare=False)]


DELETE_ALERTS = """
    WITH old AS MATERIALIZED (
        SELECT id FROM _ayb_job_alerts WHERE id = ANY (%(ids)s::uuid[]) FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_alerts WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_alerts(conn: Connection, ids: Sequence[str]) -> Deleted:
    """Remove these alerts, but for those that somebody has locked."""
    return Deleted(*one_row(conn.execute(DELETE_ALERTS, {"ids": list(ids)}, prepare=False)))
