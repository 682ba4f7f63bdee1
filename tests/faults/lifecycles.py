"""The daemon's exchanges with the database, each as one lifecycle: rows before, what is done, what must hold after.

Each is done by the daemon's own parts, in one thread and again until it succeeds, as the loops do it.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any

import psycopg
from psycopg.sql import SQL

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.config import Retention
from ayb_jobs.errors import AybJobsError, Conflict
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.lifecycle import settle_failure, settle_result
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.runtime.chores.scheduler import HELD_ELSEWHERE_S, Scheduler
from ayb_jobs.runtime.fleet.lifeline import LifelineKeeper
from ayb_jobs.runtime.fleet.recoverer import Recoverer
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.completer import Completer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.lease_keeper import LeaseKeeper
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.queue.jobs import cancel_job, retry_job
from tests.eventually import eventually
from tests.factories import make_job, make_schedule
from tests.producing import producing
from tests.running import silent_logger

TRIES = 8
ME = "me"
JOBS = 3


def persistently(act: Callable[[], Any]) -> Any:
    """Act until it succeeds, as a loop of the daemon does. A `Conflict` says that it was done already."""
    for _ in range(TRIES):
        with suppress(psycopg.Error, AybJobsError):
            return act()
    return act()


class Lifecycle:
    """A lifecycle, on one database: `prepare` and `judge` go there directly, `act` through the proxy."""

    needs_schema = True

    def prepare(self, conn: Connection) -> None:
        """Make the rows."""

    def act(self, db: Database) -> None:
        """Do it, until it is done."""
        raise NotImplementedError

    def judge(self, conn: Connection) -> None:
        """Assert what must hold after, whatever was broken."""
        raise NotImplementedError


class Enqueue(Lifecycle):
    def act(self, db: Database) -> None:
        job = NewJob(type="test", idempotency_key="once")

        def once() -> None:
            with closing(connect(db.url)) as conn:
                enqueue(conn, job)

        persistently(once)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state FROM _ayb_jobs") == ["queued"]


class EnqueueMany(Lifecycle):
    """A bulk is all or none; one whose answer was lost may be there twice, since it has no key."""

    def act(self, db: Database) -> None:
        def once() -> None:
            with closing(connect(db.url)) as conn:
                enqueue_many(conn, [NewJob(type="test") for _ in range(JOBS)])

        persistently(once)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT count(*) FROM _ayb_jobs") in ([JOBS], [2 * JOBS])


class Cancel(Lifecycle):
    def prepare(self, conn: Connection) -> None:
        self.job_id = make_job(conn)

    def act(self, db: Database) -> None:
        def once() -> None:
            with closing(connect(db.url)) as conn, suppress(Conflict):
                cancel_job(conn, self.job_id)

        persistently(once)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state FROM _ayb_jobs") == ["canceled"]


class Retry(Lifecycle):
    def prepare(self, conn: Connection) -> None:
        self.job_id = make_job(conn, "failed")

    def act(self, db: Database) -> None:
        def once() -> None:
            with closing(connect(db.url)) as conn, suppress(Conflict):
                retry_job(conn, self.job_id)

        persistently(once)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state, attempts FROM _ayb_jobs") == [("queued", 0)]


class Running(Lifecycle):
    """What holds jobs: the base of the lifecycles of a run."""

    def parts(self, db: Database) -> None:
        self.in_flight = InFlight()
        self.buffer = Buffer(on_low=lambda: None)
        self.buffer.idle = JOBS
        self.producer, self.releaser, _ = producing(
            db, self.buffer, self.in_flight, worker_id=ME, concurrency=JOBS, lease_s=60
        )
        self.completer = Completer(
            database=db,
            in_flight=self.in_flight,
            emit=lambda _: None,
            worker_id=ME,
            backoff=Backoff(),
            remove_completed=False,
            wake=lambda: None,
        )

    def prepare(self, conn: Connection) -> None:
        for _ in range(JOBS):
            make_job(conn)

    def lease(self) -> list[Held]:
        while len(self.in_flight) < JOBS:
            persistently(self.producer.tick)
        return self.in_flight.all()


class LeaseAndSettle(Running):
    """No attempt is used up by an answer that was lost, and each run has one execution row."""

    def act(self, db: Database) -> None:
        self.parts(db)
        for held in self.lease():
            now = time.monotonic()
            self.completer.settle(held, settle_result(held.job, None, now, now))
        while self.completer.pending:
            persistently(self.completer.tick)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state, attempts FROM _ayb_jobs") == [("completed", 1)] * JOBS
        assert column(conn, "SELECT attempt, outcome FROM _ayb_job_executions") == [(1, "completed")] * JOBS


class LeaseAndRelease(Running):
    """What never started goes back with its attempt; or, where the release was cut, waits for its lease to run out."""

    def act(self, db: Database) -> None:
        self.parts(db)
        held = self.lease()
        persistently(lambda: self.releaser.release(held))

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state, attempts FROM _ayb_jobs") == [("queued", 0)] * JOBS


class Extend(Running):
    def act(self, db: Database) -> None:
        self.parts(db)
        held = self.lease()
        for one in held:
            one.extended -= 500
        persistently(
            LeaseKeeper(database=db, in_flight=self.in_flight, emit=lambda _: None, lease_s=600, wake=lambda: None).tick
        )
        self.kept = not any(one.lost for one in held)

    def judge(self, conn: Connection) -> None:
        assert self.kept
        until = "SELECT lease_until > now() + interval '5 minutes' FROM _ayb_jobs"
        assert column(conn, until) == [True] * JOBS


class Progress(Running):
    def act(self, db: Database) -> None:
        self.parts(db)
        services = ContextServices(database=db, lease_s=60, logger=silent_logger())
        for held in self.lease():
            context = JobContext(held.job, services)
            persistently(partial(context.progress, records_processed=5))

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state, progress->>'records_processed' FROM _ayb_jobs") == [("running", "5")] * JOBS


class Transaction(Running):
    """What a handler does in `ctx.transaction()` is done exactly once, however often it has to run."""

    def prepare(self, conn: Connection) -> None:
        make_job(conn)
        conn.execute("CREATE TABLE IF NOT EXISTS effects (job_id uuid); TRUNCATE effects")

    def act(self, db: Database) -> None:
        self.parts(db)
        services = ContextServices(
            database=db, lease_s=60, logger=silent_logger(), worker_id=ME, settled=self.completer.settled
        )
        for _ in range(TRIES):
            persistently(self.producer.tick)
            self.buffer.take_back()
            ran = [self.run(held, JobContext(held.job, services)) for held in self.in_flight.all()]
            while self.completer.pending:
                persistently(self.completer.tick)
            if any(ran):
                return

    def run(self, held: Held, context: JobContext) -> bool:
        began = time.monotonic()
        try:
            with context.transaction() as conn:
                conn.execute("INSERT INTO effects VALUES (%s)", (held.job.id,))
        except (psycopg.Error, AybJobsError) as error:
            at_once = Backoff(base_s=0, jitter_s=0)
            failed = settle_failure(held.job, str(error), began, time.monotonic(), backoff=at_once, chance=0)
            self.completer.settle(held, failed)
            return False
        return True

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state FROM _ayb_jobs") == ["completed"]
        assert column(conn, "SELECT count(*) FROM effects") == [1]


class Recover(Lifecycle):
    def prepare(self, conn: Connection) -> None:
        for _ in range(JOBS):
            make_job(conn, "running", lease_until=SQL("now() - interval '1 second'"))
        self.conn = conn

    def act(self, db: Database) -> None:
        recoverer = Recoverer(database=db, emit=lambda _: None, backoff=Backoff(), max_crashes=3, lease_s=60)

        def recovered() -> bool:
            persistently(recoverer.tick)
            return column(self.conn, "SELECT count(*) FROM _ayb_jobs WHERE state = 'running'") == [0]

        # A connection that was cut keeps the jobs locked until the server notices.
        eventually(recovered)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state, crashes, attempts FROM _ayb_jobs") == [("queued", 1, 1)] * JOBS
        assert column(conn, "SELECT outcome FROM _ayb_job_executions") == ["lost"] * JOBS


class TakeOver(Lifecycle):
    """A dead peer's jobs are taken over once; its row, of which nobody holds the lifeline, goes."""

    def prepare(self, conn: Connection) -> None:
        conn.execute(
            "INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, guarded)"
            " VALUES ('dead', 'here', 1, '1', 1, '{}', '{}', true)"
        )
        for _ in range(JOBS):
            make_job(conn, "running", worker_id="dead")

    def act(self, db: Database) -> None:
        me = DaemonRecord(id=ME, host="here", pid=1, version="1", concurrency=1, queues=[], types=[])
        keeper = LifelineKeeper(
            database=db,
            url=db.url,
            daemon=me,
            emit=lambda _: None,
            backoff=Backoff(),
            max_crashes=3,
            lease_s=300.0,
            wake=lambda: None,
        )
        with closing(keeper):
            for _ in range(4):
                persistently(keeper.tick)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state, crashes FROM _ayb_jobs") == [("queued", 1)] * JOBS
        assert column(conn, "SELECT id FROM _ayb_job_workers WHERE id = 'dead'") == []


