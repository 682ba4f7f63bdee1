"""Asking a daemon to drain: written beside its heartbeat, which reads it; a notification tells it at once."""

from collections.abc import Sequence

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import ALIVE_S

FIND_ALIVE_BY_PART = """
    SELECT id FROM _ayb_job_workers
    WHERE strpos(id, %(part)s::text) > 0
        AND heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    ORDER BY id <> %(part)s::text, id
    LIMIT 10
"""


def find_alive_by_part(conn: Connection, part: str) -> Sequence[str]:
    """Return the ids of up to 10 live daemons in whose id `part` stands; the one that it is comes first."""
    return [row[0] for row in conn.execute(FIND_ALIVE_BY_PART, {"part": part, "alive_s": ALIVE_S})]


ASK_DRAIN = """
    UPDATE _ayb_job_workers
    SET drain_requested_at = coalesce(drain_requested_at, now())
    WHERE id = %(worker_id)s
"""
NOTIFY_DRAIN = """
    SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('ayb_jobs', 'drain')::text END
"""


def ask_drain(conn: Connection, worker_id: str) -> bool:
    """Ask a daemon to drain, in the transaction that `conn` is in; tell whether it is there.

    A second request keeps the time of the first.
    """
    asked = conn.execute(ASK_DRAIN, {"worker_id": worker_id}).rowcount == 1
    conn.execute(NOTIFY_DRAIN)
    return asked
