"""The scheduler's statements of firing: lock what is due, and turn fires into jobs and ledger rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.schedules.fields import Overlap
from ayb_jobs.model.schedules.fires import Advance, DueSchedule, jitter
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.successors import AFTER_THE_CANCELED
from ayb_jobs.storage.rows import named, one_row


class Fired(NamedTuple):
    """What one firing statement did: the schedules it advanced, and the job it made for each schedule and fire."""

    schedule_ids: frozenset[str]
    job_ids: Mapping[tuple[str, datetime], str]


class JobsDropped(DatabaseError):
    """A trigger of the application's dropped jobs of these schedules (their ids) while they were made."""

    def __init__(self, schedule_ids: Sequence[str]) -> None:
        super().__init__("the database did not keep the job: a trigger of the application's may drop it")
        self.schedule_ids = schedule_ids


class Unfinished(NamedTuple):
    """Whether a job of a schedule waits, whether one runs, and whether one has waited for over a minute."""

    queued: bool
    running: bool
    waits_long: bool


NOTHING = Unfinished(queued=False, running=False, waits_long=False)

# What one daemon or another can run: this one, whose row may not be written yet, and those that are alive.
# Not locked against key shares: jobs that refer to a schedule may be made meanwhile.
LOCK_DUE = """
    SELECT
        id::text, name, cron_expr, timezone, dst, next_run_at, last_fire_at, catchup, catchup_max, catchup_window_s,
        overlap, jitter_s, now() AS now,
        (job_type = ANY (%(types)s::text[]) AND queue = ANY (%(queues)s::text[]))
            OR EXISTS (
                SELECT FROM _ayb_job_workers AS daemon
                WHERE daemon.heartbeat_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
                    AND schedule.job_type = ANY (daemon.types) AND schedule.queue = ANY (daemon.queues)
            ) AS is_served
    FROM _ayb_job_schedules AS schedule
    WHERE enabled AND next_run_at <= now() AND planned = concat_ws(' ', cron_expr, timezone, dst)
        AND id <> ALL (%(aside)s::uuid[]) AND (%(only)s::uuid[] IS NULL OR id = ANY (%(only)s::uuid[]))
    ORDER BY next_run_at DESC
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
"""
# A statement of its own, after the locks: the one that takes them may not see the job that the scheduler before it has
# just made.
FIND_UNFINISHED = """
    SELECT
        schedule.id::text,
        EXISTS (SELECT FROM _ayb_jobs AS job WHERE job.schedule_id = schedule.id AND job.state = 'queued') AS queued,
        EXISTS (SELECT FROM _ayb_jobs AS job WHERE job.schedule_id = schedule.id AND job.state = 'running') AS running,
        EXISTS (
            SELECT FROM _ayb_jobs AS job
            WHERE job.schedule_id = schedule.id AND job.state = 'queued' AND job.run_at < now() - interval '1 minute'
        ) AS waits_long
    FROM unnest(%(ids)s::uuid[]) AS schedule (id)
"""


class Served(NamedTuple):
    """The job types that a daemon knows, and the queues that it serves."""

    types: Sequence[str] = ()
    queues: Sequence[str] = ()


