"""Delivers alerts to the addresses that are to be told, each again and again until it takes them."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import quote

from ayb_jobs.events import AlertsDelivered, AlertsUndelivered, Emit
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.chores.posting import Message, host_of, post
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.faults import RowUnchanged, was_refused
from ayb_jobs.storage.schedules.deliveries import (
    Alert,
    address_alerts,
    find_deliveries,
    find_unaddressed,
    settle_delivery,
    take_delivery,
)

# The alerter wakes a courier that has something to deliver.
COURIER_S = 3600.0
# A turn ends after this time, whatever still waits: a loop that is silent for long looks stuck.
TURN_S = 20.0


class Address(Protocol):
    """Where alerts go: told one, it returns what went wrong, or None."""

    key: str
    host: str

    def tell(self, alert: Alert) -> str | None:
        """Deliver one alert."""
        ...


class Webhook:
    """An address that gets each alert as JSON, signed by each of the secrets."""

    def __init__(self, url: str, *, secrets: Sequence[str], timeout_s: float) -> None:
        self.key = url
        self.host = host_of(url)
        self._url = url
        self._secrets = secrets
        self._timeout_s = timeout_s

    def tell(self, alert: Alert) -> str | None:
        """Post one alert. A repeated delivery bears the same `webhook-id`."""
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
        return post(
            self._url,
            body,
            headers={"Content-Type": "application/json"},
            message=Message(alert.id, self._secrets),
            timeout_s=self._timeout_s,
        )


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
    """Delivers alerts to one address, again and again until it takes them; a slow one delays no other.

    An alert whose delivery the database refuses to record is set aside; the others go on.
    """

    def __init__(self, database: Transactions, address: Address, emit: Emit) -> None:
        self._database = database
        self._address = address
        self._emit = emit
        self._failing = False
        self._aside = Aside(emit, part="courier", table="_ayb_job_alert_deliveries")
        self._addressing = Patience()
        self._taking = Patience()
        # What the address took, though that could not be recorded: it is not told again.
        self._delivered: set[str] = set()

    def tick(self) -> float:
        """Deliver what is due; return the seconds until the next look, which the alerter cuts short."""
        end = time.monotonic() + TURN_S
        self._address_new(end)
        may_be_more = True
        while may_be_more:
            may_be_more = False  # unless something is done: what somebody else has locked is found again at once
            for alert_id in self._find():
                may_be_more = self._deliver(alert_id) or may_be_more
                if time.monotonic() >= end:
                    return 0.0
        return COURIER_S

    def _address_new(self, end: float) -> None:
        """Have the address told of alerts that were noted of late, but for those of which the database refuses it."""
        may_be_more = True
        while may_be_more and time.monotonic() < end:
            with self._database.transaction() as conn:
                found = find_unaddressed(conn, self._address.key, aside=self._aside.ids())
            written = narrowed(found, self._write_addresses, blames=self._addressing.blames)
            self._addressing.begin_anew()
            self._aside.put_all(written.refused)
            self._aside.put_all([(id_, RowUnchanged()) for kept in written.done for id_ in kept])
            may_be_more = bool(found)

    def _write_addresses(self, alert_ids: Sequence[str]) -> list[str]:
        with self._database.transaction() as conn:
            return address_alerts(conn, self._address.key, alert_ids)

    def _find(self) -> list[str]:
        with self._database.transaction() as conn:
            return find_deliveries(conn, self._address.key, aside=self._aside.ids())

    def _deliver(self, alert_id: str) -> bool:
        """Tell the address one alert; False if that is somebody else's to do."""
        alert = self._take(alert_id)
        if alert is None:
            return alert_id in self._aside.ids()
        error = None if alert_id in self._delivered else self._address.tell(alert)
        self._tell_change(error)
        try:
            with self._database.transaction() as conn:
                settle_delivery(conn, alert_id, self._address.key, error)
        except Exception as refusal:
            if error is None:
                self._delivered.add(alert_id)
            if not _is_refusal(refusal, was_refused):
                raise
            self._aside.put(alert_id, refusal)
            self._delivered &= set(self._aside.waits.all())
        else:
            self._delivered.discard(alert_id)
            self._aside.forget(alert_id)
        return True

    def _take(self, alert_id: str) -> Alert | None:
        """Return an alert that is to be told now; None if somebody else tells it, or if it is set aside."""
        try:
            with self._database.transaction() as conn:
                taken = take_delivery(conn, alert_id, self._address.key)
        except Exception as refusal:
            if not _is_refusal(refusal, self._taking.blames):
                raise
            self._aside.put(alert_id, refusal)
            taken = None
        self._taking.begin_anew()
        return taken

    def _tell_change(self, error: str | None) -> None:
        if error is not None and not self._failing:
            self._emit(AlertsUndelivered(host=self._address.host, error=error))
        if error is None and self._failing:
            self._emit(AlertsDelivered(host=self._address.host))
        self._failing = error is not None


def _is_refusal(error: Exception, blames: Callable[[Exception], bool]) -> bool:
    """Tell whether the database refuses to change a row, with an error or without."""
    return isinstance(error, RowUnchanged) or blames(error)


def ping_address(base: str, name: str, own: str | None) -> str | None:
    """Return a schedule's address for pings: its own, or its name under the common one, or None."""
    if own:
        return own.rstrip("/")
    return f"{base.rstrip('/')}/{quote(name, safe='')}" if base else None
