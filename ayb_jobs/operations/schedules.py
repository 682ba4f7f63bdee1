"""Create, change, switch, delete and trigger schedules."""

from collections.abc import Iterable, Mapping
from typing import Any

from ayb_jobs.errors import Conflict
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.job import Job
from ayb_jobs.model.schedules.schedule import NewSchedule, Schedule
from ayb_jobs.operations.acting import Actor, Begin, changing, record_made
from ayb_jobs.operations.defaults import FindDefaults
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.schedules import schedules


def create(conn: Connection, new: NewSchedule, *, actor: Actor, defaults: FindDefaults) -> Schedule:
    """Create a schedule, whose first fire is the first one after now, and return it.

    Raises `InvalidInput` for values that cannot be used, and `Conflict` if the name is taken.
    """
    known = defaults(new.job_type)
    known.bounds.check(new.payload)
    with conn.transaction():
        made = schedules.create_schedule(conn, new, default_max_attempts=known.max_attempts)
        record_made(conn, "schedule", made.id, actor=actor, action="schedule.create")
    actor.tell(ActionTaken(actor=actor.name, action="schedule.create", target=made.id))
    return made


def create_all(
    conn: Connection, wanted: Iterable[NewSchedule], *, actor: Actor, defaults: FindDefaults
) -> list[Schedule]:
    """Create all of these schedules or none, and return them. Raises as `create` does."""
    told: list[ActionTaken] = []
    quiet = Actor(name=actor.name, tell=told.append)
    with conn.transaction():
        try:
            made = [create(conn, new, actor=quiet, defaults=defaults) for new in wanted]
        except Conflict as error:
            raise Conflict(f"{error}; nothing was created") from None
    for action in told:
        actor.tell(action)
    return made


def update(conn: Connection, key: str, changes: Mapping[str, Any], *, actor: Actor, defaults: FindDefaults) -> Schedule:
    """Change the fields of a schedule that are given, by their names in `NewSchedule`, and return it.

    `key` is its id or its name. If its timing changes, its next run is the first after now.
    Raises `InvalidInput`, `NotFound`, or `Conflict` if a new name is taken.
    """
    if "payload" in changes:
        job_type = changes.get("job_type") or schedules.get_schedule(conn, key).job_type
        defaults(job_type).bounds.check(changes["payload"])
    return _change(conn, key, changes, actor, "schedule.update")


def enable(conn: Connection, key: str, *, actor: Actor) -> Schedule:
    """Enable a schedule and return it; its next run is the first after now. Raises `NotFound`."""
    return _change(conn, key, {"enabled": True}, actor, "schedule.enable")


def disable(conn: Connection, key: str, *, actor: Actor) -> Schedule:
    """Disable a schedule, which then shows no next run, and return it. Raises `NotFound`."""
    return _change(conn, key, {"enabled": False}, actor, "schedule.disable", forget_next_run=True)


def _change(
    conn: Connection,
    key: str,
    changes: Mapping[str, Any],
    actor: Actor,
    action: str,
    *,
    forget_next_run: bool = False,
) -> Schedule:
    found = schedules.get_schedule(conn, key)
    with changing(conn, "schedule", found.id, actor=actor, action=action):
        return schedules.update_schedule(conn, found.id, changes, forget_next_run=forget_next_run)


def delete(begin: Begin, key: str, *, actor: Actor) -> Schedule:
    """Delete a schedule with the record of its fires, and return what it was; its jobs stay. Raises `NotFound`.

    Its ended jobs are taken from it first, in steps: there may be hundreds of thousands.
    """
    more = True
    while more:
        with begin() as conn:
            more = schedules.detach_ended_jobs(conn, key)
    told: list[ActionTaken] = []
    with begin() as conn:
        found = schedules.get_schedule(conn, key)
        quiet = Actor(name=actor.name, tell=told.append)
        with changing(conn, "schedule", found.id, actor=quiet, action="schedule.delete"):
            deleted = schedules.delete_schedule(conn, found.id)
    for action in told:
        actor.tell(action)
    return deleted


def trigger(conn: Connection, key: str, *, actor: Actor, once: str | None = None) -> Job:
    """Enqueue a schedule's job now, enabled or not, and return the job; its fires stay as they are.

    The deed is about the schedule, and shows the job that was made. If a job has the idempotency key `once`, that one
    is the answer, and nothing is recorded. Raises `NotFound`.
    """
    with conn.transaction():
        made = schedules.trigger_schedule(conn, key, once=once)
        job = get_job(conn, made.id)
        if not made.created:
            return job
        record_made(conn, "job", job.id, actor=actor, action="schedule.trigger", target=job.schedule_id)
    enqueued = {job.type: 1}
    actor.tell(ActionTaken(actor=actor.name, action="schedule.trigger", target=job.schedule_id, enqueued=enqueued))
    return job
