"""The ledger of fires: reading it, and letting old rows go."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ayb_jobs.storage.database import Connection

PRUNE_BATCH = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What became of one nominal fire. `job_id` is the job made for it, which may have been pruned since."""

    schedule: str
    fire_at: datetime
    outcome: str
    reason: str | None
    job_id: str | None
    recorded_at: datetime


LIST_FIRES = """
    SELECT schedule.name, fire.fire_at, fire.outcome, fire.reason, fire.job_id::text, fire.recorded_at
    FROM _ayb_job_fires AS fire JOIN _ayb_job_schedules AS schedule ON schedule.id = fire.schedule_id
    WHERE fire.schedule_id = %(schedule_id)s
    ORDER BY fire.fire_at DESC
    LIMIT %(limit)s
"""
LIST_ALL_FIRES = """
    SELECT schedule.name, fire.fire_at, fire.outcome, fire.reason, fire.job_id::text, fire.recorded_at
    FROM _ayb_job_fires AS fire JOIN _ayb_job_schedules AS schedule ON schedule.id = fire.schedule_id
    ORDER BY fire.recorded_at DESC, fire.fire_at DESC
    LIMIT %(limit)s
"""


def list_fires(conn: Connection, *, schedule_id: str | None = None, limit: int = 50) -> list[LedgerRow]:
    """Return up to `limit` fires: of one schedule, the latest first; of all, those recorded last first."""
    statement = LIST_ALL_FIRES if schedule_id is None else LIST_FIRES
    return [
        LedgerRow(
            schedule=schedule, fire_at=fire_at, outcome=outcome, reason=reason, job_id=job_id, recorded_at=recorded_at
        )
        for schedule, fire_at, outcome, reason, job_id, recorded_at in conn.execute(
            statement, {"schedule_id": schedule_id, "limit": limit}
        )
    ]


# A schedule's `last_fire_at` keeps what is removed here from being fired again.
PRUNE_FIRES = """
    DELETE FROM _ayb_job_fires
    WHERE (schedule_id, fire_at) IN (
        SELECT schedule_id, fire_at
        FROM _ayb_job_fires
        WHERE recorded_at < now() - %(keep)s
        ORDER BY recorded_at
        LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED
    )
"""


def prune_fires(conn: Connection, *, keep: timedelta, batch: int = PRUNE_BATCH) -> int:
    """Remove up to `batch` fires recorded longer ago than `keep`, and return how many.

    Fewer than `batch` at the end.
    """
    return conn.execute(PRUNE_FIRES, {"keep": keep, "batch": batch}).rowcount


PRUNE_ALERTS = """
    DELETE FROM _ayb_job_alerts
    WHERE id IN (SELECT id FROM _ayb_job_alerts WHERE at < now() - %(keep)s ORDER BY at LIMIT %(batch)s)
"""


def prune_alerts(conn: Connection, *, keep: timedelta, batch: int = PRUNE_BATCH) -> int:
    """Remove up to `batch` alerts made longer ago than `keep`, and return how many."""
    return conn.execute(PRUNE_ALERTS, {"keep": keep, "batch": batch}).rowcount
