"""Finds what the world outside is to be told about schedules: what is overdue, and what failed for good."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import NamedTuple

from ayb_jobs.config import Alerts
from ayb_jobs.events import Emit, Events, ScheduleOverdue, ScheduleRecovered
from ayb_jobs.runtime.bell import Bell
from ayb_jobs.runtime.chores.courier import Address, Courier, FailPings, Webhook
from ayb_jobs.runtime.chores.pinger import Pinger
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.storage.schedules.alerts import find_waiting, note_failures, note_overdue

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
        self._may_be_more = False

    def tick(self) -> float:
        """Note what has changed, each change once among all daemons; return the seconds until the next look.

        Each step is a transaction of its own, and what fails keeps none of the others from being done.
        """
        with ExitStack() as steps:  # which does them all from the last to the first, and then raises what was raised
            steps.callback(self._wake_couriers)
            steps.callback(self._note_failures)
            steps.callback(self._note_overdue)
        return 0.0 if self._may_be_more else WATCH_S

    def _note_overdue(self) -> None:
        self._may_be_more = False
        with self._database.transaction() as conn:
            noted = note_overdue(conn)
        self._may_be_more = bool(noted.begun)
        for each in noted.begun:
            self._emit(
                ScheduleOverdue(schedule_id=each.schedule_id, name=each.name, reason=each.reason, message=each.words)
            )
        for name in noted.ended:
            self._emit(ScheduleRecovered(name=name))

    def _note_failures(self) -> None:
        with self._database.transaction() as conn:
            note_failures(conn)

    def _wake_couriers(self) -> None:
        with self._database.transaction() as conn:
            waiting = find_waiting(conn, list(self._couriers))
        for key in waiting:
            self._couriers[key]()