class Tick(Lifecycle):
    def prepare(self, conn: Connection) -> None:
        make_schedule(conn, cron_expr="0 * * * *", next_run_at=SQL("date_trunc('hour', now())"),
                      created_at=SQL("now() - interval '1 day'"), updated_at=SQL("now() - interval '1 day'"))  # fmt: skip
        self.due = column(conn, "SELECT next_run_at FROM _ayb_job_schedules")

    def act(self, db: Database) -> None:
        scheduler = Scheduler(db, lambda _: None, tick_s=60)
        # A connection that was cut keeps the schedule locked until the server notices.
        eventually(lambda: persistently(scheduler.tick) > HELD_ELSEWHERE_S)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT scheduled_for FROM _ayb_jobs") == self.due
        assert column(conn, "SELECT fire_at FROM _ayb_job_fires") == self.due
        assert column(conn, "SELECT next_run_at > now() FROM _ayb_job_schedules") == [True]


class Prune(Lifecycle):
    def prepare(self, conn: Connection) -> None:
        for state in ("completed", "canceled", "failed"):
            make_job(conn, state, created_at=SQL("now() - interval '2 years'"), updated_at=SQL("now() - interval '1 year'"),
                     completed_at=SQL("now() - interval '1 year'"), canceled_at=SQL("now() - interval '1 year'"))  # fmt: skip
        make_job(conn)

    def act(self, db: Database) -> None:
        retention = Retention(completed_h=720, canceled_h=720, failed_h=2160)
        pruner = Pruner(database=db, retention=retention, emit=lambda _: None, stopping=threading.Event())
        persistently(pruner.tick)

    def judge(self, conn: Connection) -> None:
        assert column(conn, "SELECT state FROM _ayb_jobs") == ["queued"]


class Migrate(Lifecycle):
    needs_schema = False

    def act(self, db: Database) -> None:
        def once() -> None:
            with closing(connect(db.url)) as conn:
                migrate(conn)

        persistently(once)

    def judge(self, conn: Connection) -> None:
        assert migrate(conn).migrations == []
        enqueue(conn, NewJob(type="test"))


def column(conn: Connection, query: str) -> list[Any]:
    """Return the rows of a query, each as its value where there is one column."""
    return [row[0] if len(row) == 1 else row for row in conn.execute(query.encode())]


LIFECYCLES: Mapping[str, type[Lifecycle]] = {
    kind.__name__: kind
    for kind in (
        Enqueue,
        EnqueueMany,
        Cancel,
        Retry,
        LeaseAndSettle,
        LeaseAndRelease,
        Extend,
        Progress,
        Transaction,
        Recover,
        TakeOver,
        Tick,
        Prune,
        Migrate,
    )
}
