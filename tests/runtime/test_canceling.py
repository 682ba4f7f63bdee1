"""A running job that is asked to end canceled: its handler is told, and whatever it does, the job ends so."""

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.errors import QueryCanceled

from ayb_jobs.errors import Conflict, Stopped
from ayb_jobs.events import JobsCanceled, JobsSettled, LeasesLost
from ayb_jobs.handlers import statements
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.kinds.exec import ExecSettings, exec_handler
from ayb_jobs.handlers.kinds.sql import SqlSettings, sql_handler
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import Outcome, settle_canceled, settle_result
from ayb_jobs.model.results import Cancel, Snooze
from ayb_jobs.operations import bulk
from ayb_jobs.operations import jobs as operations
from ayb_jobs.operations.acting import Actor
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.lease_keeper import LeaseKeeper
from ayb_jobs.runtime.jobs.releaser import Released, release_each, tell_released
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.waits import list_waiting
from ayb_jobs.storage.queue.canceling import cancel_running_job, end_canceled, extend_canceled
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leases import Touched
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.left_out import find_locked
from ayb_jobs.storage.queue.recovery import find_expired_leases
from ayb_jobs.storage.queue.settling import settle_jobs
from ayb_jobs.storage.work_transaction import cancel_statement
from tests.acceptance.processes import daemon
from tests.daemon.test_daemon import registry_of
from tests.eventually import eventually
from tests.factories import make_job
from tests.handlers.kinds.test_http import server_that, types
from tests.pgbouncer import PgBouncer
from tests.recovering import end, recover, take_over
from tests.running import Running, running
from tests.runtime.executors import isolated_jobs

NOBODY = "01890000-0000-4000-8000-00000000000a"
ACTOR = Actor(name="ada")


def row(conn: Connection, job_id: str, columns: str) -> Any:
    asked = sql.SQL("SELECT {} FROM _ayb_jobs WHERE id = %s").format(sql.SQL(columns))
    return conn.execute(asked, (job_id,)).fetchone()


def attempts(conn: Connection, job_id: str) -> list[Any]:
    asked = "SELECT outcome, error, worker_id FROM _ayb_job_executions WHERE job_id = %s ORDER BY id"
    return conn.execute(asked, (job_id,)).fetchall()


def is_canceled(conn: Connection, job_id: str) -> bool:
    return bool(row(conn, job_id, "state")[0] == "canceled")


def ask(conn: Connection, job_id: str) -> None:
    operations.cancel(conn, job_id, actor=ACTOR, running=True)


def ends_canceled(
    url: str, conn: Connection, registry: Registry, began: Callable[[], object], **settings: Any
) -> tuple[str, Running]:
    """Run a job, cancel it once its handler began, and return the error of its one attempt, and the daemon."""
    job_id = make_job(conn, max_attempts=5)
    with running(url, registry, **settings) as daemon:
        eventually(began, within_s=30)
        ask(conn, job_id)
        eventually(lambda: is_canceled(conn, job_id))
        found = row(
            conn, job_id, "cancel_heard_at >= cancel_requested_at, canceled_at IS NOT NULL, lease_until, worker_id"
        )
        assert found == (True, True, None, None)
        assert daemon.recorder.of(LeasesLost) == []
    [(outcome, error, worker_id)] = attempts(conn, job_id)
    assert (outcome, worker_id is not None) == ("canceled", True)
    return error, daemon


def test_a_handler_in_a_thread_is_told_and_its_job_ends_canceled(database_url: str, conn: Connection) -> None:
    began, seen = threading.Event(), []

    def run(ctx: JobContext) -> None:
        began.set()
        ctx.stopping.wait(20)
        seen.append((ctx.canceled, ctx.stop_reason))
        ctx.records_processed = 3
        ctx.check()

    error, daemon = ends_canceled(database_url, conn, registry_of(run), began.is_set)
    assert error == "canceled while it ran"
    assert seen == [(True, "canceled")]
    [ending] = [one for event in daemon.recorder.of(JobsSettled) for one in event.settlements]
    assert (ending.outcome, ending.records) == (Outcome.CANCELED, 3)


def test_an_async_handler_is_canceled(database_url: str, conn: Connection) -> None:
    began = threading.Event()

    async def run(ctx: AsyncJobContext) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            assert ctx.canceled

    registry = Registry()
    registry.handler("test")(run)
    error, _ = ends_canceled(database_url, conn, registry, began.is_set)
    assert error == "canceled while it ran"


