"""Drain a daemon."""

import json

from ayb_jobs.errors import Conflict, NotFound
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.daemons import SeenDaemon, checked_daemon
from ayb_jobs.operations.acting import Actor
from ayb_jobs.storage.audit import record_deed
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import find_daemon
from ayb_jobs.storage.fleet.draining import ask_drain, find_alive_by_part


def drain(conn: Connection, daemon: str, *, actor: Actor) -> SeenDaemon:
    """Ask a live daemon, given by its id or a part that no other has, to take no more jobs and to end; return it.

    It ends when its handlers have, and nothing tells them to. Raises `NotFound` if no live daemon has such an id, and
    `Conflict` if several have. A second request changes nothing.
    """
    with conn.transaction():
        worker_id = _named(conn, daemon)
        seen = find_daemon(conn, worker_id) if ask_drain(conn, worker_id) else None
        if seen is None:
            raise NotFound(f"daemon {worker_id} has just ended")
        told = {"host": seen.daemon.host, "pid": seen.daemon.pid, "version": seen.daemon.version}
        record_deed(conn, actor=actor.name, action="daemon.drain", target=worker_id[:100], after_text=json.dumps(told))
    actor.tell(ActionTaken(actor=actor.name, action="daemon.drain", target=worker_id))
    return seen


def _named(conn: Connection, daemon: str) -> str:
    found = find_alive_by_part(conn, checked_daemon(daemon))
    if not found:
        raise NotFound(f"there is no live daemon {daemon}")
    if len(found) > 1 and found[0] != daemon:
        raise Conflict(f"{daemon} is part of several daemons' ids: {', '.join(found)}; give more of one")
    return found[0]
