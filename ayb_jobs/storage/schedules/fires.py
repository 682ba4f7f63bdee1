"""The scheduler's statements: plan next runs, lock what is due, and turn fires into jobs and ledger rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ayb_jobs.model.schedules.fires import Advance, DueSchedule, Fire, Timing, jitter
from ayb_jobs.model.schedules.schedule import Overlap
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import one_row


class Unplanned(NamedTuple):
    """A schedule that was edited, enabled or disabled by whatever means since its next run was computed.

    `planned` is the timing for which it was, and `next_run_at` the next run, both None where there was none. That
    timing has been in force since `since`, and whoever edits the row may have overwritten the next run of it.
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


class Fired(NamedTuple):
    """What one firing statement did: the schedules it advanced, and how many jobs it made."""

    schedule_ids: frozenset[str]
    jobs: int


class Unfinished(NamedTuple):
    """Whether a job of a schedule waits, whether one runs, and whether one has waited for over a minute."""

    queued: bool
    running: bool
    waits_long: bool


NOTHING = Unfinished(queued=False, running=False, waits_long=False)

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
        greatest(last_fire_at, watched_since), last_error IS NOT NULL, now()
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
            id=id_,
            name=name,
            timing=Timing(cron, timezone, dst),
            enabled=enabled,
            planned=Timing(*planned.rsplit(" ", 2)) if planned and planned.count(" ") > 1 else None,
            next_run_at=next_run_at,
            last_fire_at=last_fire_at,
            since=since,
            was_broken=was_broken,
            now=now,
        )
        for (
            id_, name, cron, timezone, dst, enabled, planned, next_run_at, last_fire_at, since, was_broken, now
        ) in conn.execute(LOCK_UNPLANNED, values, prepare=False)
    ]  # fmt: skip


RETRY_BROKEN = """
    UPDATE _ayb_job_schedules SET planned = NULL WHERE enabled AND next_run_at IS NULL AND last_error IS NOT NULL
"""


def retry_broken(conn: Connection) -> None:
    """Have broken schedules planned again."""
    conn.execute(RETRY_BROKEN)


SAVE_PLANS = """
    UPDATE _ayb_job_schedules AS schedule
    SET next_run_at = plan.next_run_at, last_error = plan.error,
        planned = CASE WHEN schedule.enabled THEN concat_ws(' ', schedule.cron_expr, schedule.timezone, schedule.dst) END,
        ended_at = CASE WHEN plan.has_ended THEN now() END,
        last_fire_at = greatest(schedule.last_fire_at, plan.passed_at),
        watched_since = CASE WHEN plan.error = schedule.last_error THEN schedule.watched_since ELSE now() END
    FROM unnest(%(ids)s::uuid[], %(next_run_ats)s::timestamptz[], %(errors)s::text[], %(ended)s::boolean[],
                %(passed_ats)s::timestamptz[])
        AS plan (id, next_run_at, error, has_ended, passed_at)
    WHERE schedule.id = plan.id
"""


def save_plans(conn: Connection, plans: Sequence[Plan]) -> None:
    """Write the next runs, or the errors, of schedules that this transaction has locked."""
    values = {
        "ids": [plan.id for plan in plans],
        "next_run_ats": [plan.next_run_at for plan in plans],
        "errors": [plan.error for plan in plans],
        "ended": [plan.has_ended for plan in plans],
        "passed_ats": [plan.passed_over[-1].fire_at if plan.passed_over else None for plan in plans],
    }
    conn.execute(SAVE_PLANS, values)
    for plan in plans:
        record_passed_over(conn, plan.id, plan.passed_over)


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


