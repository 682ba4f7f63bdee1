"""What keeps queued jobs waiting: who is alive, what they can run, and who comes first."""

from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.waiting import MOST_AHEAD, Runner, Surroundings, abandoned_reason, wait_reason
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.pauses import find_pause

# A beat far ahead of the clock is none: the clock was set back since, or plain SQL wrote it. It may write any array
# too.
LIVE_RUNNERS = """
    SELECT
        ARRAY(SELECT DISTINCT name FROM unnest(types) AS name WHERE name IS NOT NULL) AS types,
        ARRAY(SELECT DISTINCT name FROM unnest(queues) AS name WHERE name IS NOT NULL) AS queues
    FROM _ayb_job_workers
    WHERE heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    ORDER BY started_at, id
"""


def live_runners(conn: Connection) -> list[Runner]:
    """Return what each live daemon can run, in the order of their start."""
    return [Runner(types=types, queues=queues) for types, queues in conn.execute(LIVE_RUNNERS, {"alive_s": ALIVE_S})]


def known_types(conn: Connection) -> set[str] | None:
    """Return the job types that live daemons know; None where no daemon is alive."""
    runners = live_runners(conn)
    return {name for runner in runners for name in runner.types} if runners else None


# Waiting jobs are leased in the order priority, run_at, id; those that no live daemon knows keep nobody waiting. Each
# priority is a walk of its own, so that delayed jobs are not walked.
LOOK_AROUND = """
    SELECT
        job.run_at <= now(),
        (SELECT max(heartbeat_at) FROM _ayb_job_workers),
        (
            SELECT count(*)
            FROM (
                SELECT
                FROM generate_series(1, job.priority) AS level (priority)
                CROSS JOIN LATERAL (
                    SELECT
                    FROM _ayb_jobs AS other
                    WHERE other.state = 'queued' AND other.queue = job.queue AND other.priority = level.priority
                        AND other.run_at <= now() AND other.type = ANY (%(types)s::text[])
                        AND (other.run_at, other.id) < (
                            CASE WHEN level.priority < job.priority THEN 'infinity' ELSE job.run_at END, job.id
                        )
                    ORDER BY other.run_at, other.id
                    LIMIT %(most)s
                ) AS in_lane
                LIMIT %(most)s
            ) AS first
        )
    FROM _ayb_jobs AS job
    WHERE job.id = %(id)s AND job.state = 'queued'
"""


# A job without a lease id is another runner's, of whose life nothing is known.
DAEMON_IS_GONE = """
    SELECT count(*)
    FROM _ayb_jobs AS job
    WHERE id = %(id)s AND state = 'running' AND lease_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM _ayb_job_workers AS daemon
        WHERE daemon.id = job.worker_id AND heartbeat_at > now() - make_interval(secs => %(alive_s)s)
    )
"""


def _daemon_is_gone(conn: Connection, job: Job) -> bool:
    row = conn.execute(DAEMON_IS_GONE, {"id": job.id, "alive_s": ALIVE_S}).fetchone()
    return row is not None and row[0] > 0


def why_waiting(conn: Connection, job: Job) -> str | None:
    """Return in one line why a job waits, queued or in the hands of a daemon that is gone; None if nothing keeps it."""
    if job.state is JobState.RUNNING:
        return abandoned_reason(job) if _daemon_is_gone(conn, job) else None
    if job.state is not JobState.QUEUED:
        return None
    runners = live_runners(conn)
    types = sorted({name for runner in runners if job.queue in runner.queues for name in runner.types})
    values = {"id": job.id, "types": types, "most": MOST_AHEAD}
    found = conn.execute(LOOK_AROUND, values, prepare=False).fetchone()
    if found is None:  # it has been leased since
        return None
    is_due, last_seen, ahead = found
    pause = find_pause(conn, queue=job.queue, type=job.type)
    around = Surroundings(is_due=is_due, runners=runners, last_seen=last_seen, ahead=ahead, pause=pause)
    return wait_reason(job, around)
