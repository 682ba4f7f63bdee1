"""Set and remove limits."""

import json

from ayb_jobs.errors import NotFound
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.limits import Limit, NewLimit
from ayb_jobs.operations.acting import Actor
from ayb_jobs.storage.audit import record_deed
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits


def put(conn: Connection, new: NewLimit, *, actor: Actor) -> Limit:
    """Make a limit, or change the one of its name, and return it; raises `Conflict` if a type has another.

    Every start from the commit on obeys it, but for daemons that are named in `waiting_for`. What runs goes on.
    """
    with conn.transaction():
        before = limits.find_limit(conn, new.name)
        limits.set_limit(conn, new, by=actor.name[:100])
        record_deed(
            conn,
            actor=actor.name,
            action="limit.set",
            target=new.name,
            before_text=None if before is None else json.dumps(before.new.definition()),
            after_text=json.dumps(new.definition()),
        )
        made = _get(conn, new.name)
    actor.tell(ActionTaken(actor=actor.name, action="limit.set", target=new.name))
    return made


def remove(conn: Connection, name: str, *, actor: Actor) -> Limit:
    """Remove a limit and return it as it was: what waits under it waits as other jobs do. Raises `NotFound`."""
    with conn.transaction():
        before = _get(conn, name)
        limits.remove_limit(conn, name)
        record_deed(
            conn,
            actor=actor.name,
            action="limit.remove",
            target=name,
            before_text=json.dumps(before.new.definition()),
        )
    actor.tell(ActionTaken(actor=actor.name, action="limit.remove", target=name))
    return before


def _get(conn: Connection, name: str) -> Limit:
    found = limits.find_limit(conn, name)
    if found is None:
        raise NotFound(f"there is no limit {name}")
    return found
