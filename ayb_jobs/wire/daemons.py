"""Daemons as the API shows them."""

from ayb_jobs.model.daemons import SeenDaemon
from ayb_jobs.wire.text import object_text


def daemon_text(seen: SeenDaemon) -> str:
    """Return a daemon's JSON."""
    daemon = seen.daemon
    fields = {
        "id": daemon.id,
        "host": daemon.host,
        "pid": daemon.pid,
        "version": daemon.version,
        "concurrency": daemon.concurrency,
        "queues": daemon.queues,
        "types": daemon.types,
        "startedAt": seen.started_at,
        "heartbeatAt": seen.heartbeat_at,
        "drainRequestedAt": seen.drain_requested_at,
        "silentSec": seen.silent_s,
        "running": seen.running,
        "atLeast": seen.cut,
        "stuckLoops": seen.stuck_loops or None,
        "stuckSlots": seen.stuck_slots or None,
    }
    return object_text(fields)