# What one daemon or another can run: this one, whose row may not be written yet, and those that are alive.
# Not locked against key shares: jobs that refer to a schedule may be made meanwhile.
LOCK_DUE = """
    SELECT
        id::text, name, cron_expr, timezone, dst, next_run_at, last_fire_at, catchup, catchup_max, catchup_window_s,
        overlap, jitter_s, now(),
        (job_type = ANY (%(types)s::text[]) AND queue = ANY (%(queues)s::text[]))
            OR EXISTS (
                SELECT FROM _ayb_job_workers AS daemon
                WHERE daemon.heartbeat_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
                    AND schedule.job_type = ANY (daemon.types) AND schedule.queue = ANY (daemon.queues)
            )
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
        EXISTS (SELECT FROM _ayb_jobs AS job WHERE job.schedule_id = schedule.id AND job.state = 'queued'),
        EXISTS (SELECT FROM _ayb_jobs AS job WHERE job.schedule_id = schedule.id AND job.state = 'running'),
        EXISTS (
            SELECT FROM _ayb_jobs AS job
            WHERE job.schedule_id = schedule.id AND job.state = 'queued' AND job.run_at < now() - interval '1 minute'
        )
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
    rows = conn.execute(LOCK_DUE, values, prepare=False).fetchall()
    unfinished = _unfinished(conn, [row[0] for row in rows if row[10] != Overlap.ALLOW or not row[13]])
    return [
        (
            DueSchedule(
                id=id_,
                name=name,
                cron=cron,
                timezone=timezone,
                dst=dst,
                due_at=due_at,
                last_fire_at=last_fire_at,
                catchup=catchup,
                catchup_max=catchup_max,
                catchup_window_s=catchup_window_s,
                overlap=overlap,
                jitter_s=jitter_s,
                queued=unfinished.get(id_, NOTHING).queued,
                running=unfinished.get(id_, NOTHING).running,
                starved=not is_served and unfinished.get(id_, NOTHING).waits_long,
            ),
            now,
        )
        for (
            id_, name, cron, timezone, dst, due_at, last_fire_at, catchup, catchup_max, catchup_window_s, overlap,
            jitter_s, now, is_served,
        ) in rows
    ]  # fmt: skip


def _unfinished(conn: Connection, schedule_ids: Sequence[str]) -> dict[str, Unfinished]:
    if not schedule_ids:
        return {}
    rows = conn.execute(FIND_UNFINISHED, {"ids": list(schedule_ids)})
    return {id_: Unfinished._make(told) for id_, *told in rows}


# A schedule is advanced only from the very next run that the decision was made from. A fire that stands in the ledger
# already makes no job, whatever the schedule's row says. Replaced jobs are ended as settling ends them, in the order
# of their ids as other statements lock them, and their workers find the lease lost.
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
        SELECT job.id, job.state, job.execution_id, job.lease_id, job.worker_id
        FROM _ayb_jobs AS job JOIN advanced ON advanced.id = job.schedule_id AND advanced.cancels
        WHERE job.state IN ('queued', 'running')
        ORDER BY job.id
        FOR UPDATE OF job
    ), canceled AS (
        UPDATE _ayb_jobs AS job
        SET state = 'canceled', canceled_at = now(), updated_at = now(), last_error = 'replaced by a later fire',
            lease_id = NULL, lease_until = NULL, worker_id = NULL
        FROM replaced
        WHERE job.id = replaced.id
        RETURNING job.id, job.type, job.schedule_id, job.attempts, job.last_run_at, replaced.state AS state_before,
            replaced.execution_id, replaced.lease_id, replaced.worker_id
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            error, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, worker_id, 'canceled',
            'replaced by a later fire', coalesce(last_run_at, now()), now()
        FROM canceled
        WHERE state_before = 'running' AND execution_id IS NOT NULL
    ), made AS (
        INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, timeout_s, run_at, schedule_id,
            scheduled_for)
        SELECT recorded.job_id, advanced.job_type, advanced.payload, advanced.queue, advanced.priority,
            advanced.max_attempts, advanced.timeout_s,
            greatest(now(), recorded.fire_at + fires.delay_s * interval '1 second'), advanced.id, recorded.fire_at
        FROM recorded
            JOIN advanced ON advanced.id = recorded.schedule_id
            JOIN fires ON fires.schedule_id = recorded.schedule_id AND fires.fire_at = recorded.fire_at
        WHERE recorded.job_id IS NOT NULL
        RETURNING run_at
    )
    SELECT
        (SELECT coalesce(array_agg(id::text), '{{}}') FROM advanced),
        (SELECT count(*) FROM made),
        CASE
            WHEN NOT {MAY_NOTIFY} THEN NULL
            WHEN EXISTS (SELECT FROM canceled WHERE state_before = 'running') THEN pg_notify('ayb_jobs', 'replaced')::text
            WHEN EXISTS (SELECT FROM made WHERE run_at <= now()) THEN pg_notify('ayb_jobs', '')::text
        END
"""


def fire(conn: Connection, advances: Sequence[Advance]) -> Fired:
    """Advance schedules, record what became of their fires and make the jobs, in one statement."""
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
    row = one_row(conn.execute(FIRE, values, prepare=False))  # planned for the sizes at hand: 1 fire, or 20,000
    return Fired(schedule_ids=frozenset(row[0]), jobs=row[1])


# Those that another scheduler is just planning or advancing are counted all the same.
LOOK_AHEAD = f"""
    SELECT
        count(*) FILTER (WHERE {_UNPLANNED}) > 0,
        extract(epoch FROM min(next_run_at) FILTER (WHERE enabled AND isfinite(next_run_at)) - clock_timestamp())::float8,
        extract(epoch FROM clock_timestamp())::float8
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
    return Ahead._make(conn.execute(LOOK_AHEAD, {"aside": list(aside)}).fetchall()[0])
