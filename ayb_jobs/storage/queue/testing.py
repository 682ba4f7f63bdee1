"""What tests of an application ask of the queue, on any driver's connection; parameters as in `enqueueing`."""

from ayb_jobs.storage.database import Connection

# One row, whatever is found: drivers are asked for the first one alone.
FIND_ENQUEUED = """
    SELECT coalesce(
        json_agg(
            json_build_object('id', id, 'type', type, 'payload', payload, 'queue', queue, 'priority', priority,
                'max_attempts', max_attempts, 'run_at', run_at::text, 'idempotency_key', idempotency_key)
            ORDER BY id),
        '[]')::text
    FROM _ayb_jobs
    WHERE state = 'queued' AND type = coalesce(CAST(%(type)s AS text), type)
"""

MAKE_DUE = """
    WITH hurried AS (
        UPDATE _ayb_jobs
        SET run_at = CASE WHEN blocked_run_at IS NULL THEN now() ELSE run_at END,
            blocked_run_at = least(blocked_run_at, now()), updated_at = now()
        WHERE state = 'queued' AND coalesce(blocked_run_at, run_at) > now()
            AND (blocked_run_at IS NOT NULL OR run_at < '9999-12-31 00:00:00+00') AND type = coalesce(CAST(%(type)s AS text), type)
        RETURNING 1
    )
    SELECT count(*) FROM hurried
"""

FIND_QUEUES = "SELECT DISTINCT queue FROM _ayb_jobs WHERE state = 'queued' ORDER BY queue"


def find_queues(conn: Connection) -> list[str]:
    """Return the queues in which jobs wait."""
    return [queue for (queue,) in conn.execute(FIND_QUEUES)]
