"""Fetches payloads that leasing left in the database: those too large to be leased many at once."""

import threading
from collections.abc import Callable
from typing import NamedTuple

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.leasing import LONGEST_LEASED_PAYLOAD, Payload, fetch_payload

# What our own API and client take at most; a slot may always have one such payload.
UNCOUNTED_BYTES = 1024 * 1024
# What all larger payloads of a daemon may have together, and one of them by itself.
BUDGET_BYTES = 64 * 1024 * 1024
LOOK_S = 0.2


class Fetched(NamedTuple):
    """A job with its payload, and the bytes that it takes up of the budget."""

    job: LeasedJob
    bytes: int


class Payloads:
    """Fetches one payload at a time, and lets those beyond 1 MiB be held only as far as a budget allows."""

    def __init__(self, *, database: Database, budget_bytes: int = BUDGET_BYTES) -> None:
        self._database = database
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._changed = threading.Condition()
        self._fetching = threading.Lock()  # the server may need a gigabyte to write one as text

    @staticmethod
    def are_left(job: LeasedJob) -> bool:
        """Tell whether leasing left this job's payload in the database, or cut it."""
        text = job.payload_text
        return text is None or len(text) > LONGEST_LEASED_PAYLOAD

    def fetch(self, job: LeasedJob, give_up: Callable[[], bool]) -> Fetched | None:
        """Return the job with its payload, once there is room for it; None if its lease is lost, or `give_up` says so.

        The payload is None if it is larger than anybody could use. Whoever gets one must give it back with `put_back`.
        Raises the database's errors.
        """
        payload = self._fetch(job, UNCOUNTED_BYTES)
        if payload is None or payload.text is not None or payload.bytes is None or payload.bytes > self._budget_bytes:
            return None if payload is None else Fetched(job._replace(payload_text=payload.text), 0)
        if not self._reserve(payload.bytes, give_up):
            return None
        fetched = Fetched(job, payload.bytes)
        try:
            payload = self._fetch(job, payload.bytes)
        except BaseException:
            self.put_back(fetched)
            raise
        if payload is None:
            self.put_back(fetched)
            return None
        return fetched._replace(job=job._replace(payload_text=payload.text))

    def put_back(self, fetched: Fetched) -> None:
        """Give back a payload's share of the budget."""
        if fetched.bytes:
            with self._changed:
                self._held_bytes -= fetched.bytes
                self._changed.notify_all()

    def _fetch(self, job: LeasedJob, most_bytes: int) -> Payload | None:
        with self._fetching, self._database.connection() as conn:
            return fetch_payload(conn, job, most_bytes=most_bytes)

    def _reserve(self, size: int, give_up: Callable[[], bool]) -> bool:
        with self._changed:
            while not give_up():
                if self._held_bytes + size <= self._budget_bytes:
                    self._held_bytes += size
                    return True
                self._changed.wait(LOOK_S)
            return False
