"""The daemon's parts at work together, on a real database."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import Any, Literal

import psycopg
import pytest
from psycopg import sql

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.config import Api, Retention
from ayb_jobs.daemon import daemon as daemon_module
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import Discard
from ayb_jobs.events import (
    DaemonStopping,
    JobOverran,
    JobsLeased,
    JobsReleased,
    JobsSettled,
    JobsUnclaimable,
    LeasesLost,
    LoopFailed,
    LoopRecovered,
    SettlementRefused,
)
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.job import Lease
from ayb_jobs.model.lifecycle import MAX_ERROR
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.results import Cancel, Result, Snooze
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.queue.leases import Touched, release_jobs
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running

# What is committed survives a crash of the server, as it does in production.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def registry_of(run: Callable[[JobContext], Any], **options: Any) -> Registry:
    registry = Registry()
    registry.handler("test", **options)(run)
    return registry


def job_row(conn: Connection, job_id: str, columns: str) -> Any:
    return conn.execute(
        sql.SQL("SELECT {} FROM _ayb_jobs WHERE id = %s").format(sql.SQL(columns)), (job_id,)
    ).fetchone()


def state_counts(conn: Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in conn.execute("SELECT state, count(*) FROM _ayb_jobs GROUP BY 1")}


def ends_as(conn: Connection, job_id: str, *states: str) -> None:
    eventually(lambda: job_row(conn, job_id, "state")[0] in states)


def raising(error: BaseException) -> Callable[[JobContext], Result]:
    def run(_: JobContext) -> Result:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "state", "error"),
    [
        (lambda _: None, "completed", None),
        (lambda _: 12, "completed", None),
        (lambda _: Snooze(3600), "queued", None),
        (lambda _: Cancel("not needed"), "canceled", "not needed"),
        (raising(Discard("no use")), "failed", "no use"),
        (raising(ValueError("it broke")), "queued", "ValueError: it broke"),
        (raising(SystemExit(3)), "queued", "SystemExit: 3"),
        (raising(KeyboardInterrupt()), "queued", "KeyboardInterrupt"),
        (raising(ValueError("nul \x00 and lone \ud800")), "queued", "ValueError: nul \ufffd and lone ?"),
        (lambda _: -1, "failed", "the handler returned -1; a count of records goes from 0 to"),
        (lambda _: 2**63, "failed", "the handler returned 9223372036854775808; a count of records goes from 0 to"),
        (lambda _: {"to": {1, 2}}, "failed", "what the handler returned cannot be kept: result.to: a set cannot be"),
        (lambda _: "x" * 65535, "failed", "what the handler returned cannot be kept: result has 65537 bytes; at most"),
        (lambda _: Snooze(1e300), "queued", "Snooze(1e+300) cannot be"),
        (lambda _: Cancel(5), "queued", "Cancel(5) gives no reason"),  # type: ignore[arg-type] # that is the point
    ],
)
def test_a_handlers_ending_decides(
    database_url: str, conn: Connection, run: Callable[[JobContext], Any], state: str, error: str | None
) -> None:
    job_id = make_job(conn)
    with running(database_url, registry_of(run)):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_executions").fetchone())
        found = job_row(conn, job_id, "state, last_error")
    assert found[0] == state
    assert (found[1] or "").startswith(error or "")
    assert bool(found[1]) == bool(error)


def loops_alive() -> set[str]:
    return {thread.name for thread in threading.enumerate()} & {"heartbeat", "lifeline", "recoverer", "notifier"}


def test_a_daemon_looks_for_jobs_before_other_loops_start(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: not loops_alive())  # those of earlier tests
    monkeypatch.setattr(daemon_module, "FIRST_LOOK_S", 60.0)
    alive: list[set[str]] = []
    registry = registry_of(lambda _: None)
    monkeypatch.setattr(Heartbeat, "announce", lambda _: alive.append(loops_alive()))
    make_job(conn)
    with running(database_url, registry) as run:
        assert run.recorder.of(JobsLeased)
        eventually(lambda: len(loops_alive()) == 4)
    assert alive == [set()]


def test_the_other_loops_start_although_the_first_look_hangs(database_url: str, conn: Connection) -> None:
    eventually(lambda: not loops_alive())
    with ExitStack() as stack, conn.transaction():
        conn.execute("LOCK TABLE _ayb_jobs IN ACCESS EXCLUSIVE MODE")
        run = stack.enter_context(running(database_url, registry_of(lambda _: None)))
        eventually(lambda: len(loops_alive()) == 4)
        assert not run.recorder.of(JobsLeased)


def test_an_error_tells_where_it_came_from(database_url: str, conn: Connection) -> None:
    def fragile(_: JobContext) -> None:
        raise ValueError("look here")

    job_id = make_job(conn, max_attempts=1)
    with running(database_url, registry_of(fragile)):
        ends_as(conn, job_id, "failed")
    (error,) = job_row(conn, job_id, "last_error")
    assert error.startswith("ValueError: look here\n")
    assert "in fragile" in error


SECRET = "canary-0123456789"
# A long error is cut in the middle. Here a secret stands across the end of its head, and one across its tail.
FILLED = "x" * (MAX_ERROR // 2 - 8)
LONG = f"{FILLED}{SECRET}{'y' * MAX_ERROR}{SECRET}{FILLED}"
LONGER = f"{FILLED}{SECRET}{'y' * 20 * MAX_ERROR}{SECRET}{FILLED}"


@pytest.mark.parametrize(
    "run",
    [
        raising(ValueError(f"no {SECRET}")),
        raising(Discard(SECRET)),
        lambda _: Cancel(f"for {SECRET}"),
        raising(Discard(LONG)),
        raising(Discard(LONGER)),
        lambda _: Cancel(LONG),
    ],
)
def test_no_configured_secret_is_stored_with_an_error(
    database_url: str, conn: Connection, run: Callable[[JobContext], Any]
) -> None:
    job_id = make_job(conn)
    with running(database_url, registry_of(run), api=Api(admin_token=SECRET)):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_executions").fetchone())
    (kept,) = job_row(conn, job_id, "last_error")
    (recorded,) = conn.execute("SELECT error FROM _ayb_job_executions").fetchone() or ("",)
    for error in (kept, recorded):
        assert not [at for at in range(len(SECRET) - 5) if SECRET[at : at + 6] in error]
        assert "***" in error


TOO_LONG = sql.SQL("('{\"n\": ' || repeat('9', 5000) || '}')::jsonb")
# Python 3.13 decodes what earlier ones do not.
TOO_DEEP = [sql.SQL("(repeat('[', 5000) || repeat(']', 5000))::jsonb")] if sys.version_info < (3, 13) else []


@pytest.mark.parametrize("payload", [TOO_LONG, *TOO_DEEP])
def test_a_payload_that_cannot_be_decoded_fails_its_own_job_alone(
    database_url: str, conn: Connection, payload: sql.SQL
) -> None:
    good = [make_job(conn) for _ in range(3)]
    bad = make_job(conn, payload=payload)
    with running(database_url, registry_of(lambda _: None)):
        ends_as(conn, bad, "failed")
        for job_id in good:
            ends_as(conn, job_id, "completed")
    attempts, error = job_row(conn, bad, "attempts, last_error")
    assert attempts == 1
    assert error.startswith("the payload cannot be decoded")


def test_an_ending_that_the_database_refuses_holds_up_no_other(database_url: str, conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_executions ADD CHECK (records_processed <> 13)")
    with running(database_url, registry_of(lambda ctx: ctx.payload["n"])) as daemon:
        ids = [make_job(conn, payload={"n": number}) for number in range(30)]
        for number, job_id in enumerate(ids):
            if number != 13:
                ends_as(conn, job_id, "completed")
        eventually(lambda: "refused to store" in (job_row(conn, ids[13], "last_error")[0] or ""))
        assert not daemon.recorder.of(SettlementRefused)


def test_an_ending_that_is_refused_altogether_is_left_to_recovery(database_url: str, conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_executions ADD CHECK (job_type <> 'test')")
    job_id = make_job(conn)
    with running(database_url, registry_of(lambda _: None)) as daemon:
        eventually(lambda: daemon.recorder.of(SettlementRefused))
    assert job_row(conn, job_id, "state") == ("running",)


def test_unknown_types_wait_uncounted_and_are_told(database_url: str, conn: Connection) -> None:
    unknown = make_job(conn, type="unknown")
    known = make_job(conn)
    with running(database_url, registry_of(lambda _: None)) as daemon:
        ends_as(conn, known, "completed")
        eventually(lambda: [event.counts for event in daemon.recorder.of(JobsUnclaimable)] == [{"unknown": 1}])
    assert job_row(conn, unknown, "state, attempts") == ("queued", 0)


def test_a_busy_daemon_tells_of_jobs_that_wait_for_another_as_soon_as_an_idle_one(
    database_url: str, conn: Connection
) -> None:
    end = threading.Event()
    jobs = [make_job(conn) for _ in range(20)]
    make_job(conn, queue="exports")
    try:
        with running(database_url, registry_of(lambda _: end.wait(30)), worker_concurrency=1) as daemon:
            eventually(lambda: job_row(conn, jobs[0], "state") == ("running",))
            (told,) = eventually(lambda: daemon.recorder.of(JobsUnclaimable))
            assert (told.counts, told.queues) == ({}, {"exports": 1})
            assert daemon.recorder.of(JobsSettled) == []
            end.set()
    finally:
        end.set()


def test_a_plain_insert_is_found_by_polling(database_url: str, conn: Connection) -> None:
    with running(database_url, registry_of(lambda _: None), notify=False, poll_interval_ms=50):
        job_id = make_job(conn)
        ends_as(conn, job_id, "completed")


def test_a_notification_wakes_an_idle_daemon(database_url: str, conn: Connection) -> None:
    with running(database_url, registry_of(lambda _: None), poll_interval_ms=3_600_000):
        first = enqueue(conn, NewJob(type="test")).id
        ends_as(conn, first, "completed")
        second = enqueue(conn, NewJob(type="test")).id
        ends_as(conn, second, "completed")


def test_no_more_handlers_run_at_once_than_allowed(database_url: str, conn: Connection) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def count(_: JobContext) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    for _ in range(40):
        make_job(conn)
    with running(database_url, registry_of(count), worker_concurrency=3):
        eventually(lambda: conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'").fetchone() == (40,))
    assert most == 3


def test_a_job_longer_than_its_lease_runs_once(database_url: str, conn: Connection) -> None:
    runs: list[str] = []

    def long(ctx: JobContext) -> None:
        runs.append(ctx.job.id)
        time.sleep(3)

    job_id = make_job(conn)
    with running(database_url, registry_of(long), lease_duration_s=1):
        ends_as(conn, job_id, "completed")
    assert len(runs) == 1
    assert job_row(conn, job_id, "crashes, attempts") == (0, 1)


def test_a_handler_is_told_that_its_lease_is_lost_and_its_outcome_is_thrown_away(
    database_url: str, conn: Connection
) -> None:
    reasons: list[str | None] = []

    def patient(ctx: JobContext) -> int:
        ctx.stopping.wait(10)
        reasons.append(ctx.stop_reason)
        return 99

    job_id = make_job(conn)
    with running(database_url, registry_of(patient), lease_duration_s=1) as daemon:
        ends_as(conn, job_id, "running")
        taken = "UPDATE _ayb_jobs SET lease_id = gen_random_uuid(), lease_until = now() + interval '1 hour'"
        conn.execute(taken)
        eventually(lambda: [event for event in daemon.recorder.of(LeasesLost) if event.during == "extend"])
        eventually(lambda: reasons == ["lease_lost"])
    assert job_row(conn, job_id, "state") == ("running",)
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (0,)


def test_a_handler_past_its_timeout_is_told_and_its_attempt_fails(database_url: str, conn: Connection) -> None:
    def obedient(ctx: JobContext) -> None:
        ctx.stopping.wait(10)
        ctx.check()

    job_id = make_job(conn, max_attempts=1)
    with running(database_url, registry_of(obedient, timeout_s=0.2)) as daemon:
        ends_as(conn, job_id, "failed")
        assert [event.abandoned for event in daemon.recorder.of(JobOverran)] == [False]
    assert conn.execute("SELECT outcome FROM _ayb_job_executions").fetchall() == [("timed_out",)]


def test_a_handler_that_ignores_its_timeout_is_abandoned(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.daemon.build.stopping_s", lambda *_: 0.3)
    release = threading.Event()
    job_id = make_job(conn, max_attempts=1, timeout_s=0.2)
    with running(database_url, registry_of(lambda _: release.wait(30) and None)):
        ends_as(conn, job_id, "failed")
        assert job_row(conn, job_id, "last_error")[0].startswith("timed out after 0.2 s")
        release.set()
    assert conn.execute("SELECT outcome FROM _ayb_job_executions").fetchall() == [("timed_out",)]


def test_progress_of_a_failed_attempt_is_kept(database_url: str, conn: Connection) -> None:
    def half_way(ctx: JobContext) -> None:
        ctx.progress(5, "half way")
        raise ValueError("no further")

    make_job(conn)
    with running(database_url, registry_of(half_way)):
        eventually(lambda: conn.execute("SELECT 1 FROM _ayb_job_executions").fetchone())
    assert conn.execute("SELECT outcome, records_processed FROM _ayb_job_executions").fetchall() == [("failed", 5)]


def test_stopping_gives_back_what_never_started_and_what_ends_early(database_url: str, conn: Connection) -> None:
    begun = threading.Event()

    def obedient(ctx: JobContext) -> None:
        begun.set()
        ctx.stopping.wait(10)
        ctx.check()

    for _ in range(20):
        make_job(conn)
    with running(database_url, registry_of(obedient), worker_concurrency=2) as daemon:
        assert begun.wait(10)
        assert daemon.daemon.stop() == 0
    assert conn.execute("SELECT DISTINCT state, attempts FROM _ayb_jobs").fetchall() == [("queued", 0)]
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (0,)


@pytest.mark.parametrize("fails_first", [False, True])
def test_stopping_gives_back_what_was_leased_ahead(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, *, fails_first: bool
) -> None:
    if fails_first:
        monkeypatch.setattr("ayb_jobs.runtime.jobs.releaser.release_jobs", failing_once())
    release, slow = threading.Event(), threading.Event()

    def suddenly_slow(_: JobContext) -> None:
        if slow.is_set():
            release.wait(30)

    with running(database_url, registry_of(suddenly_slow), worker_concurrency=1) as daemon:
        for _ in range(200):
            make_job(conn)
        enqueue(conn, NewJob(type="test"))
        eventually(lambda: state_counts(conn) == {"completed": 201})
        slow.set()
        with conn.transaction():
            for _ in range(50):
                make_job(conn)
            enqueue(conn, NewJob(type="test"))
        eventually(lambda: state_counts(conn).get("running", 0) > 1)
        stopping = threading.Thread(target=daemon.daemon.stop)
        stopping.start()
        eventually(lambda: daemon.recorder.of(JobsReleased))
        release.set()
        stopping.join(20)
    assert "running" not in state_counts(conn)
    assert conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs WHERE state = 'queued'").fetchall() in ([(0,)], [])


def failing_once() -> Callable[..., Touched]:
    """Return `release_jobs` as it is while the database fails over."""
    failures = iter([psycopg.OperationalError("the connection was cut")])

    def release(conn: Connection, leases: Sequence[Lease]) -> Touched:
        for failure in failures:
            raise failure
        return release_jobs(conn, leases)

    return release


def test_stopping_writes_every_ending(database_url: str, conn: Connection) -> None:
    job_ids = [make_job(conn), make_job(conn, payload={"later": True})]
    releases = {False: threading.Event(), True: threading.Event()}

    def wait(ctx: JobContext) -> None:
        releases["later" in ctx.payload].wait(30)

    with running(database_url, registry_of(wait)) as daemon, connect(database_url) as other:
        eventually(lambda: state_counts(conn) == {"running": 2})
        with other.transaction():
            other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (job_ids[0],))
            releases[False].set()
            eventually(lambda: conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
            releases[True].set()
            stopping = threading.Thread(target=daemon.daemon.stop)
            stopping.start()
            eventually(lambda: daemon.recorder.of(DaemonStopping))
            time.sleep(0.5)  # the stop is under way, and waits for the completer
        stopping.join(20)
    assert state_counts(conn) == {"completed": 2}


def test_stopping_waits_for_what_runs(database_url: str, conn: Connection) -> None:
    begun = threading.Event()

    def stubborn(_: JobContext) -> None:
        begun.set()
        time.sleep(0.5)

    job_id = make_job(conn)
    with running(database_url, registry_of(stubborn)) as daemon:
        assert begun.wait(10)
        assert daemon.daemon.stop() == 0
    assert job_row(conn, job_id, "state, attempts") == ("completed", 1)


def test_a_handler_that_runs_on_keeps_its_lease(database_url: str, conn: Connection) -> None:
    begun, release = threading.Event(), threading.Event()

    def deaf(_: JobContext) -> None:
        begun.set()
        release.wait(30)

    job_id = make_job(conn)
    with running(database_url, registry_of(deaf), shutdown_timeout_s=0.2) as daemon:
        assert begun.wait(10)
        assert daemon.daemon.stop() == 1
    assert job_row(conn, job_id, "state, attempts") == ("running", 1)
    release.set()


def test_what_was_leased_too_early_is_given_back(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.runtime.jobs.releaser.STALE_S", 0.3)
    release = threading.Event()
    slow = threading.Event()

    def suddenly_slow(_: JobContext) -> None:
        if slow.is_set():
            release.wait(30)

    with running(database_url, registry_of(suddenly_slow), worker_concurrency=1, poll_interval_ms=50) as daemon:
        for _ in range(200):
            make_job(conn)
        eventually(
            lambda: conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'").fetchone() == (200,)
        )
        slow.set()
        with conn.transaction():
            for _ in range(50):
                make_job(conn)
        eventually(lambda: daemon.recorder.of(JobsReleased))
        eventually(lambda: conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'running'").fetchone() == (1,))
        release.set()
        eventually(
            lambda: conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'").fetchone() == (250,)
        )
    assert conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs").fetchall() == [(1,)]


def test_completed_jobs_are_removed_at_once_where_retention_says_so(database_url: str, conn: Connection) -> None:
    make_job(conn)
    with running(database_url, registry_of(lambda _: 3), retention=Retention(completed_h=0)):
        eventually(lambda: conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,))
    assert conn.execute("SELECT outcome, records_processed FROM _ayb_job_executions").fetchall() == [("completed", 3)]


def test_retention_removes_what_is_old_and_nothing_else(database_url: str, conn: Connection) -> None:
    old = {"created_at": "2020-01-01", "updated_at": "2020-01-01"}
    gone = [
        make_job(conn, "completed", completed_at="2020-01-01", **old),
        make_job(conn, "canceled", canceled_at="2020-01-01", **old),
        make_job(conn, "failed", **old),
    ]
    kept = [
        make_job(conn, "completed", created_at="2020-01-01"),
        make_job(conn, "queued", run_at=sql.SQL("now() + interval '1 day'"), **old),
        make_job(conn, "failed"),
    ]
    asked_for = Retention(completed_h=720, canceled_h=720, failed_h=2160)  # so that no notice is due
    with running(database_url, registry_of(lambda _: None), retention=asked_for):
        eventually(lambda: conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (len(kept),))
    assert {row[0] for row in conn.execute("SELECT id FROM _ayb_jobs")} == set(kept)
    assert set(kept).isdisjoint(gone)


def restart_under_load(server: EmbeddedPostgres, done: list[str], mode: Literal["immediate", "fast"]) -> None:
    """Restart the server while ten jobs run, and wait until all are completed."""
    with closing(connect(server.url())) as conn:
        wanted = {make_job(conn) for _ in range(10)}
    eventually(lambda: len(set(done) & wanted) > 1)
    server.restart(mode)
    with closing(connect(server.url())) as conn:
        left = "SELECT count(*) FROM _ayb_jobs WHERE state <> 'completed'"
        eventually(lambda: conn.execute(left).fetchone() == (0,), within_s=20)


@pytest.mark.outer
def test_the_daemon_outlives_restarts_of_the_database() -> None:
    done: list[str] = []

    def slow(ctx: JobContext) -> None:
        time.sleep(0.2)
        done.append(ctx.job.id)

    with EmbeddedPostgres.throwaway(settings=DURABLE) as server:
        with closing(connect(server.url())) as conn:
            migrate(conn)
        with running(server.url(), registry_of(slow), worker_concurrency=2) as daemon:
            restart_under_load(server, done, "immediate")
            restart_under_load(server, done, "fast")
            failing = {event.loop for event in daemon.recorder.of(LoopFailed)}
            eventually(lambda: {event.loop for event in daemon.recorder.of(LoopRecovered)} >= failing - {"pruner"})
    assert len(done) == len(set(done)) == 20


def test_delayed_jobs_run_when_due(database_url: str, conn: Connection) -> None:
    with running(database_url, registry_of(lambda _: None), poll_interval_ms=50):
        job_id = enqueue(conn, NewJob(type="test", delay=timedelta(seconds=1))).id
        ends_as(conn, job_id, "completed")
    (early,) = job_row(conn, job_id, "last_run_at < run_at")
    assert early is False