def lock_due(
    conn: Connection,
    limit: int,
    *,
    served: Served = Served(),  # noqa: B008 - a frozen value
    aside: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> list[tuple[DueSchedule, datetime]]:
    """Return due schedules that no other scheduler holds, each with the database's clock, locked for `fire`.

    But for those whose ids are `aside`; of those whose ids are in `only`, if it is given. `served` is what this daemon
    can run.
    """
    values = {
        "limit": limit,
        "types": list(served.types),
        "queues": list(served.queues),
        "aside": list(aside),
        "only": None if only is None else list(only),
    }
    rows = named(conn).execute(LOCK_DUE, values, prepare=False).fetchall()
    unfinished = _unfinished(conn, [row.id for row in rows if row.overlap != Overlap.ALLOW or not row.is_served])
    return [(_due(row, unfinished.get(row.id, NOTHING)), row.now) for row in rows]


def _due(row: Any, unfinished: Unfinished) -> DueSchedule:
    return DueSchedule(
        id=row.id,
        name=row.name,
        cron=row.cron_expr,
        timezone=row.timezone,
        dst=row.dst,
        due_at=row.next_run_at,
        last_fire_at=row.last_fire_at,
        catchup=row.catchup,
        catchup_max=row.catchup_max,
        catchup_window_s=row.catchup_window_s,
        overlap=row.overlap,
        jitter_s=row.jitter_s,
        queued=unfinished.queued,
        running=unfinished.running,
        starved=not row.is_served and unfinished.waits_long,
    )


def _unfinished(conn: Connection, schedule_ids: Sequence[str]) -> dict[str, Unfinished]:
    if not schedule_ids:
        return {}
    rows = named(conn).execute(FIND_UNFINISHED, {"ids": list(schedule_ids)})
    return {row.id: Unfinished(queued=row.queued, running=row.running, waits_long=row.waits_long) for row in rows}


# A schedule is advanced only from the very next run that the decision was made from. A fire that stands in the ledger
# already makes no job, whatever the schedule's row says. Earlier jobs are locked in the order of their ids, as other
# statements lock them. One that waits ends canceled. One that runs is asked to (see `queue.canceling`), and the new job
# waits beyond all times until what ends that one frees it.
FIRE = f"""
    WITH decided AS MATERIALIZED (
        SELECT *
        FROM unnest(%(ids)s::uuid[], %(due_ats)s::timestamptz[], %(next_ats)s::timestamptz[],
                    %(latest_fire_ats)s::timestamptz[], %(makes_jobs)s::boolean[], %(cancels)s::boolean[])
            AS decided (id, due_at, next_at, latest_fire_at, makes_jobs, cancels)
    ), fires AS MATERIALIZED (
        SELECT *
        FROM unnest(%(fire_ids)s::uuid[], %(fire_ats)s::timestamptz[], %(outcomes)s::text[], %(reasons)s::text[],
                    %(delays)s::float8[])
            AS fires (schedule_id, fire_at, outcome, reason, delay_s)
    ), advanced AS (
        UPDATE _ayb_job_schedules AS schedule
        SET next_run_at = decided.next_at,
            ended_at = CASE WHEN decided.next_at IS NULL THEN now() END,
            last_fire_at = greatest(schedule.last_fire_at, decided.latest_fire_at),
            last_run_at = CASE WHEN decided.makes_jobs THEN now() ELSE schedule.last_run_at END
        FROM decided
        WHERE schedule.id = decided.id AND schedule.next_run_at = decided.due_at AND schedule.enabled
        RETURNING schedule.id, schedule.job_type, schedule.payload, schedule.queue, schedule.priority,
            schedule.max_attempts, schedule.timeout_s, decided.cancels
    ), recorded AS (
        INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, reason, job_id)
        SELECT schedule_id, fire_at, outcome, reason, CASE WHEN delay_s IS NOT NULL THEN _ayb_job_id() END
        FROM fires JOIN advanced ON advanced.id = fires.schedule_id
        ON CONFLICT DO NOTHING
        RETURNING schedule_id, fire_at, job_id
    ), replaced AS MATERIALIZED (
        SELECT job.id, job.state, job.cancel_requested_at IS NULL AS is_news
        FROM _ayb_jobs AS job JOIN advanced ON advanced.id = job.schedule_id AND advanced.cancels
        WHERE job.state IN ('queued', 'running')
        ORDER BY job.id
        FOR UPDATE OF job
    ), canceled AS (
        UPDATE _ayb_jobs AS job
        SET state = 'canceled', canceled_at = now(), updated_at = now(), last_error = 'replaced by a later fire'
        FROM replaced
        WHERE job.id = replaced.id AND replaced.state = 'queued'
    ), asked AS (
        UPDATE _ayb_jobs AS job
        SET cancel_requested_at = coalesce(job.cancel_requested_at, now()), lease_id = NULL, updated_at = now(),
            canceling_lease_id = coalesce(job.canceling_lease_id, job.lease_id, gen_random_uuid())
        FROM replaced
        WHERE job.id = replaced.id AND replaced.state = 'running'
        RETURNING job.schedule_id, replaced.is_news
    ), made AS (
        INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, timeout_s, run_at, schedule_id,
            scheduled_for)
        SELECT recorded.job_id, advanced.job_type, advanced.payload, advanced.queue, advanced.priority,
            advanced.max_attempts, advanced.timeout_s,
            CASE
                WHEN EXISTS (SELECT FROM asked WHERE asked.schedule_id = advanced.id) THEN {AFTER_THE_CANCELED}
                ELSE greatest(now(), recorded.fire_at + fires.delay_s * interval '1 second')
            END,
            advanced.id, recorded.fire_at
        FROM recorded
            JOIN advanced ON advanced.id = recorded.schedule_id
            JOIN fires ON fires.schedule_id = recorded.schedule_id AND fires.fire_at = recorded.fire_at
        WHERE recorded.job_id IS NOT NULL
        RETURNING id, schedule_id, scheduled_for, run_at
    )
    SELECT
        (SELECT coalesce(array_agg(id::text), '{{}}') FROM advanced) AS advanced,
        ARRAY(
            SELECT DISTINCT recorded.schedule_id::text
            FROM recorded LEFT JOIN made ON made.id = recorded.job_id
            WHERE recorded.job_id IS NOT NULL AND made.id IS NULL
        ) AS dropped,
        made.schedule_ids, made.fire_ats, made.job_ids,
        CASE
            WHEN NOT {MAY_NOTIFY} THEN NULL
            WHEN EXISTS (SELECT FROM asked WHERE is_news) THEN pg_notify('ayb_jobs', 'canceled')::text
            WHEN made.any_due THEN pg_notify('ayb_jobs', '')::text
        END
    FROM (
        SELECT array_agg(schedule_id::text) AS schedule_ids, array_agg(scheduled_for) AS fire_ats,
            array_agg(id::text) AS job_ids, coalesce(bool_or(run_at <= now()), false) AS any_due
        FROM made
    ) AS made
"""


def fire(conn: Connection, advances: Sequence[Advance]) -> Fired:
    """Advance schedules, record what became of their fires and make the jobs, in one statement.

    Raises `JobsDropped` if a trigger dropped some of the jobs; the transaction is to be rolled back then.
    """
    all_fires = [(advance.schedule, fire) for advance in advances for fire in advance.fires]
    values = {
        "ids": [advance.schedule.id for advance in advances],
        "due_ats": [advance.schedule.due_at for advance in advances],
        "next_ats": [advance.next_at for advance in advances],
        "latest_fire_ats": [max((fire.fire_at for fire in advance.fires), default=None) for advance in advances],
        "makes_jobs": [any(fire.outcome.makes_job for fire in advance.fires) for advance in advances],
        "cancels": [advance.cancels_running for advance in advances],
        "fire_ids": [schedule.id for schedule, _ in all_fires],
        "fire_ats": [fire.fire_at for _, fire in all_fires],
        "outcomes": [str(fire.outcome) for _, fire in all_fires],
        "reasons": [fire.reason for _, fire in all_fires],
        "delays": [
            jitter(schedule.id, fire.fire_at, schedule.jitter_s).total_seconds() if fire.outcome.makes_job else None
            for schedule, fire in all_fires
        ],
    }
    # Planned for the sizes at hand: 1 fire, or 20,000.
    row = one_row(named(conn).execute(FIRE, values, prepare=False))
    if row.dropped:
        raise JobsDropped(row.dropped)
    made = zip(row.schedule_ids or [], row.fire_ats or [], strict=True)
    return Fired(schedule_ids=frozenset(row.advanced), job_ids=dict(zip(made, row.job_ids or [], strict=True)))
