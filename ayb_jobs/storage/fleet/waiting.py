"""What keeps jobs waiting: who is alive, what they can run, who comes first, and who holds the row."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.lost import Held, lost_reason
from ayb_jobs.model.pauses import key_name
from ayb_jobs.model.refusals import Refusals
from ayb_jobs.model.surroundings import MOST_AHEAD, LastAttempt, Runner, SetAside, Surroundings
from ayb_jobs.model.waiting import Reason, able, wait_reason
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.blockers import find_blocker
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.lifelines import IS_LIFELESS
from ayb_jobs.storage.fleet.pauses import find_pause
from ayb_jobs.storage.fleet.refusals import find_refusals
from ayb_jobs.storage.fleet.under_limit import find_under
from ayb_jobs.storage.rows import one_row

# A beat far ahead of the clock is none: the clock was set back since, or plain SQL wrote it. It may write any array
# too.
LIVE_RUNNERS = f"""
    SELECT
        ARRAY(SELECT DISTINCT name FROM unnest(types) AS name WHERE name IS NOT NULL) AS types,
        ARRAY(SELECT DISTINCT name FROM unnest(queues) AS name WHERE name IS NOT NULL) AS queues,
        id, greatest(concurrency, 0) AS slots,
        ARRAY(SELECT DISTINCT name FROM unnest(isolated_types) AS name WHERE name IS NOT NULL) AS isolated_types,
        coalesce(greatest(isolated_slots, 0), 0) AS isolated_slots,
        ARRAY(SELECT DISTINCT name FROM unnest(async_types) AS name WHERE name IS NOT NULL) AS async_types,
        coalesce(greatest(async_slots, 0), 0) AS async_slots, busy.isolated AS isolated_busy,
        busy.async + coalesce(greatest(stuck_async_slots, 0), 0) AS async_busy,
        busy.jobs - busy.isolated - busy.async + coalesce(greatest(stuck_slots, 0), 0) AS busy,
        coalesce((
            SELECT jsonb_object_agg(capped.queue, greatest(capped.slots, 0))
            FROM unnest(capped_queues, capped_slots) AS capped (queue, slots)
            WHERE capped.queue IS NOT NULL AND capped.slots IS NOT NULL
        ), '{{}}') AS queue_slots,
        coalesce((
            SELECT jsonb_object_agg(held.queue, held.jobs)
            FROM (
                SELECT job.queue, count(*) AS jobs
                FROM _ayb_jobs AS job
                WHERE job.state = 'running' AND job.worker_id = daemon.id AND job.queue = ANY (daemon.capped_queues)
                GROUP BY job.queue
            ) AS held
        ), '{{}}') AS queue_busy
    FROM _ayb_job_workers AS daemon CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, count(*) FILTER (WHERE job.type = ANY (daemon.isolated_types)) AS isolated,
            count(*) FILTER (
                WHERE job.type = ANY (daemon.async_types) AND (job.type = ANY (daemon.isolated_types)) IS NOT TRUE
            ) AS async
        FROM _ayb_jobs AS job
        WHERE job.state = 'running' AND job.worker_id = daemon.id
    ) AS busy
    WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
        AND drain_requested_at IS NULL AND NOT ({IS_LIFELESS})
    ORDER BY started_at, id
"""


def live_runners(conn: Connection) -> list[Runner]:
    """Return what each live daemon can run, in the order of their start; one that drains takes no more."""
    with conn.cursor(row_factory=class_row(Runner)) as cursor:
        return cursor.execute(LIVE_RUNNERS, {"alive_s": ALIVE_S}).fetchall()


class Fleet(NamedTuple):
    """The daemons that take jobs, how many others are alive and drain, and when any was last heard of.

    `refusals` is what the database refuses to those that are alive.
    """

    runners: Sequence[Runner]
    draining: int
    last_seen: datetime | None
    refusals: Refusals


LOOK_FOR_OTHERS = """
    SELECT
        count(*) FILTER (
            WHERE drain_requested_at IS NOT NULL
                AND heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
        ),
        max(heartbeat_at)
    FROM _ayb_job_workers
