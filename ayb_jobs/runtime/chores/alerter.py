"""Finds what the world outside is to be told about schedules: what is overdue, and what failed for good."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ayb_jobs.config import Alerts
from ayb_jobs.events import Emit, Events, ScheduleOverdue, ScheduleRecovered
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.bell import Bell
from ayb_jobs.runtime.chores.courier import Address, Courier, FailPings, Webhook
from ayb_jobs.runtime.chores.pinger import Pinger
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.runtime.narrowing import Narrowed, Patience, narrowed
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.schedules.alerts import (
    Among,
    Noted,
    find_failing,
    find_newly_overdue,
    find_recovered,
    note_failures,
    note_overdue,
    note_recovered,
)
from ayb_jobs.storage.schedules.deliveries import find_waiting

# An idle daemon should cost a database next to nothing: one look for all addresses.
WATCH_S = 20.0


class Chore(NamedTuple):
    """What is to be called in a loop of its own, and the bell that cuts its wait short."""

    tick: Callable[[], float]
    bell: Bell


def alert_chores(settings: Alerts, database: Transactions, events: Events) -> dict[str, Chore]:
    """Return the chores of alerting by name: one for each address, so that a slow one delays no other."""
    bell = Bell()
    pinger = Pinger(database, events.emit, base=settings.ping_url, timeout_s=settings.timeout_s, wake=bell.ring)
    events.subscribe(pinger)
    addresses: dict[str, Address] = {
        f"webhook {number}": Webhook(url, secrets=settings.webhook_secrets, timeout_s=settings.timeout_s)
        for number, url in enumerate(settings.webhooks, start=1)
    }
    addresses["fail pings"] = FailPings(settings.ping_url, timeout_s=settings.timeout_s)
    couriers = {name: Chore(Courier(database, at, events.emit).tick, Bell()) for name, at in addresses.items()}
    rings = {address.key: couriers[name].bell.ring for name, address in addresses.items()}
    alerter = Alerter(database, events.emit, rings)
    return {"alerter": Chore(alerter.tick, Bell()), "pinger": Chore(pinger.tick, bell), **couriers}


class Step(NamedTuple):
    """One thing that is noted: how, which schedules it would be noted of, and those that cannot be."""

    note: Callable[[Connection, Among], Noted]
    find: Callable[[Connection, Sequence[str]], list[str]]
    aside: Aside
    patience: Patience


class Alerter:
    """Finds schedules that are overdue or recovered, and scheduled jobs that failed for good, in any daemon.

    `couriers` wake those who deliver, by their address's key. A schedule of which the database refuses to have
    something noted is set aside for that; the others go on.
    """

    def __init__(
        self, database: Transactions, emit: Emit, couriers: Mapping[str, Callable[[], None]] = MappingProxyType({})
    ) -> None:
        self._database = database
        self._emit = emit
        self._couriers = couriers
        self._steps = [
            Step(note, find, Aside(emit, part="alerter", table="_ayb_job_schedules"), Patience())
            for note, find in (
                (note_overdue, find_newly_overdue),
                (note_recovered, find_recovered),
                (note_failures, find_failing),
            )
        ]

    def tick(self) -> float:
        """Note what has changed, each change once among all daemons; return the seconds until the next look.

        What fails in one step keeps none of the others from being done.
        """
        failures: list[Exception] = []
        refused: list[Step] = []
        noted: list[tuple[Step, Noted]] = []
        with self._database.transaction() as conn:
            for step in self._steps:
                try:
                    with conn.transaction():
                        noted.append((step, step.note(conn, Among(step.aside.ids()))))
                except Exception as error:  # raised below, once the other steps stand
                    refused.append(step) if step.patience.blames(error) else failures.append(error)
                else:
                    step.patience.begin_anew()
            waiting = find_waiting(conn, list(self._couriers))
        are_left = False
        for step in refused:
            written = self._narrowed(step, failures)
            noted += [(step, each) for each in written.done]
            are_left = are_left or bool(written.left)
        for step, each in noted:
            self._tell(step, each)
        for key in self._couriers if refused else waiting:
            self._couriers[key]()
        if failures:
            raise failures[0]
        return 0.0 if are_left or any(each.begun for _, each in noted) else WATCH_S

    def _narrowed(self, step: Step, failures: list[Exception]) -> Narrowed[str, Noted]:
        """Note what the database accepts, and set aside the schedules of which it does not."""

        def note(ids: Sequence[str]) -> Noted:
            with self._database.transaction() as conn:
                return step.note(conn, Among(step.aside.ids(), ids))

        try:
            with self._database.transaction() as conn:
                ids = step.find(conn, step.aside.ids())
            written = narrowed(ids, note, blames=step.patience.blames)
        except Exception as error:  # raised by the caller, once the other steps stand
            failures.append(error)
            return Narrowed((), ())
        step.patience.begin_anew()
        step.aside.put_all(written.refused)
        return written

    def _tell(self, step: Step, noted: Noted) -> None:
        step.aside.put_all([(schedule_id, RowUnchanged()) for schedule_id in noted.unchanged])
        for each in noted.begun:
            self._emit(
                ScheduleOverdue(schedule_id=each.schedule_id, name=each.name, reason=each.reason, message=each.words)
            )
        for name in noted.ended:
            self._emit(ScheduleRecovered(name=name))
