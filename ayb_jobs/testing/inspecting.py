"""What is enqueued, on the connection of whoever enqueued it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from ayb_jobs.client.drivers import sync_driver
from ayb_jobs.client.faults import worded
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.instants import instant
from ayb_jobs.model.payload import decode_payload, encode_payload
from ayb_jobs.storage.queue.testing import FIND_ENQUEUED, MAKE_DUE

# So many of the jobs that are enqueued are shown if none is the expected one.
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that waits, due or not."""

    id: str
    type: str
    payload: Any
    queue: str
    priority: int
    max_attempts: int
    run_at: datetime
    idempotency_key: str | None


FIELDS = tuple(field.name for field in fields(Waiting) if field.name not in {"id", "type", "payload"})


def enqueued(conn: Any, job_type: str | None = None) -> list[Waiting]:
    """Return the jobs that wait, of one type or of all, in the order in which they were made.

    `conn` is what `enqueue` takes; jobs of its own transaction are among them.
    """
    driver = sync_driver(conn)
    with worded("--read"):
        row = driver.fetch(FIND_ENQUEUED, {"type": job_type})
    found = decode_payload(row[0] if row else "[]")
    return [Waiting(**{**one, "run_at": instant(one["run_at"])}) for one in found]


def assert_enqueued(conn: Any, job_type: str, payload: object = None, **expected: object) -> Waiting:
    """Return the first job of this type that waits and is as expected; raise `AssertionError`, which lists what waits.

    An object as payload names the keys that count; others may be there. `expected` are fields of `Waiting`, such as
    `queue="mail"`. Without a payload any will do.
    """
    if unknown := [name for name in expected if name not in FIELDS]:
        raise InvalidInput(f"a waiting job has no {unknown[0]}; give one of {', '.join(FIELDS)}", field=unknown[0])
    wanted = None if payload is None else decode_payload(encode_payload(payload))
    waiting = enqueued(conn)
    for job in waiting:
        fits = all(getattr(job, name) == value for name, value in expected.items())
        if job.type == job_type and fits and holds(job.payload, wanted):
            return job
    wish = "".join(
        f", {name} {value!r}" for name, value in {"payload": payload, **expected}.items() if value is not None
    )
    raise AssertionError(f"no job {job_type}{wish} is enqueued; {told(waiting)}")


def holds(payload: object, wanted: object) -> bool:
    """Tell whether a payload is the wanted one, or has its keys with its values."""
    if isinstance(payload, Mapping) and isinstance(wanted, Mapping):
        return all(key in payload and payload[key] == value for key, value in wanted.items())
    return wanted is None or payload == wanted


def told(waiting: list[Waiting]) -> str:
    """Say which jobs wait."""
    if not waiting:
        return "nothing is"
    shown = [f"  {job.type} {encode_payload(job.payload)} in queue {job.queue}" for job in waiting[:MOST_SHOWN]]
    more = [f"  and {len(waiting) - MOST_SHOWN} more"] if len(waiting) > MOST_SHOWN else []
    return "\n".join(["these are:", *shown, *more])


def make_due(conn: Any, job_type: str | None = None) -> int:
    """Make the jobs due that wait for a later time, of one type or of all, such as those after a failed attempt.

    Return how many.
    """
    driver = sync_driver(conn)
    with worded("--daemon"):
        row = driver.fetch(MAKE_DUE, {"type": job_type})
    return int(row[0]) if row else 0
