"""Pings the addresses of schedules when a job of theirs starts and when one succeeds."""

import threading
import time
from collections.abc import Callable

from ayb_jobs.events import AlertsDelivered, AlertsUndelivered, Emit, JobsLeased, JobsSettled
from ayb_jobs.model.lifecycle import COMPLETED
from ayb_jobs.runtime.chores.courier import TURN_S, ping_address
from ayb_jobs.runtime.chores.posting import host_of, post
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.storage.schedules.alerts import ping_targets

# So often at most: a schedule that fires all the time costs one ping of each kind in a turn.
PING_S = 1.0
# It is woken once a ping waits.
FOR_EVER_S = 3600.0 * 24
MOST_TRIES = 3


class Pinger:
    """Pings a schedule's address when a job of it starts and when one succeeds.

    Subscribe it to the events, and call `tick` once it calls `wake`. Only the latest of each kind waits for each
    schedule, so that a dead address costs nothing but its own timeouts.
    """

    def __init__(
        self,
        database: Transactions,
        emit: Emit,
        *,
        base: str,
        timeout_s: float,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._emit = emit
        self._base = base
        self._timeout_s = timeout_s
        self._wake = wake
        self._rests = True
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], int] = {}
        self._failing: set[str] = set()

    def __call__(self, event: object) -> None:
        """Note the pings that an event calls for."""
        match event:
            case JobsLeased():
                self._note("/start", {job.schedule_id for job in event.jobs})
            case JobsSettled():
                completed = {each.job.schedule_id for each in event.settlements if each.state is COMPLETED}
                self._note("", completed)
            case _:
                pass

    def _note(self, path: str, schedule_ids: set[str | None]) -> None:
        with self._lock:
            for schedule_id in schedule_ids:
                if schedule_id is not None:
                    self._waiting[schedule_id, path] = 0
            wakes = self._rests and bool(self._waiting)
            self._rests = self._rests and not wakes
        if wakes:
            self._wake()

    def tick(self) -> float:
        """Send what waits, each ping up to three times; return the seconds until the next turn.

        It rests once a turn finds nothing: so a second lies between two turns that send.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._rests = not waiting
        if waiting:
            try:
                with self._database.transaction() as conn:
                    targets = ping_targets(conn, sorted({schedule_id for schedule_id, _ in waiting}))
            except Exception:
                for (schedule_id, path), tries in waiting.items():
                    self._put_back(schedule_id, path, tries)
                raise
            end = time.monotonic() + TURN_S
            for (schedule_id, path), tries in waiting.items():
                target = targets.get(schedule_id)
                url = target and ping_address(self._base, target.name, target.ping_url)
                if url and time.monotonic() < end:
                    self._ping(url, schedule_id, path, tries)
                elif url:
                    self._put_back(schedule_id, path, tries)
        return PING_S if waiting else FOR_EVER_S

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
