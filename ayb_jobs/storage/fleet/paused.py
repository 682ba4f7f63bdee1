"""What is paused now, for lists, which ask for nothing else of pauses."""

from ayb_jobs.model.pauses import PauseKind
from ayb_jobs.storage.database import Connection

PAUSED_NAMES = "SELECT kind, name FROM _ayb_job_pauses WHERE until IS NULL OR until > now()"


def paused_names(conn: Connection) -> frozenset[tuple[PauseKind, str]]:
    """Return which queues, types and keys are paused now."""
    return frozenset((PauseKind(kind), name) for kind, name in conn.execute(PAUSED_NAMES))
