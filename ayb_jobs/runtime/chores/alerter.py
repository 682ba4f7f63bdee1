"""Finds what the world outside is to be told about schedules: what is overdue, and what failed for good."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from ayb_jobs.config import Alerts
from ayb_jobs.events import Emit, Events, ScheduleOverdue, ScheduleRecovered
from ayb_jobs.runtime.bell import Bell
from ayb_jobs.runtime.chores.courier import Address, Courier, FailPings, Webhook
from ayb_jobs.runtime.chores.pinger import Pinger
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.alerts import Noted, find_waiting, note_failures, note_overdue

T = TypeVar("T")

# An idle daemon should cost a database next to nothing: one look for all addresses.
WATCH_S = 20.0


class Chore(NamedTuple):
    """What is to be called in a loop of its own, and the bell that cuts its wait short."""

    tick: Callable[[], float]
    bell: Bell


def alert_chores(settings: Alerts, database: Transactions, events: Events) -> dict[str, Chore]:
    """Return the chores of alerting by name: one for each address, so that a slow one delays no other."""
    pinger = Pinger(database, events.emit, base=settings.ping_url, timeout_s=settings.timeout_s)
    events.subscribe(pinger)
    addresses: dict[str, Address] = {
        f"webhook {number}": Webhook(url, secret=settings.webhook_secret, timeout_s=settings.timeout_s)
        for number, url in enumerate(settings.webhooks, start=1)
    }
    addresses["fail pings"] = FailPings(settings.ping_url, timeout_s=settings.timeout_s)
    couriers = {name: Chore(Courier(database, at, events.emit).tick, Bell()) for name, at in addresses.items()}
    rings = {address.key: couriers[name].bell.ring for name, address in addresses.items()}
    alerter = Alerter(database, events.emit, rings)
    return {"alerter": Chore(alerter.tick, Bell()), "pinger": Chore(pinger.tick, Bell()), **couriers}


class Alerter:
    """Finds schedules that are overdue or recovered, and scheduled jobs that failed for good, in any daemon.

    `couriers` wake those who deliver, by their address's key.
    """

    def __init__(
        self, database: Transactions, emit: Emit, couriers: Mapping[str, Callable[[], None]] = MappingProxyType({})
    ) -> None:
        self._database = database
        self._emit = emit
        self._couriers = couriers

    def tick(self) -> float:
        """Note what has changed, each change once among all daemons; return the seconds until the next look.

        What fails in one step keeps none of the others from being done.
        """
        failures: list[Exception] = []
        with self._database.transaction() as conn:
            noted = _attempt(conn, lambda: note_overdue(conn), failures) or Noted((), ())
            _attempt(conn, lambda: note_failures(conn), failures)
            waiting = _attempt(conn, lambda: find_waiting(conn, list(self._couriers)), failures) or ()
        for key in waiting:
            self._couriers[key]()
        self._tell(noted)
        if failures:
            raise failures[0]
        return 0.0 if noted.begun else WATCH_S

    def _tell(self, noted: Noted) -> None:
        for each in noted.begun:
            self._emit(
                ScheduleOverdue(schedule_id=each.schedule_id, name=each.name, reason=each.reason, message=each.words)
            )
        for name in noted.ended:
            self._emit(ScheduleRecovered(name=name))


def _attempt(conn: Connection, step: Callable[[], T], failures: list[Exception]) -> T | None:
    """Do a step of a transaction; if it fails, undo it alone and note why."""
    try:
        with conn.transaction():
            return step()
    except Exception as error:  # noqa: BLE001 - raised by the caller, once the other steps stand
        failures.append(error)
        return None