def test_a_command_gets_sigterm_and_then_sigkill(database_url: str, conn: Connection, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"trap 'echo asked' TERM; touch {begun}; while :; do sleep 60; done"
    handler = exec_handler(ExecSettings(exec=["/bin/sh", "-c", script], grace_s=0.3))
    error, _ = ends_canceled(database_url, conn, registry_of(handler), begun.exists)
    assert error.startswith("canceled while it ran: the command was killed by SIGKILL")
    assert conn.execute("SELECT output FROM _ayb_job_outputs").fetchone() == ("Terminated\nasked\n",)


def sleeps(conn: Connection) -> bool:
    asked = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active' AND datname = %s"
    return conn.execute(asked, (conn.info.dbname,)).fetchone() is not None


@pytest.mark.parametrize("together", [True, False])
def test_a_statement_is_canceled(database_url: str, conn: Connection, together: bool) -> None:
    handler = sql_handler(SqlSettings(statements=["SELECT pg_sleep(60)"], transaction=together))

    def sleeps() -> bool:
        asked = (
            "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active' AND datname = %s"
        )
        return conn.execute(asked, (conn.info.dbname,)).fetchone() is not None

    error, _ = ends_canceled(database_url, conn, registry_of(handler), sleeps)
    assert "canceling statement due to user request" in error
    assert not sleeps()


ENDINGS: Sequence[tuple[Callable[[], Any], str]] = [
    (lambda: None, "canceled while it ran; its handler came to its end all the same"),
    (lambda: {"a": "result"}, "canceled while it ran; its handler came to its end all the same"),
    (lambda: Snooze(0), "canceled while it ran"),
    (lambda: Cancel("by itself"), "by itself"),
    (lambda: 1 / 0, "canceled while it ran: "),
]


@pytest.mark.parametrize(("end", "error"), ENDINGS)
def test_whatever_comes_of_the_attempt_the_job_ends_canceled(
    database_url: str, conn: Connection, end: Callable[[], Any], error: str
) -> None:
    began = threading.Event()

    def deaf(ctx: JobContext) -> Any:
        began.set()
        ctx.stopping.wait(20)
        return end()

    told, _ = ends_canceled(database_url, conn, registry_of(deaf), began.is_set)
    assert told.startswith(error)
    assert conn.execute("SELECT count(*) FROM _ayb_job_results").fetchone() == (0,)


def test_what_the_handler_writes_after_the_request_is_refused(database_url: str, conn: Connection) -> None:
    """The transaction that would complete the job, progress and steps: each raises, and the block is rolled back."""
    conn.execute("CREATE TABLE done (what text)")
    began, refused = threading.Event(), []

    def run(ctx: JobContext) -> None:
        began.set()
        ctx.stopping.wait(20)
        for write in (in_a_transaction, lambda one: one.progress(1), lambda one: one.keep_step("a", 1)):
            try:
                write(ctx)
            except Stopped as error:
                refused.append(error.reason)

    def in_a_transaction(ctx: JobContext) -> None:
        with ctx.transaction() as ours:
            ours.execute("INSERT INTO done VALUES ('work')")

    ends_canceled(database_url, conn, registry_of(run), began.is_set)
    assert refused == ["canceled"] * 3
    assert conn.execute("SELECT count(*) FROM done").fetchone() == (0,)


def test_a_job_whose_handler_has_not_begun_never_runs(database_url: str, conn: Connection) -> None:
    ran, go_on = [], threading.Event()

    def run(ctx: JobContext) -> None:
        if ctx.payload != "quick":
            ran.append(ctx.job.id)
            go_on.wait(20)

    with conn.transaction():  # quick ones come first, so that jobs are leased ahead, many at once
        for _ in range(10):
            make_job(conn, priority=1, payload=json.dumps("quick"))
        first, second = make_job(conn, priority=2), make_job(conn, priority=3)
    with running(database_url, registry_of(run), worker_concurrency=1):
        eventually(lambda: ran == [first])
        eventually(lambda: row(conn, second, "state") == ("running",))  # it waits in the buffer
        ask(conn, second)
        eventually(lambda: is_canceled(conn, second))
        go_on.set()
        eventually(lambda: row(conn, first, "state") == ("completed",))
    assert ran == [first]


def test_without_notifications_the_next_extension_tells(database_url: str, conn: Connection) -> None:
    began = threading.Event()

    def run(ctx: JobContext) -> None:
        began.set()
        ctx.stopping.wait(20)
        ctx.check()

    ends_canceled(database_url, conn, registry_of(run), began.is_set, notify=False, lease_duration_s=2)


def test_with_notifications_it_is_told_at_once(database_url: str, conn: Connection) -> None:
    began, told = threading.Event(), []

    def run(ctx: JobContext) -> None:
        began.set()
        ctx.stopping.wait(20)
        told.append(time.monotonic())

    job_id = make_job(conn)
    with running(database_url, registry_of(run), lease_duration_s=60):
        eventually(began.is_set)
        asked = time.monotonic()
        ask(conn, job_id)
        eventually(lambda: is_canceled(conn, job_id))
    assert told[0] - asked < 5


def test_a_second_request_changes_nothing(conn: Connection) -> None:
    job_id = make_job(conn, "running")
    ask(conn, job_id)
    before = row(conn, job_id, "to_jsonb(_ayb_jobs)")
    ask(conn, job_id)
    assert row(conn, job_id, "to_jsonb(_ayb_jobs)") == before
    deeds = conn.execute("SELECT action, target, before ->> 'cancel_requested_at' FROM _ayb_job_audit").fetchall()
    assert deeds == [("job.cancel", job_id, None)]


@pytest.mark.parametrize("state", ["completed", "failed", "canceled"])
def test_what_has_ended_is_not_canceled(conn: Connection, state: str) -> None:
    job_id = make_job(conn, state)
    with pytest.raises(Conflict, match=f"is {state}; only queued and running jobs can be canceled"):
        ask(conn, job_id)
    assert row(conn, job_id, "state, cancel_requested_at") == (state, None)


def leased(conn: Connection) -> LeasedJob:
    make_job(conn)
    lanes = [Lane("default", 2)]
    [job] = lease_jobs(conn, worker_id="w", lanes=lanes, types=["test"], limit=1, lease_s=60)
    return job


def test_the_lease_of_a_canceled_job_whose_handler_has_not_begun_is_extended_until_it_ends(
    db: Database, conn: Connection
) -> None:
    in_flight = InFlight()
    told: list[object] = []
    keeper = LeaseKeeper(database=db, in_flight=in_flight, emit=told.append, lease_s=60.0, wake=lambda: None)
    (held,) = in_flight.add([leased(conn)], 0.0)
    ask(conn, held.job.id)
    keeper.suspect()
    keeper.tick()
    assert (held.canceling, held.lost) == (True, True)
    conn.execute("UPDATE _ayb_jobs SET lease_until = now() + interval '1 second'")
    keeper.suspect()
    keeper.tick()
    assert row(conn, held.job.id, "lease_until > now() + interval '30 seconds'") == (True,)
    conn.execute("UPDATE _ayb_jobs SET canceling_lease_id = gen_random_uuid()")
    keeper.suspect()
    keeper.tick()
    keeper.tick()
    assert [type(event) for event in told] == [LeasesLost]
    assert not len(in_flight)


@pytest.mark.parametrize("request_first", [True, False])
def test_a_request_and_a_completion_at_once_have_one_outcome(
    database_url: str, conn: Connection, request_first: bool
) -> None:
    """Whoever commits first decides; the other one waits for its lock, and sees that."""
    job, answers = leased(conn), []
    done = settle_result(job, None, 0.0, 1.0)

    def complete(own: Connection) -> None:
        written = settle_jobs(own, [done], worker_id="w", now=1.0)
        answers.append("completed" if written.leases else "not completed")

    def request(own: Connection) -> None:
        try:
            cancel_running_job(own, job.id)
        except Conflict as error:
            answers.append(str(error).partition("; ")[0])
        else:
            answers.append("asked")

    def second(own: Connection) -> None:
        (complete if request_first else request)(own)

    with closing(connect(database_url)) as other:
        with conn.transaction():
            (request if request_first else complete)(conn)
            thread = threading.Thread(target=second, args=(other,))
            thread.start()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            eventually(lambda: conn.execute(waits).fetchone() == (1,))
        thread.join(20)
    if request_first:
        assert answers == ["asked", "not completed"]
        canceled = settle_canceled(done)
        for _ in range(2):  # an answer that was lost is made good
            assert end_canceled(conn, [canceled], worker_id="w", now=1.0) == {job.lease_id}
        assert row(conn, job.id, "state, completed_at") == ("canceled", None)
        assert [outcome for outcome, *_ in attempts(conn, job.id)] == ["canceled"]
    else:
        assert answers == ["completed", f"job {job.id} is completed"]
        assert row(conn, job.id, "state, cancel_requested_at") == ("completed", None)
        assert [outcome for outcome, *_ in attempts(conn, job.id)] == ["completed"]


def test_nobody_ends_an_attempt_as_canceled_without_its_lease(conn: Connection) -> None:
    job = leased(conn)
    ask(conn, job.id)
    stale = job._replace(lease_id=NOBODY)
    assert end_canceled(conn, [settle_result(stale, None, 0.0, 1.0)], worker_id="w", now=1.0) == set()
    assert extend_canceled(conn, [stale.lease], lease_s=60) == Touched(frozenset())
    assert row(conn, job.id, "state, cancel_heard_at") == ("running", None)


@pytest.mark.parametrize("lease_until", ["now() - interval '1 s'", "NULL"])
def test_a_job_whose_daemon_is_lost_ends_canceled_and_is_not_queued_again(conn: Connection, lease_until: str) -> None:
    job_id = make_job(conn, "running", lease_until=sql.SQL(lease_until))
    ask(conn, job_id)
    [job] = recover(conn, backoff=Backoff()).jobs
    assert (job.id, job.state) == (job_id, "canceled")
    assert row(conn, job_id, "state, canceled_at IS NOT NULL, canceling_lease_id") == ("canceled", True, None)
    assert attempts(conn, job_id) == [("canceled", "canceled while it ran; lease lost by worker factory", "factory")]


def test_a_job_of_a_daemon_known_to_be_dead_ends_canceled_before_its_lease_does(conn: Connection) -> None:
    job_id = make_job(conn, "running")
    ask(conn, job_id)
    assert [job.state for job in take_over(conn, {"factory": "infinity"}, backoff=Backoff())] == ["canceled"]


def test_what_was_found_lost_before_the_request_is_not_queued_after_it(conn: Connection) -> None:
    job_id = make_job(conn, "running", lease_id=None, lease_until=sql.SQL("now() - interval '1 s'"))
    look = find_expired_leases(conn, limit=10)
    ask(conn, job_id)
    assert end(conn, look.lost, Backoff()) == []
    assert [job.state for job in recover(conn, backoff=Backoff()).jobs] == ["canceled"]


@pytest.mark.parametrize(("silent", "state"), [("1 s", "running"), ("1 h", "canceled")])
def test_force_ends_a_job_whose_daemon_is_gone(conn: Connection, silent: str, state: str) -> None:
    conn.execute(
        """
        INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, heartbeat_at)
        VALUES ('factory', 'h', 1, '1', 1, '{default}', '{test}', now() - %s::interval)
        """,
        (silent,),
    )
    job_id = make_job(conn, "running")
    for _ in range(2):
        assert operations.cancel(conn, job_id, actor=ACTOR, force=True).state == state
        if state == "canceled":
            break
    assert row(conn, job_id, "cancel_requested_at IS NOT NULL") == (True,)
    assert [outcome for outcome, *_ in attempts(conn, job_id)] == (["canceled"] if state == "canceled" else [])


def test_jobs_that_wait_in_the_buffer_end_canceled_when_they_are_given_back(db: Database, conn: Connection) -> None:
    kept, canceled = leased(conn), leased(conn)
    ask(conn, canceled.id)
    aside = Aside(lambda _: None, part="test", table="_ayb_jobs")
    released = release_each(db, [kept.lease, canceled.lease], aside, worker_id="w")
    assert released.done == {kept.lease_id}
    assert row(conn, kept.id, "state, attempts") == ("queued", 0)
    assert row(conn, canceled.id, "state, canceling_lease_id, worker_id") == ("canceled", None, None)
    assert [outcome for outcome, *_ in attempts(conn, canceled.id)] == ["canceled"]


@pytest.mark.parametrize("canceled", [True, False])
def test_a_locked_job_that_is_to_end_canceled_keeps_no_other_waiting_when_jobs_are_given_back(
    db: Database, database_url: str, conn: Connection, canceled: bool
) -> None:
    stuck, free = leased(conn), leased(conn)
    ask(conn, stuck.id)
    if canceled:
        ask(conn, free.id)
    aside = Aside(lambda _: None, part="test", table="_ayb_jobs")
    told: list[Any] = []
    leases = [stuck.lease, free.lease]
    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (stuck.id,))
        released = release_each(db, leases, aside, worker_id="w")
    assert released == Released(
        done=set() if canceled else {free.lease_id}, locked={stuck.lease_id}, refused=set(),
        canceled={free.lease_id} if canceled else set(),
    )  # fmt: skip
    again = release_each(db, leases, aside, worker_id="w")
    tell_released(told.append, leases, again)
    assert stuck.id in told[0].job_ids
    assert isinstance(told[0], JobsCanceled)


