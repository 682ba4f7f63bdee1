"""What keeps queued jobs waiting: who is alive, what they can run, and who comes first."""

from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.waiting import MOST_AHEAD, Runner, Surroundings, wait_reason
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S
from ayb_jobs.storage.fleet.unclaimable import count_unclaimable

LIVE_RUNNERS = """
    SELECT types, queues
    FROM _ayb_job_workers
    WHERE heartbeat_at > now() - make_interval(secs => %(alive_s)s)
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


def why_waiting(conn: Connection, job: Job) -> str | None:
    """Return in one line why a job waits; None where it is not queued, or nothing keeps it."""
    if job.state is not JobState.QUEUED:
        return None
    runners = live_runners(conn)
    types = sorted({name for runner in runners if job.queue in runner.queues for name in runner.types})
    values = {"id": job.id, "types": types, "most": MOST_AHEAD}
    found = conn.execute(LOOK_AROUND, values, prepare=False).fetchone()
    if found is None:  # it has been leased since
        return None
    is_due, last_seen, ahead = found
    return wait_reason(job, Surroundings(is_due=is_due, runners=runners, last_seen=last_seen, ahead=ahead))


def unclaimable_jobs(conn: Connection) -> dict[str, int]:
    """Count, by type, the due jobs that no live daemon can run, among the 10,000 that come first."""
    runners = live_runners(conn)
    return count_unclaimable(
        conn,
        types=sorted({name for runner in runners for name in runner.types}),
        queues=sorted({queue for runner in runners for queue in runner.queues}),
    )
