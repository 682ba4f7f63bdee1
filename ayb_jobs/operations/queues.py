"""Pause and resume queues, job types and keys of limits."""

import json

from ayb_jobs.errors import Conflict
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.pauses import NewPause, Pausable, Pause, PauseKind
from ayb_jobs.operations.acting import Actor
from ayb_jobs.storage.audit import record_deed
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import pausable, pauses


def pause(conn: Connection, new: NewPause, *, actor: Actor) -> Pausable:
    """Pause a queue, a type or a key, or change the pause that it has, and return it.

    No look for jobs that begins once this is committed leases any of it. `waiting_for` names the daemons that may still
    start what they leased before. Schedules go on firing into it. Raises `NotFound` for a key of no limit.
    """
    with conn.transaction():
        made = pauses.pause(conn, new, by=actor.name[:100])
        action = f"{new.kind}.pause"
        record_deed(conn, actor=actor.name, action=action, target=new.name, after_text=json.dumps(_told(made)))
        paused = pausable.find_pausable(conn, new.kind, new.name)
    actor.tell(ActionTaken(actor=actor.name, action=action, target=new.name))
    return paused


def resume(conn: Connection, kind: PauseKind, name: str, *, actor: Actor) -> Pausable:
    """End a pause and return what was paused; raises `Conflict` if it is not paused."""
    with conn.transaction():
        ended = pauses.resume(conn, kind, name)
        if ended is None:
            raise Conflict(f"the {kind} {name} is not paused")
        action = f"{kind}.resume"
        record_deed(conn, actor=actor.name, action=action, target=name, before_text=json.dumps(_told(ended)))
        resumed = pausable.find_pausable(conn, kind, name)
    actor.tell(ActionTaken(actor=actor.name, action=action, target=name))
    return resumed


def _told(pause: Pause) -> dict[str, str | None]:
    until = None if pause.until is None else instant_text(pause.until)
    return {"reason": pause.reason, "until": until, "paused_at": instant_text(pause.paused_at)}
