"""Holds the daemon's lifeline, and takes over the jobs of peers whose lifeline broke, long before their leases run out.

A process that dies frees its lifeline at once. A live one may lose it too, with the connection: it then says so by way
of its other connections, and takes it anew. So a peer is held to be dead only where its lifeline is free at two looks
in a row, and it neither took it back nor gave any sign of life between them. A wrong verdict costs a run and no more:
the fence refuses whatever the living peer writes.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from ayb_jobs.events import Emit, Event, JobsLeased
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.fleet.forgetting import forget_each
from ayb_jobs.runtime.fleet.recovering import Recovering
from ayb_jobs.runtime.unlogged import Unlogged
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.fleet.lifelines import Lifeline, Sign, set_guarded
from ayb_jobs.storage.queue.recovery import find_leases_of_the_dead

# While jobs run anywhere; two looks make a verdict, so that a dead peer's jobs run again within two seconds.
BUSY_TURN_S = 0.5
# While none run, nothing is lost with a peer.
IDLE_TURN_S = 20.0
# How long the fleet counts as busy after a notification.
BUSY_S = 5.0
# After an outage all lifelines are free; the living need this long to take theirs again.
SETTLE_S = 2.0
BATCH = 500
FOR_EVER_S = 3600.0 * 24 * 365


class LifelineKeeper:
    """Keeps the lifeline and looks at the others' in its `tick`.

    `on_dead` are called once a peer was found dead: whoever finds what it left undone.
    """

    def __init__(
        self,
        *,
        database: Database,
        url: str,
        daemon: DaemonRecord,
        emit: Emit,
        backoff: Backoff,
        max_crashes: int,
        lease_s: float,
        wake: Callable[[], None],
        on_dead: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._database = database
        self._url = url
        self._daemon = daemon
        self._aside = Aside(emit, part="lifeline", table="_ayb_jobs")
        self._kept = Aside(emit, part="lifeline", table="_ayb_job_workers")
        self._recovering = Recovering(
            database=database,
            emit=emit,
            backoff=backoff,
            max_crashes=max_crashes,
            aside=self._aside,
            unlogged=Unlogged(emit),
        )
        self._lease_s = lease_s
        self._wake = wake
        self._on_dead = on_dead
        self._line: Lifeline | None = None
        self._held = False
        self._judging_from = 0.0
        self._busy_until = 0.0
        self._suspects: Mapping[str, Sign] = {}
        self._buried: dict[str, float] = {}

    def hear(self, event: Event) -> None:
        """Look more often if an event says that jobs are about to run; to be subscribed to the events."""
        if isinstance(event, JobsLeased):
            self.notified()

    def notified(self) -> None:
        """Look more often: jobs are about to run. Called for each notification: it must cost next to nothing."""
        now = time.monotonic()
        was_idle = now >= self._busy_until
        self._busy_until = now + BUSY_S
        if was_idle:
            self._wake()

    def describe(self, daemon: DaemonRecord) -> None:
        """Tell this of the daemon from now on."""
        self._daemon = daemon

    def tick(self) -> float:
        """Hold the lifeline, look once, and take over from the dead; return the seconds until the next look."""
        line = self._line or self._connect()
        if not line.possible:
            self.close()
            return FOR_EVER_S  # through a pooler nothing can be held; leases alone decide
        try:
            self._held = self._held or line.take()
            look = line.look(self._buried)
            self._held = self._held and look.guarded
        except Exception:
            self.close()
            self._tell_that_it_is_lost()
            raise
        if look.jobs_run:
            self._busy_until = time.monotonic() + BUSY_S
        self._judge(look.free)
        return BUSY_TURN_S if time.monotonic() < self._busy_until or look.free or not self._held else IDLE_TURN_S

    @property
    def held(self) -> bool:
        """Whether peers would notice at once that this process has ended."""
        return self._held

    def close(self) -> None:
        """Let go of the lifeline."""
        if self._line is not None:
            self._line.close()
        self._line = None
        self._held = False
        self._suspects = {}

    def _connect(self) -> Lifeline:
        try:
            self._line = Lifeline(
                self._url,
                self._daemon,
                name="ayb-jobs-lifeline",
                lease_s=self._lease_s,
                timeouts=self._database.timeouts,
                surroundings=self._database.known_at(self._url),
            )
        except Exception:
            self._tell_that_it_is_lost()
            raise
        self._judging_from = time.monotonic() + SETTLE_S
        return self._line

    def _tell_that_it_is_lost(self) -> None:
        """Keep the peers from taking this daemon for dead, by way of whatever connection works."""
        with self._database.connection() as conn:
            beat(conn, self._daemon)
            set_guarded(conn, self._daemon.id, guarded=False)

    def _judge(self, free: Mapping[str, Sign]) -> None:
        dead = {worker_id: sign for worker_id, sign in free.items() if self._suspects.get(worker_id) == sign}
        self._suspects = free if time.monotonic() >= self._judging_from else {}
        if dead:
            self._take_over({worker_id: sign.lease_until for worker_id, sign in dead.items() if sign.lease_until})
            self._bury(dead)
            for look in self._on_dead:
                look()
        now = time.monotonic()
        self._buried = {worker_id: until for worker_id, until in self._buried.items() if now < until}

    def _take_over(self, last_leases: Mapping[str, str]) -> None:
        may_be_more = bool(last_leases)
        while may_be_more:
            with self._database.connection() as conn:
                found = find_leases_of_the_dead(conn, dead=last_leases, limit=BATCH, aside=self._recovering.left_out())
            self._recovering.end(found)
            may_be_more = len(found) >= BATCH
        self._recovering.end_pass()

    def _bury(self, dead: Mapping[str, Sign]) -> None:
        """Forget the dead, but look at them for a while: a statement under way may yet lease."""
        until = time.monotonic() + self._database.timeouts.late_s
        forget_each(self._database, [id_ for id_, sign in dead.items() if sign.heartbeat_at is not None], self._kept)
        for worker_id, sign in dead.items():
            if sign.heartbeat_at is not None or sign.lease_until is not None:
                self._buried[worker_id] = until
