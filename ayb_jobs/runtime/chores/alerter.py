"""Telling the world outside about schedules: what is overdue, what failed, and a ping for each run."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote

from ayb_jobs.config import Alerts
from ayb_jobs.events import (
    AlertsDelivered,
    AlertsUndelivered,
    Events,
    JobsLeased,
    JobsSettled,
    ScheduleOverdue,
    ScheduleRecovered,
)
from ayb_jobs.model.job import JobState
from ayb_jobs.runtime.chores.posting import host_of, post, signature
from ayb_jobs.runtime.chores.scheduler import Transactions
from ayb_jobs.storage.schedules.alerts import (
    Alert,
    find_waiting,
    note_failures,
    note_overdue,
    ping_targets,
    settle_delivery,
    take_delivery,
)

# An idle daemon should cost a database next to nothing: one look for all addresses, and couriers that sleep until woken.
WATCH_S = 20.0
COURIER_S = 3600.0
PING_S = 1.0
MOST_TRIES = 3

# A turn ends after this time, whatever still waits: a loop that is silent for long looks stuck.
TURN_S = 20.0

Emit = Callable[[object], None]


def alert_loops(
    settings: Alerts, database: Transactions, events: Events, waker: Callable[[str], Callable[[], None]]
) -> dict[str, Callable[[], float]]:
    """Return what is to be called in a loop of its own each, by name, so that a slow address delays no other.

    `waker` returns what wakes the loop of a name.
    """
    pinger = Pinger(database, events.emit, base=settings.ping_url, timeout_s=settings.timeout_s)
    events.subscribe(pinger)
    addresses: dict[str, Address] = {
        f"webhook {number}": Webhook(url, secret=settings.webhook_secret, timeout_s=settings.timeout_s)
        for number, url in enumerate(settings.webhooks, start=1)
    }
    addresses["fail pings"] = FailPings(settings.ping_url, timeout_s=settings.timeout_s)
    wakers = {address.key: waker(name) for name, address in addresses.items()}
    couriers = {name: Courier(database, address, events.emit).tick for name, address in addresses.items()}
    return {"alerter": Alerter(database, events.emit, wakers).tick, "pinger": pinger.tick, **couriers}


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
        """Note what has changed, each change once among all daemons; return the seconds until the next look."""
        with self._database.transaction() as conn:
            noted = note_overdue(conn)
            note_failures(conn)
            waiting = find_waiting(conn, list(self._couriers))
        for key in waiting:
            self._couriers[key]()
        for each in noted.begun:
            self._emit(
                ScheduleOverdue(schedule_id=each.schedule_id, name=each.name, reason=each.reason, message=each.words)
            )
        for name in noted.ended:
            self._emit(ScheduleRecovered(name=name))
        return WATCH_S if not noted.begun else 0.0


class Address(Protocol):
    """Where alerts go: told one, it returns what went wrong, or None."""

    key: str
    host: str

    def tell(self, alert: Alert) -> str | None:
        """Deliver one alert."""
        ...


class Webhook:
    """An address that gets each alert as JSON, signed where there is a secret."""

    def __init__(self, url: str, *, secret: str, timeout_s: float) -> None:
        self.key = url
        self.host = host_of(url)
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_s

    def tell(self, alert: Alert) -> str | None:
        """Post one alert. A repeated delivery bears the same `X-Ayb-Jobs-Delivery`."""
        body = json.dumps(
            {
                "id": alert.id,
                "kind": alert.kind,
                "schedule": alert.schedule,
                "scheduleId": alert.schedule_id,
                "message": alert.message,
                "at": alert.at.isoformat(),
            }
        ).encode()
        headers = {"Content-Type": "application/json", "X-Ayb-Jobs-Delivery": alert.id}
        if self._secret:
            headers["X-Ayb-Jobs-Signature"] = signature(self._secret, body)
        return post(self._url, body, headers=headers, timeout_s=self._timeout_s)


class FailPings:
    """The healthchecks-style addresses of schedules, told of what failed or is overdue. `base` is for those without."""

    def __init__(self, base: str, *, timeout_s: float) -> None:
        self.key = f"ping {base}"
        self.host = host_of(base) if base else "the schedules' own ping_url"
        self._base = base
        self._timeout_s = timeout_s

    def tell(self, alert: Alert) -> str | None:
        """Post to `…/fail`, where the schedule has an address and something is wrong with it."""
        url = ping_address(self._base, alert.schedule, alert.ping_url)
        if url is None or alert.kind == "recovered":
            return None
        return post(f"{url}/fail", alert.message.encode(), timeout_s=self._timeout_s)


class Courier:
    """Delivers alerts to one address, again and again until it takes them; a slow one delays no other."""

    def __init__(self, database: Transactions, address: Address, emit: Emit) -> None:
        self._database = database
        self._address = address
        self._emit = emit
        self._failing = False

    def tick(self) -> float:
        """Deliver what is due; return the seconds until the next look, which the alerter cuts short."""
        end = time.monotonic() + TURN_S
        while alert := self._take():
            error = self._address.tell(alert)
            with self._database.transaction() as conn:
                settle_delivery(conn, alert.id, self._address.key, error)
            self._tell_change(error)
            if time.monotonic() >= end:
                return 0.0
        return COURIER_S

    def _take(self) -> Alert | None:
        with self._database.transaction() as conn:
            return take_delivery(conn, self._address.key)

    def _tell_change(self, error: str | None) -> None:
        if error is not None and not self._failing:
            self._emit(AlertsUndelivered(host=self._address.host, error=error))
        if error is None and self._failing:
            self._emit(AlertsDelivered(host=self._address.host))
        self._failing = error is not None


class Pinger:
    """Pings a schedule's address when a job of it starts and when one succeeds.

    Subscribe it to the events. Only the latest of each kind waits for each schedule, so that a dead address costs
    nothing but its own timeouts.
    """

    def __init__(self, database: Transactions, emit: Emit, *, base: str, timeout_s: float) -> None:
        self._database = database
        self._emit = emit
        self._base = base
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], int] = {}
        self._failing: set[str] = set()

    def __call__(self, event: object) -> None:
        """Note the pings that an event calls for."""
        match event:
            case JobsLeased():
                self._note("/start", [job.schedule_id for job in event.jobs])
            case JobsSettled():
                completed = (each.job.schedule_id for each in event.settlements if each.state is JobState.COMPLETED)
                self._note("", list(completed))
            case _:
                pass

    def _note(self, path: str, schedule_ids: list[str | None]) -> None:
        with self._lock:
            for schedule_id in schedule_ids:
                if schedule_id is not None:
                    self._waiting[schedule_id, path] = 0

    def tick(self) -> float:
        """Send what waits, each ping up to three times; return the seconds until the next turn."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if waiting:
            with self._database.transaction() as conn:
                targets = ping_targets(conn, sorted({schedule_id for schedule_id, _ in waiting}))
            end = time.monotonic() + TURN_S
            for (schedule_id, path), tries in waiting.items():
                target = targets.get(schedule_id)
                url = target and ping_address(self._base, target.name, target.ping_url)
                if url and time.monotonic() < end:
                    self._ping(url, schedule_id, path, tries)
                elif url:
                    self._put_back(schedule_id, path, tries)
        return PING_S

    def _put_back(self, schedule_id: str, path: str, tries: int) -> None:
        with self._lock:
            self._waiting.setdefault((schedule_id, path), tries)

    def _ping(self, url: str, schedule_id: str, path: str, tries: int) -> None:
        error = post(f"{url}{path}", b"", timeout_s=self._timeout_s)
        host = host_of(url)
        if error is None:
            if host in self._failing:
                self._failing.discard(host)
                self._emit(AlertsDelivered(host=host))
            return
        if host not in self._failing:
            self._failing.add(host)
            self._emit(AlertsUndelivered(host=host, error=error))
        if tries + 1 < MOST_TRIES:
            self._put_back(schedule_id, path, tries + 1)


def ping_address(base: str, name: str, own: str | None) -> str | None:
    """Return a schedule's address for pings: its own, or its name under the common one, or None."""
    if own:
        return own.rstrip("/")
    return f"{base.rstrip('/')}/{quote(name, safe='')}" if base else None
