"""Delivers alerts to the addresses that are to be told, each again and again until it takes them."""

import json
import time
from typing import Protocol
from urllib.parse import quote

from ayb_jobs.events import AlertsDelivered, AlertsUndelivered, Emit
from ayb_jobs.runtime.chores.posting import host_of, post, signature
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.storage.schedules.alerts import Alert, settle_delivery, take_delivery

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


def ping_address(base: str, name: str, own: str | None) -> str | None:
    """Return a schedule's address for pings: its own, or its name under the common one, or None."""
    if own:
        return own.rstrip("/")
    return f"{base.rstrip('/')}/{quote(name, safe='')}" if base else None