"""


def look_at_runners(conn: Connection) -> Fleet:
    """Return who can run jobs, for one question or several about one moment."""
    draining, last_seen = one_row(conn.execute(LOOK_FOR_OTHERS, {"alive_s": ALIVE_S}))
    return Fleet(live_runners(conn), draining, last_seen, find_refusals(conn))


def known_types(conn: Connection) -> set[str] | None:
    """Return the job types that live daemons know; None where no daemon is alive."""
    runners = live_runners(conn)
    return {name for runner in runners for name in runner.types} if runners else None


def served_queues(conn: Connection) -> set[str] | None:
    """Return the queues that live daemons serve; None if no daemon is alive."""
    runners = live_runners(conn)
    return {name for runner in runners for name in runner.queues} if runners else None


class _Around(NamedTuple):
    due_for_s: float
    ahead: int
    more_ahead: bool
    ended: int
    attempt: int | None
    outcome: str | None
    error: str | None


# Waiting jobs are leased in the order priority, run_at, id; those that no live daemon knows keep nobody waiting. Each
# priority is a walk of its own, with a bound, so that delayed jobs are not walked. A job under a limit (priorities 5
# to 8) waits only for jobs of its limit and key. A job may be due at infinity.
LOOK_AROUND = """
    SELECT
        CASE
            WHEN isfinite(job.run_at) THEN extract(epoch FROM now() - job.run_at)
            WHEN job.run_at <= now() THEN 1e15
            ELSE -1e15
        END::float8 AS due_for_s,
        front.ahead, front.more_ahead,
        (
            SELECT count(*)
            FROM (SELECT worker_id, ended_at FROM _ayb_job_executions ORDER BY id DESC LIMIT %(most)s) AS newest
            WHERE ended_at > now() - interval '1 minute' AND worker_id = ANY (%(able)s::text[])
        ) AS ended,
        last.attempt, last.outcome, last.error
    FROM _ayb_jobs AS job CROSS JOIN LATERAL (
        SELECT sum(lane.known)::bigint AS ahead, bool_or(lane.seen >= %(most)s) AS more_ahead
        FROM generate_series(CASE WHEN job.priority > 4 THEN 5 ELSE 1 END, job.priority) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE type = ANY (%(types)s::text[])) AS known, count(*) AS seen
            FROM (
                (SELECT other.type
                FROM _ayb_jobs AS other
                WHERE job.priority <= 4 AND other.state = 'queued' AND other.queue = job.queue
                    AND other.priority = level.priority AND other.run_at <= now()
                    AND (other.run_at, other.id) < (
                        CASE WHEN level.priority < job.priority THEN 'infinity' ELSE job.run_at END, job.id
                    )
                ORDER BY other.run_at, other.id
                LIMIT %(most)s)
                UNION ALL
                (SELECT other.type
                FROM _ayb_jobs AS other
                WHERE job.priority > 4 AND other.state = 'queued' AND other.limited_by = job.limited_by
                    AND other.limited_key = job.limited_key AND other.priority = level.priority AND other.run_at <= now()
                    AND (other.run_at, other.id) < (
                        CASE WHEN level.priority < job.priority THEN 'infinity' ELSE job.run_at END, job.id
                    )
                ORDER BY other.run_at, other.id
                LIMIT %(most)s)
            ) AS in_lane
        ) AS lane
    ) AS front
    LEFT JOIN LATERAL (
        SELECT attempt, outcome, left(error, 1000) AS error
        FROM _ayb_job_executions
        WHERE job_id = job.id
        ORDER BY id DESC
        LIMIT 1
    ) AS last ON job.run_at > now()
    WHERE job.id = %(id)s AND job.state = 'queued'
