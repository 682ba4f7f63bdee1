"""How a request changes something: in one transaction, or in steps, in the name of its caller."""

from collections.abc import Iterator
from contextlib import contextmanager

from ayb_jobs.http.edge.auth import Caller
from ayb_jobs.http.services import Services
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.operations.acting import Actor, Begin
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.requests import writing


@contextmanager
def acting(services: Services, caller: Caller, *, timeout_s: float | None = None) -> Iterator[tuple[Connection, Actor]]:
    """Lend a transaction, and who acts in it; what they did is told once it is committed.

    A statement may take `timeout_s`, or as long as the services say.
    """
    told: list[ActionTaken] = []
    with writing(services.database, timeout_s or services.write_timeout_s) as conn:
        yield conn, Actor(name=caller.name, tell=told.append)
    for action in told:
        services.events.emit(action)


def acting_in_steps(services: Services, caller: Caller) -> tuple[Begin, Actor]:
    """Return what opens a transaction for each step of an operation, and who acts."""
    return (
        lambda: writing(services.database, services.write_timeout_s),
        Actor(name=caller.name, tell=services.events.emit),
    )