def test_a_locked_job_that_is_to_end_canceled_is_found_to_be_locked(database_url: str, conn: Connection) -> None:
    job, free = leased(conn), leased(conn)
    ask(conn, job.id)
    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (job.id,))
        assert find_locked(conn, [job.lease, free.lease]) == {job.lease_id}
    assert find_locked(conn, [job.lease, free.lease]) == set()


def test_a_job_that_is_to_end_canceled_and_lost_its_daemon_is_told_as_lost(conn: Connection) -> None:
    job_id = make_job(conn, "running")
    ask(conn, job_id)
    assert [(group.jobs, group.first_id) for group in list_waiting(conn).first] == [(1, job_id)]


def test_statements_are_canceled_again_after_an_error_of_the_database(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first statement that would cancel is refused, since its connection was ended."""
    refused = threading.Event()

    def cancel(own: Connection, backend: int) -> None:
        if not refused.is_set():
            refused.set()
            own.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        cancel_statement(own, backend)

    monkeypatch.setattr(statements, "cancel_statement", cancel)
    with closing(Database(database_url)) as database, closing(connect(database_url)) as sleeper:
        ending = statements.Ending(database, sleeper.info.backend_pid)
        ending.begin("canceled")
        try:
            with pytest.raises(QueryCanceled, match="user request"):
                sleeper.execute("SET statement_timeout = '20s'; SELECT pg_sleep(60)")
        finally:
            ending.end()
    assert refused.is_set()


def test_an_isolated_handler_that_does_not_listen_is_killed(database_url: str, conn: Connection) -> None:
    conn.execute("CREATE TABLE places (job_id text, pid int)")
    job_id = make_job(conn, type="wait", payload=sql.SQL("'\"deaf\"'"))
    with running(database_url, isolated_jobs.registry, process_concurrency=1):
        eventually(lambda: conn.execute("SELECT pid FROM places").fetchone(), within_s=30)
        ask(conn, job_id)
        eventually(lambda: is_canceled(conn, job_id))
    [(outcome, error, _)] = attempts(conn, job_id)
    assert outcome == "canceled"
    assert "the handler was asked to stop (canceled), and its process was killed" in error


def test_a_request_is_closed(database_url: str, conn: Connection, tmp_path: Path) -> None:
    came, closed = threading.Event(), threading.Event()

    def says_nothing(peer: socket.socket) -> None:
        came.set()
        if not peer.recv(1):
            closed.set()

    with server_that(says_nothing) as server:
        registry = types(tmp_path, test={"http": server.url, "allow_private": True})
        error, _ = ends_canceled(database_url, conn, registry, came.is_set)
        assert closed.wait(10)
    assert error == "canceled while it ran"


def test_behind_a_pooler_the_next_extension_tells_and_the_statement_ends(
    pgbouncer: PgBouncer, database_url: str, conn: Connection
) -> None:
    handler = sql_handler(SqlSettings(statements=["SELECT pg_sleep(60)"]))
    error, _ = ends_canceled(
        pgbouncer.url(database_url), conn, registry_of(handler), lambda: sleeps(conn), lease_duration_s=2
    )
    assert "canceling statement due to user request" in error


def test_a_killed_daemons_job_ends_canceled_by_another(tmp_path: Path, database_url: str, conn: Connection) -> None:
    job_id = make_job(conn, type="deaf")
    with daemon(tmp_path / "a", database_url, lease_duration_s=60) as victim:
        eventually(lambda: row(conn, job_id, "state") == ("running",))
        ask(conn, job_id)
        eventually(lambda: row(conn, job_id, "cancel_heard_at IS NOT NULL") == (True,))
        victim.send(signal.SIGKILL)
        victim.wait()
    with daemon(tmp_path / "b", database_url, lease_duration_s=60) as other:
        other.await_event("daemon.started")
        eventually(lambda: is_canceled(conn, job_id))
        eventually(lambda: [event["job_id"] for event in other.events("job.canceled")] == [job_id])
    [(outcome, error, _)] = attempts(conn, job_id)
    assert (outcome, error.partition(" by ")[0]) == ("canceled", "canceled while it ran; lease lost")


def test_many_are_canceled_by_filter(conn: Connection) -> None:
    wanted, other = make_job(conn, "running", type="a"), make_job(conn, "running", type="b")
    queued = make_job(conn, type="a")

    @contextmanager
    def begin() -> Iterator[Connection]:
        with conn.transaction():
            yield conn

    action, of_a = bulk.BulkAction.CANCEL_RUNNING, Filter(type="a")
    assert bulk.count(conn, action, of_a) == 1
    assert bulk.change(begin, action, of_a, actor=ACTOR) == bulk.Changed(count=1)
    assert bulk.count(conn, action, of_a) == 0
    asked = {
        one: row(conn, one, "cancel_requested_at IS NOT NULL, lease_id IS NULL") for one in (wanted, other, queued)
    }
    assert asked == {wanted: (True, True), other: (False, False), queued: (False, True)}
