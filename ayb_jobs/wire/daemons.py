"""Daemons as the API shows them."""

from ayb_jobs.model.daemons import SeenWorker
from ayb_jobs.wire.text import object_text


def worker_text(seen: SeenWorker) -> str:
    """Return a daemon's JSON."""
    worker = seen.worker
    fields = {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "concurrency": worker.concurrency,
        "queues": worker.queues,
        "types": worker.types,
        "startedAt": seen.started_at,
        "heartbeatAt": seen.heartbeat_at,
        "silentSec": seen.silent_s,
        "running": seen.running,
    }
    return object_text(fields)
