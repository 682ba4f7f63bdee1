"""Queues, job types and keys of limits as the API shows them."""

from ayb_jobs.model.pauses import Pausable, Pause
from ayb_jobs.wire.text import Stored, object_text


def pausable_text(seen: Pausable) -> str:
    """Return JSON of a queue, a type or a key; `paused` and `waitingFor` are left out if it is not paused."""
    fields = {
        "name": seen.name,
        "due": seen.due,
        "running": seen.running,
        "atLeast": seen.cut,
        "daemons": seen.daemons,
        "paused": None if seen.pause is None else Stored(pause_text(seen.pause)),
        "waitingFor": list(seen.waiting_for) if seen.pause else None,
    }
    return object_text(fields)


def pause_text(pause: Pause) -> str:
    """Return a pause's JSON."""
    return object_text({"since": pause.paused_at, "by": pause.paused_by, "reason": pause.reason, "until": pause.until})