"""


def _around(conn: Connection, job: Job, fleet: Fleet) -> Surroundings | None:
    runners = fleet.runners
    values = {
        "id": job.id,
        "types": sorted({name for runner in runners if job.queue in runner.queues for name in runner.types}),
        "able": [runner.id for runner in able(job, runners)],
        "most": MOST_AHEAD,
    }
    with conn.cursor(row_factory=class_row(_Around)) as cursor:
        found = cursor.execute(LOOK_AROUND, values, prepare=False).fetchone()
    if found is None:  # it has been leased since
        return None
    last = None
    if found.attempt is not None and found.outcome is not None:
        last = LastAttempt(number=found.attempt, outcome=Outcome(found.outcome), error=found.error)
    return Surroundings(
        due_for_s=found.due_for_s,
        runners=runners,
        draining=fleet.draining,
        last_seen=fleet.last_seen,
        ahead=found.ahead,
        more_ahead=found.more_ahead,
        ended=found.ended,
        pause=find_pause(conn, queue=job.queue, type=job.type, key=key_name(job.limit, job.limit_key)),
        under=find_under(conn, job),
        last=last,
        aside=find_set_aside(conn, job),
        locked_by=find_locker(conn, job),
        blocked=None if job.blocked_run_at is None else find_blocker(conn, job.id),
        refusals=fleet.refusals,
    )


# Daemons remember what they were refused, and tell it in their rows. For workers by SQL the database remembers it.
FIND_SET_ASIDE = """
    (
        SELECT 'daemon ' || daemon.id AS who, told.error #>> '{}' AS error, told.is_ending
        FROM _ayb_job_workers AS daemon CROSS JOIN LATERAL (
            VALUES (aside -> 'endings' -> %(id)s::text, true), (aside -> '_ayb_jobs' -> %(id)s::text, false)
        ) AS told (error, is_ending)
        WHERE jsonb_typeof(told.error) = 'string'
            AND heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
        ORDER BY told.is_ending DESC, heartbeat_at DESC
        LIMIT 1
    )
    UNION ALL
    (
        SELECT 'worker ' || worker_id, left(error, 500), false
        FROM _ayb_job_refusals
        WHERE job_id = %(id)s::uuid AND retry_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
    )
    LIMIT 1
"""


def find_set_aside(conn: Connection, job: Job) -> SetAside | None:
    """Return which live daemon or worker has set a job aside, and the error; None if none has."""
    with conn.cursor(row_factory=class_row(SetAside)) as cursor:
        return cursor.execute(FIND_SET_ASIDE, {"id": job.id, "alive_s": ALIVE_S}).fetchone()


# A row's `xmax` is who locked or changed it last. That one holds the lock on its own number until it ends.
FIND_LOCKER = """
    SELECT lock.pid
    FROM pg_catalog.pg_locks AS lock
    WHERE lock.locktype = 'transactionid' AND lock.granted AND lock.pid <> pg_backend_pid()
        AND lock.transactionid = (SELECT xmax FROM _ayb_jobs WHERE id = %(id)s)
    LIMIT 1
"""


def find_locker(conn: Connection, job: Job) -> int | None:
    """Return the process id of the session that has locked a job's row; None if none has."""
    row = conn.execute(FIND_LOCKER, {"id": job.id}).fetchone()
    return None if row is None else int(row[0])


class _Lease(NamedTuple):
    daemon_is_gone: bool
    lease_expired: bool
    daemons: int


# A job without a lease id is another runner's, of whose life nothing is known. The recoverer takes 2 s.
LOOK_AT_LEASE = f"""
    SELECT
        NOT EXISTS (
            SELECT FROM _ayb_job_workers AS daemon
            WHERE daemon.id = job.worker_id AND heartbeat_at > now() - make_interval(secs => %(alive_s)s)
                AND NOT ({IS_LIFELESS})
        ) AS daemon_is_gone,
        coalesce(lease_until < now() - interval '2 seconds', false) AS lease_expired,
        (
            SELECT count(*) FROM _ayb_job_workers
            WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
        ) AS daemons
    FROM _ayb_jobs AS job
    WHERE id = %(id)s AND state = 'running' AND coalesce(lease_id, canceling_lease_id) IS NOT NULL
"""


def _held(conn: Connection, job: Job) -> Held | None:
    with conn.cursor(row_factory=class_row(_Lease)) as cursor:
        found = cursor.execute(LOOK_AT_LEASE, {"id": job.id, "alive_s": ALIVE_S}).fetchone()
    if found is None:
        return None
    return Held(**found._asdict(), aside=find_set_aside(conn, job), locked_by=find_locker(conn, job))


def why_waiting(conn: Connection, job: Job, fleet: Fleet | None = None) -> Reason | None:
    """Return why a job waits, queued or in the hands of a daemon that is gone; None if nothing keeps it.

    `fleet` is what was seen of it, if it was looked at already.
    """
    match job.state:
        case JobState.QUEUED:
            around = _around(conn, job, fleet or look_at_runners(conn))
            return None if around is None else wait_reason(job, around)
        case JobState.RUNNING:
            held = _held(conn, job)
            return None if held is None else lost_reason(job, held)
        case _:
            return None
