"""The operator of a run: nothing that waits by the rule `hold` waits for ever."""

from contextlib import suppress

import psycopg

from ayb_jobs.errors import Conflict, DatabaseError, NotFound
from ayb_jobs.lab.torture.history import History
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import cancel_job, retry_job

# A failed member of a batch is not retried, since its batch may have called back by then.
FIND_HELD = """
    SELECT child.id::text, child.idempotency_key::text, parent.id::text, parent.state = 'failed' AND parent.batch_id IS NULL
    FROM _ayb_job_dependencies AS edge
        JOIN _ayb_jobs AS child ON child.id = edge.child_id
        JOIN _ayb_jobs AS parent ON parent.id = edge.parent_id
    WHERE edge.is_open AND edge.rule = 'hold' AND child.state = 'queued' AND parent.state IN ('failed', 'canceled')
"""


def let_go(conn: Connection, history: History) -> None:
    """Retry the failed parents for which children are held, and cancel the children of those that cannot be retried."""
    for child_id, key, parent_id, can_retry in conn.execute(FIND_HELD).fetchall():
        if can_retry:
            with suppress(Conflict, NotFound):
                retry_job(conn, parent_id)
        else:
            _cancel(conn, history, child_id, key)


def _cancel(conn: Connection, history: History, child_id: str, key: str) -> None:
    history.note("cancel", key, "ask", child_id)
    try:
        cancel_job(conn, child_id)
    except (Conflict, NotFound):
        history.note("cancel", key, "fail", child_id)
    except (psycopg.Error, DatabaseError):
        history.note("cancel", key, "unknown", child_id)
        raise
    else:
        history.note("cancel", key, "ok", child_id)
