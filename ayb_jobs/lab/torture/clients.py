"""The clients: threads that enqueue and cancel jobs, and try again under the same key whenever no answer came."""

import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress

import psycopg

from ayb_jobs.client.batches import batch
from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.errors import AybJobsError, Conflict, DatabaseError, NotFound
from ayb_jobs.lab.torture.history import History
from ayb_jobs.lab.torture.workload import (
    BATCHED,
    CALLBACK,
    CLAIMING,
    MOST_MEMBERS,
    VOLLEY,
    VOLLEYS,
    as_member,
    new_job,
    unique_job,
)
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, Timeouts, connect
from ayb_jobs.storage.queue.canceling import cancel_running_job
from ayb_jobs.storage.queue.jobs import cancel_job

NAME = "torture-client"
CANCELED = 0.02
# The share of jobs whose parents are canceled, of those that are then held.
FORSAKEN = 0.3
RECENT = 50
RUNNING = """
    SELECT idempotency_key, id::text FROM _ayb_jobs
    WHERE state = 'running' AND idempotency_key ^@ %s
    ORDER BY last_run_at
    LIMIT 1
"""


class Client:
    """One client. It enqueues while there is `room`, and always finishes what it has begun.

    Of types that have a limit it begins nothing unless `allow_limited` says so. `takes_limited` tells whether it may be
    enqueueing some of them.
    """

    def __init__(
        self,
        number: int,
        *,
        url: str,
        seed: int,
        history: History,
        room: threading.Event,
        lease_s: float,
        isolated: bool,
    ) -> None:
        self.enqueued = 0
        self.takes_limited = False
        self._may_take_limited = False
        self._turn = threading.Lock()
        self._number = number
        self._url = url
        self._chance = random.Random(f"{seed}/client/{number}")
        self._history = history
        self._room = room
        self._lease_s = lease_s
        self._isolated = isolated
        self._stopped = threading.Event()
        self._conn: Connection | None = None
        self._recent: deque[tuple[str, str]] = deque(maxlen=RECENT)
        self._thread = threading.Thread(target=self._work, name=f"client-{number}", daemon=True)

    def start(self) -> None:
        """Start enqueueing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop enqueueing, and wait for the last answer."""
        self._stopped.set()
        self._thread.join()

    def allow_limited(self, *, allowed: bool) -> None:
        """Have it enqueue jobs of types that have a limit, or no more once it no longer `takes_limited`."""
        with self._turn:
            self._may_take_limited = allowed

    def _work(self) -> None:
        began = False
        while not self._stopped.is_set():
            with self._turn:
                self.takes_limited = self._may_take_limited
            if not self._room.wait(0.05):
                continue
            if self.takes_limited and not began:
                began = True
                for job_type in sorted(VOLLEYS):
                    self._enqueue_volley(job_type)
            if self._chance.random() < CLAIMING:
                self._enqueue_unique()
            if self._chance.random() < BATCHED:
                self._enqueue_batch()
            else:
                self._enqueue()
            if self._recent and self._chance.random() < CANCELED:
                self._cancel(*self._chance.choice(self._recent), cancel_job)
            if self._chance.random() < CANCELED:
                self._cancel_running()
        if self._conn is not None:
            self._conn.close()

    def _enqueue(self) -> None:
        job_type = self._enqueue_one()
        if job_type in VOLLEYS:
            self._enqueue_volley(job_type)

    def _enqueue_volley(self, job_type: str) -> None:
        for _ in range(VOLLEY):
            self._enqueue_one(job_type)

    def _enqueue_one(self, job_type: str | None = None) -> str:
        """Enqueue the next job of the mix, or one of a type, and return its type."""
        key, job = self._next_job(job_type)
        while True:
            self._history.note("enqueue", key, "ask")
            try:
                made = enqueue(self._connection(), job)
            except (psycopg.Error, AybJobsError):
                self._history.note("enqueue", key, "unknown")
                self._reconnect()
                continue
            self._history.note("enqueue", key, "ok", made.id)
            self._recent.append((key, made.id))
            if job.on_parent_failure == "hold" and self._chance.random() < FORSAKEN:
                self._cancel_parents(job)
            return job.type

    def _next_job(self, job_type: str | None = None) -> tuple[str, NewJob]:
        key = f"{self._number}-{self.enqueued}"
        earlier = [job_id for _, job_id in self._recent]
        self.enqueued += 1
        job = new_job(
            self._chance, key, lease_s=self._lease_s, earlier=earlier, job_type=job_type, isolated=self._isolated
        )
        if job.type in VOLLEYS and not self.takes_limited:
            job = job._replace(type="torture_work")
        return key, job

    def _enqueue_unique(self) -> None:
        """Enqueue a job with a unique key, once: nobody is told of its holder, and no answer is repeated."""
        try:
            enqueue(self._connection(), unique_job(self._chance))
        except Conflict:
            pass
        except (psycopg.Error, AybJobsError):
            self._reconnect()

    def _enqueue_batch(self) -> None:
        """Make a batch in one transaction, or job by job. If no answer comes, another one is made of what is left."""
        asked = [self._next_job() for _ in range(self._chance.randint(1, MOST_MEMBERS))]
        jobs = [(key, as_member(self._chance, job)) for key, job in asked]
        at_once = self._chance.random() < 1 / 2
        for key, _ in jobs:
            self._history.note("enqueue", key, "ask")
        while True:
            try:
                conn = self._connection()
                with (
                    conn.transaction() if at_once else nullcontext(),
                    batch(conn, on_success=CALLBACK, on_failure=CALLBACK, on_done=CALLBACK) as made,
                ):
                    ids = [made.enqueue(job).id for _, job in jobs]
            except (psycopg.Error, AybJobsError):
                for key, _ in jobs:
                    self._history.note("enqueue", key, "unknown")
                self._reconnect()
                continue
            for (key, _), job_id in zip(jobs, ids, strict=True):
                self._history.note("enqueue", key, "ok", job_id)
                self._recent.append((key, job_id))
            return

    def _cancel_running(self) -> None:
        """Ask for a job of its own that runs to be canceled, if there is any."""
        try:
            running = self._connection().execute(RUNNING, (f"{self._number}-",)).fetchone()
        except (psycopg.Error, DatabaseError):
            self._reconnect()
            return
        if running is not None:
            key, job_id = running
            self._cancel(key, job_id, cancel_running_job)

    def _cancel_parents(self, child: NewJob) -> None:
        """Cancel those that a job waits for and that do not run yet, so that it is held."""
        for key, job_id in [known for known in self._recent if known[1] in child.depends_on]:
            self._cancel(key, job_id, cancel_job)

    def _cancel(self, key: str, job_id: str, cancel: Callable[[Connection, str], object]) -> None:
        self._history.note("cancel", key, "ask", job_id)
        try:
            cancel(self._connection(), job_id)
        except (Conflict, NotFound):
            self._history.note("cancel", key, "fail", job_id)
        except (psycopg.Error, DatabaseError):
            self._history.note("cancel", key, "unknown", job_id)
            self._reconnect()
        else:
            self._history.note("cancel", key, "ok", job_id)

    def _connection(self) -> Connection:
        if self._conn is None:
            self._conn = connect(self._url, name=NAME, timeouts=Timeouts(connect_s=3, statement_s=10))
        return self._conn

    def _reconnect(self) -> None:
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.close()
        self._conn = None
        self._stopped.wait(0.05)
